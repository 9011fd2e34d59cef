//go:build ignore

// Command reverseproxy is what every figure of bench/proxy.py is measured
// against: net/http's server and httputil.ReverseProxy, with nothing in
// between.
//
//	go run bench/reverseproxy.go ADDRESS UNIX-SOCKET
package main

import (
	"context"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
)

func main() {
	if len(os.Args) != 3 {
		log.Fatal("usage: reverseproxy ADDRESS UNIX-SOCKET")
	}
	target, socket := &url.URL{Scheme: "http", Host: "upstream"}, os.Args[2]
	p := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target); r.Out.Host = r.In.Host; r.SetXForwarded() },
		Transport: &http.Transport{
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return (&net.Dialer{}).DialContext(ctx, "unix", socket)
			},
			MaxIdleConnsPerHost: 64,
		},
	}
	log.Fatal(http.ListenAndServe(os.Args[1], p))
}
