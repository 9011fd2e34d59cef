package wire

import (
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"net"
	"sync/atomic"
	"time"
)

// Frame types of HTTP/2 (RFC 9113 section 6) that cost the server more than
// the client when they come in floods.
const (
	frameData         = 0x0
	frameHeaders      = 0x1
	frameReset        = 0x3
	frameWindowUpdate = 0x8
	frameContinuation = 0x9

	flagEnd = 0x1

	preface        = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
	prefaceLen     = len(preface)
	frameHeaderLen = 9
)

// badPreface is an empty SETTINGS frame and GOAWAY with PROTOCOL_ERROR.
var badPreface = []byte{0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1}

// flood is one kind of frame, and how many of them a connection may send: a
// burst, and so many a second.
type flood struct {
	name   string
	burst  float64
	rate   float64
	level  float64
	filled time.Time
}

func (f *flood) take(now time.Time) bool {
	if f.filled.IsZero() {
		f.level = f.burst
	} else if d := now.Sub(f.filled); d > 0 {
		f.level = min(f.burst, f.level+d.Seconds()*f.rate)
	}
	f.filled = now
	f.level--
	return f.level >= 0
}

// Stream is a client's HTTP/2 connection inside TLS, with its frames counted:
// net/http bounds streams, header lists and its own queue of answers, but
// answers rapid resets (CVE-2023-44487), PING and SETTINGS floods and empty
// DATA frames (CVE-2019-9512, 9515, 9518) for as long as they come.
type Stream struct {
	net.Conn
	tls    *tls.ConnectionState
	report func(*Fault)
	now    func() time.Time

	first []byte // read while the connection was waiting for its preface

	head [frameHeaderLen]byte
	have int   // bytes of head
	left int64 // bytes of payload, or of the preface

	continued int
	resets    flood
	control   flood
	updates   flood
	empty     flood

	broken atomic.Pointer[Fault]

	onClose func()
}

// maxContinuations is how many CONTINUATION frames one header block may have
// (CVE-2024-27316): MaxHeaderListSize fits into three.
const maxContinuations = 8

func newStream(c net.Conn, report func(*Fault)) *Stream {
	return &Stream{
		Conn: c, report: report, now: time.Now, left: int64(prefaceLen),
		resets:  flood{name: "RST_STREAM", burst: 200, rate: 20},
		control: flood{name: "control", burst: 200, rate: 10},
		updates: flood{name: "WINDOW_UPDATE", burst: 20000, rate: 5000},
		empty:   flood{name: "empty DATA", burst: 100, rate: 10},
	}
}

// Read implements [net.Conn]. A flood ends the connection.
func (s *Stream) Read(p []byte) (n int, err error) {
	if f := s.broken.Load(); f != nil {
		return 0, f
	}
	if len(s.first) > 0 {
		n = copy(p, s.first)
		s.first = s.first[n:]
	} else if n, err = s.Conn.Read(p); n == 0 {
		return n, err
	}
	if f := s.count(p[:n]); f != nil {
		s.broken.Store(f)
		if s.report != nil {
			s.report(f)
		}
		return 0, f
	}
	return n, err
}

// count follows the frames in b.
func (s *Stream) count(b []byte) *Fault {
	for len(b) > 0 {
		if s.left > 0 {
			n := min(int64(len(b)), s.left)
			s.left -= n
			b = b[n:]
			continue
		}
		n := copy(s.head[s.have:], b)
		s.have += n
		b = b[n:]
		if s.have < frameHeaderLen {
			return nil
		}
		s.have = 0
		size := int64(s.head[0])<<16 | int64(binary.BigEndian.Uint16(s.head[1:3]))
		kind, flags := s.head[3], s.head[4]
		s.left = size
		if kind == frameContinuation {
			if s.continued++; s.continued > maxContinuations {
				return tooMany(fmt.Sprintf("more than %d CONTINUATION frames", maxContinuations))
			}
			continue
		}
		s.continued = 0
		var f *flood
		switch kind {
		case frameData:
			if size > 0 || flags&flagEnd != 0 {
				continue
			}
			f = &s.empty
		case frameHeaders:
			continue // streams are limited, and requests by rate-limit
		case frameReset:
			f = &s.resets
		case frameWindowUpdate:
			f = &s.updates
		default: // PING, SETTINGS, PRIORITY, PUSH_PROMISE, GOAWAY, and what nobody knows
			f = &s.control
		}
		if !f.take(s.now()) {
			return tooMany("a flood of " + f.name + " frames")
		}
	}
	return nil
}

func tooMany(detail string) *Fault {
	return &Fault{Status: 429, Reason: Flooded, Detail: "HTTP/2: " + detail}
}

// Close implements [net.Conn].
func (s *Stream) Close() error {
	err := s.Conn.Close()
	if s.onClose != nil {
		s.onClose()
	}
	return err
}
