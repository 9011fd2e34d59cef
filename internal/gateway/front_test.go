package gateway

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"time"
)

// TestShutdownAnswers: a connection that was taken before the end is answered,
// even when its request is read after it has begun.
func TestShutdownAnswers(t *testing.T) {
	g := &Gateway{}
	g.base, g.cancel = context.WithCancel(t.Context())
	defer g.cancel()
	c := testConfig()
	g.cfg.Store(&c)
	g.setHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "answered") }))
	f := g.newFront(c)
	client, server := net.Pipe()
	defer client.Close()
	client.SetDeadline(time.Now().Add(time.Minute))
	if !f.in[0].give(server) {
		t.Fatal("not taken")
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		f.shutdown(t.Context())
	}()
	time.Sleep(50 * time.Millisecond)
	io.WriteString(client, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	res, err := http.ReadResponse(bufio.NewReader(client), nil)
	if err != nil {
		t.Fatalf("hung up: %v", err)
	}
	if b, _ := io.ReadAll(res.Body); string(b) != "answered" || !res.Close {
		t.Errorf("%q, close %v", b, res.Close)
	}
	<-ended
	// One that says nothing holds nobody up for long.
	f = g.newFront(c)
	silent, server := net.Pipe()
	defer silent.Close()
	f.in[0].give(server)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	f.shutdown(ctx) // the test hangs where it waits
}
