package gateway

import (
	"context"
	"crypto/sha1" //nolint:gosec // RFC 6455 wants it, for no secret
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/dewar-security/dewar/internal/guard"
)

// checkUpgrade reports why a 101 is not the answer to a WebSocket handshake
// (RFC 6455, 4.1). After it the guard sees no more requests, so an app's
// server that can be made to say 101 for another reason would open a way past
// the guard.
func checkUpgrade(r *http.Request, res *http.Response) error {
	asked := r.Header["Upgrade"]
	if len(asked) != 1 || !strings.EqualFold(asked[0], "websocket") {
		return errAnswer("101, and nobody has asked")
	}
	if up := res.Header["Upgrade"]; len(up) != 1 || !strings.EqualFold(up[0], "websocket") {
		return errAnswer(fmt.Sprintf("101 to %q", up))
	}
	if key := r.Header.Get("Sec-Websocket-Key"); key != "" {
		sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11")) //nolint:gosec // see above
		if got := res.Header.Get("Sec-Websocket-Accept"); got != base64.StdEncoding.EncodeToString(sum[:]) {
			return errAnswer("101 that accepts another key")
		}
	}
	return nil
}

// tunnel hands an accepted WebSocket's bytes on until one side ends, or both
// have been silent for too long, or a layer ends it.
func (f *Forwarder) tunnel(w http.ResponseWriter, x *guard.Exchange, up *upstreamConn, res *http.Response, modify func(*http.Response) error) error {
	defer up.end()
	broken := func(err error) error {
		return &guard.UpstreamError{Status: http.StatusBadGateway, Reason: "upstream-broken", Err: err}
	}
	if modify != nil {
		if err := modify(res); err != nil {
			return err
		}
	}
	conn, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return broken(fmt.Errorf("the connection cannot be switched: %w", err))
	}
	defer conn.Close()
	_ = up.Conn.SetDeadline(time.Time{})
	_ = conn.SetDeadline(time.Time{})
	stop := context.AfterFunc(x.Context(), func() {
		_ = conn.Close()
		_ = up.Conn.Close()
	})
	defer stop()

	h := w.Header()
	for name, v := range res.Header {
		h[name] = v
	}
	h["Connection"] = []string{"Upgrade"}
	head := &http.Response{StatusCode: http.StatusSwitchingProtocols, ProtoMajor: 1, ProtoMinor: 1, Header: h}
	if err := head.Write(rw); err != nil {
		return nil
	}
	if err := rw.Flush(); err != nil {
		return nil
	}
	t := &tunnelTime{silence: f.o.Silence}
	t.heard()
	ended := make(chan struct{}, 2)
	go func() { t.pipe(up.Conn, rw.Reader, conn); ended <- struct{}{} }()
	go func() { t.pipe(conn, up.br, up.Conn); ended <- struct{}{} }()
	<-ended
	// A last frame may be on its way: the side that is left has a moment.
	late := time.Now().Add(time.Second)
	_ = conn.SetReadDeadline(late)
	_ = up.Conn.SetReadDeadline(late)
	t.over.Store(true)
	<-ended
	return nil
}

// tunnelTime knows when either side of a tunnel was heard last.
type tunnelTime struct {
	silence time.Duration
	last    atomic.Int64
	over    atomic.Bool
}

func (t *tunnelTime) heard() { t.last.Store(time.Now().UnixNano()) }

// pipe copies from src, whose connection is from, to dst.
func (t *tunnelTime) pipe(dst io.Writer, src io.Reader, from net.Conn) {
	buf := copyBuffers.Get()
	defer copyBuffers.Put(buf)
	for {
		if !t.over.Load() {
			_ = from.SetReadDeadline(time.Unix(0, t.last.Load()).Add(t.silence))
		}
		n, err := src.Read(buf)
		if n > 0 {
			t.heard()
			if _, err := dst.Write(buf[:n]); err != nil {
				return
			}
		}
		var ne net.Error
		switch {
		case err == nil:
		case errors.As(err, &ne) && ne.Timeout() && !t.over.Load() && time.Since(time.Unix(0, t.last.Load())) < t.silence:
			// The other side was heard meanwhile.
		default:
			if c, ok := dst.(interface{ CloseWrite() error }); ok {
				_ = c.CloseWrite()
			}
			return
		}
	}
}
