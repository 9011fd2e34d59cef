package gateway

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"
)

// recited is a connection whose client sends fixed bytes.
type recited struct {
	net.Conn
	r *bytes.Reader
}

func (c *recited) Read(b []byte) (int, error)      { return c.r.Read(b) }
func (c *recited) SetReadDeadline(time.Time) error { return nil }
func (c *recited) RemoteAddr() net.Addr            { return &net.TCPAddr{IP: net.IPv4(10, 0, 0, 1), Port: 1} }
func (c *recited) LocalAddr() net.Addr             { return &net.TCPAddr{IP: net.IPv4(10, 0, 0, 2), Port: 443} }

// FuzzProxyHeader: whatever comes, what follows the header is handed on byte
// for byte, and a client that was read is one with an address.
func FuzzProxyHeader(f *testing.F) {
	f.Add([]byte("PROXY TCP4 203.0.113.7 198.51.100.1 4711 443\r\nGET / HTTP/1.1\r\n"))
	f.Add([]byte("PROXY UNKNOWN\r\nGET /"))
	f.Add([]byte("\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c\xcb\x00\x71\x07\xc6\x33\x64\x01\x12\x67\x01\xbbGET /"))
	f.Add([]byte("\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00rest"))
	f.Add([]byte("GET / HTTP/1.1\r\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := readProxyHeader(&recited{r: bytes.NewReader(data)}, time.Second)
		if err != nil {
			return
		}
		a, ok := c.RemoteAddr().(*net.TCPAddr)
		if !ok || a.IP == nil {
			t.Fatalf("%q: the client is %v", data, c.RemoteAddr())
		}
		rest, err := io.ReadAll(c)
		if err != nil || !bytes.HasSuffix(data, rest) || len(rest) == len(data) {
			t.Fatalf("%q: left %q, %v", data, rest, err)
		}
	})
}

// TestProxyAtClose: a connection whose header is on its way when the listener
// closes was there before, and is served.
func TestProxyAtClose(t *testing.T) {
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := newProxyListener(tcp, func(netip.Addr) bool { return true }, func() time.Duration { return 10 * time.Second }, func(err error) { t.Log(err) })
	balancer, err := net.Dial("tcp", tcp.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer balancer.Close()
	go func() {
		for len(l.pending) == 0 {
			time.Sleep(time.Millisecond)
		}
		l.Close()
		time.Sleep(50 * time.Millisecond)
		io.WriteString(balancer, "PROXY TCP4 203.0.113.7 198.51.100.1 4711 443\r\n")
	}()
	c, err := l.Accept()
	if err != nil {
		t.Fatalf("it was dropped: %v", err)
	}
	defer c.Close()
	if got := c.RemoteAddr().String(); got != "203.0.113.7:4711" {
		t.Errorf("the client is %s", got)
	}
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("and then: %v", err)
	}
}
