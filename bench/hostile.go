//go:build ignore

// Hostile measures what slow clients do to others: the latency of GETs while
// nothing else happens and beside 100 POSTs that never end, and the memory of
// the process under thousands of clients that never finish a head or a body.
// Everything is bounded in number and time, and stays on loopback.
//
//	go run bench/hostile.go -url http://127.0.0.1:8080/ -pid PID [-clients 10000]
package main

import (
	"crypto/tls"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"
)

func main() {
	address := flag.String("url", "", "an address of the site that answers 200")
	pid := flag.Int("pid", 0, "the process whose memory is read")
	clients := flag.Int("clients", 10000, "slow clients of each kind")
	gets := flag.Int("gets", 400, "GETs for each latency")
	flag.Parse()
	u, err := url.Parse(*address)
	if err != nil || u.Host == "" {
		fmt.Fprintln(os.Stderr, "hostile: -url is no address")
		os.Exit(2)
	}
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	latency := func(what string) (p50, p99 time.Duration) {
		var all []time.Duration
		failed := 0
		for range *gets {
			start := time.Now()
			res, err := client.Get(*address)
			if err != nil {
				failed++
				continue
			}
			io.Copy(io.Discard, res.Body)
			res.Body.Close()
			if res.StatusCode != 200 {
				failed++
			}
			all = append(all, time.Since(start))
		}
		if len(all) == 0 {
			fmt.Printf("%-34s no answer at all\n", what)
			return 0, 0
		}
		slices.Sort(all)
		p50, p99 = all[len(all)/2], all[len(all)*99/100]
		fmt.Printf("%-34s p50 %8v  p99 %8v  %d of %d failed\n", what, p50.Round(10*time.Microsecond), p99.Round(10*time.Microsecond), failed, *gets)
		return p50, p99
	}
	dial := func() net.Conn {
		d := net.Dialer{Timeout: 5 * time.Second}
		if u.Scheme == "https" {
			c, err := tls.DialWithDialer(&d, "tcp", u.Host, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}})
			if err != nil {
				return nil
			}
			return c
		}
		c, err := d.Dial("tcp", u.Host)
		if err != nil {
			return nil
		}
		return c
	}
	// Requests of our own site: not one of them is refused for what it is.
	head := "POST " + u.RequestURI() + " HTTP/1.1\r\nHost: " + u.Host + "\r\nOrigin: " + u.Scheme + "://" + u.Host + "\r\nContent-Type: text/plain\r\n"
	open := func(n int, first string) (conns []net.Conn) {
		for range n {
			c := dial()
			if c == nil {
				continue
			}
			io.WriteString(c, first)
			conns = append(conns, c)
		}
		return conns
	}
	end := func(conns []net.Conn) {
		for _, c := range conns {
			c.Close()
		}
	}

	latency("warming up")
	p50, p99 := latency("idle")
	slow := open(100, head+"Content-Length: 100000\r\n\r\nhello")
	slowP50, slowP99 := latency("beside 100 slow POSTs")
	if p50 > 0 {
		fmt.Printf("%-34s p50 × %.2f       p99 × %.2f\n", "", float64(slowP50)/float64(p50), float64(slowP99)/float64(p99))
	}
	end(slow)

	memory("memory before", *pid)
	for _, kind := range []struct{ name, first string }{
		{"silent", ""},
		{"half a head", "GET / HTTP/1.1\r\nHost: " + u.Host + "\r\nX: "},
		{"half a body", head + "Content-Length: 1000000\r\n\r\n" + strings.Repeat("x", 8000)},
		{"half a chunked body", head + "Transfer-Encoding: chunked\r\n\r\n1f40\r\n" + strings.Repeat("x", 8000)},
	} {
		conns := open(*clients, kind.first)
		time.Sleep(time.Second)
		memory(fmt.Sprintf("%d × %s", len(conns), kind.name), *pid)
		latency("beside them")
		end(conns)
		time.Sleep(2 * time.Second)
	}
}

// memory prints the resident set of a process, now and at its highest.
func memory(what string, pid int) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return
	}
	var now, most string
	for line := range strings.SplitSeq(string(b), "\n") {
		if v, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			now = strings.TrimSpace(v)
		}
		if v, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			most = strings.TrimSpace(v)
		}
	}
	fmt.Printf("%-34s resident %s, at most %s\n", what, now, most)
}
