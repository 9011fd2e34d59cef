// Package clamd asks ClamAV's daemon whether a file holds malware.
//
//	c, err := clamd.Parse("unix:/run/clamav/clamd.ctl")
//	signature, err := c.Scan(ctx, file)
//
// It speaks the INSTREAM command (clamd(8)): the file goes over the socket in
// chunks, so the daemon needs no right to read it and may run on another
// machine. Mind what the daemon does not say: it passes files beyond its own
// limits (MaxFileSize, MaxScanSize, MaxRecursion) as clean unless
// AlertExceedsMax is set, and some bombs even then, so a caller bounds what is
// unpacked by itself.
package clamd

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"
)

// ErrTooLarge says that a file is larger than the daemon takes
// (StreamMaxLength): it was not scanned.
var ErrTooLarge = errors.New("clamd: larger than its StreamMaxLength: not scanned")

// Client reaches one daemon. It is safe for concurrent use; each scan has a
// connection of its own.
type Client struct {
	network, address string
	// Timeout bounds one scan from connect to answer; 0 means a minute.
	Timeout time.Duration
}

// connectTimeout bounds the connect alone: a daemon that is gone is known at
// once.
const connectTimeout = 3 * time.Second

// chunk is how much goes in one piece.
const chunk = 64 << 10

// Parse reads an address: "unix:/run/clamav/clamd.ctl", a path, or "host:port"
// with or without "tcp:" before it.
func Parse(address string) (*Client, error) {
	switch rest, unix := strings.CutPrefix(address, "unix:"); {
	case unix && strings.HasPrefix(rest, "/"):
		return &Client{network: "unix", address: rest}, nil
	case strings.HasPrefix(address, "/"):
		return &Client{network: "unix", address: address}, nil
	}
	unix := strings.HasPrefix(address, "unix:")
	rest := strings.TrimPrefix(strings.TrimPrefix(address, "tcp:"), "//")
	host, port, err := net.SplitHostPort(rest)
	if number, portErr := strconv.ParseUint(port, 10, 16); err != nil || unix || host == "" || portErr != nil || number == 0 {
		return nil, fmt.Errorf("%q is no address of clamd: write \"unix:/run/clamav/clamd.ctl\" or \"host:3310\"", address)
	}
	return &Client{network: "tcp", address: rest}, nil
}

// String returns the address.
func (c *Client) String() string { return c.network + ":" + c.address }

func (c *Client) dial(ctx context.Context, timeout time.Duration) (net.Conn, func(), error) {
	d := net.Dialer{Timeout: connectTimeout}
	conn, err := d.DialContext(ctx, c.network, c.address)
	if err != nil {
		return nil, nil, fmt.Errorf("clamd: %w", err)
	}
	_ = conn.SetDeadline(time.Now().Add(timeout)) // a socket that has none ends with ctx
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	return conn, func() { stop(); conn.Close() }, nil
}

// Scan sends a file and returns the name of the signature that matches, or ""
// for a clean one. Any error means that nobody knows.
func (c *Client) Scan(ctx context.Context, file io.Reader) (signature string, err error) {
	timeout := c.Timeout
	if timeout <= 0 {
		timeout = time.Minute
	}
	conn, end, err := c.dial(ctx, timeout)
	if err != nil {
		return "", err
	}
	defer end()
	_, sendErr := io.WriteString(conn, "zINSTREAM\x00")
	buf := make([]byte, 4+chunk)
	for sendErr == nil {
		n, err := io.ReadFull(file, buf[4:])
		if n > 0 {
			binary.BigEndian.PutUint32(buf, uint32(n))
			// Past its limit the daemon answers and closes: the answer is
			// read below.
			if _, sendErr = conn.Write(buf[:4+n]); sendErr != nil {
				break
			}
		}
		switch err {
		case nil:
			continue
		case io.EOF, io.ErrUnexpectedEOF:
		default:
			return "", err // the file could not be read
		}
		_, sendErr = conn.Write(make([]byte, 4))
		break
	}
	reply, readErr := answer(conn)
	if ctx.Err() != nil {
		return "", ctx.Err()
	}
	switch {
	case reply == "" && sendErr != nil:
		return "", fmt.Errorf("clamd: %w", sendErr)
	case reply == "" && readErr != nil:
		return "", fmt.Errorf("clamd: no answer: %w", readErr)
	}
	return verdict(reply)
}

// answer reads a reply, which ends in NUL, and is no longer than a signature's
// name and a little.
func answer(r io.Reader) (string, error) {
	var b []byte
	buf := make([]byte, 512)
	for len(b) < 4096 {
		n, err := r.Read(buf)
		b = append(b, buf[:n]...)
		if i := bytes.IndexByte(b, 0); i >= 0 {
			return string(b[:i]), nil
		}
		if err != nil {
			return strings.TrimRight(string(b), "\r\n"), err
		}
	}
	return "", errors.New("an endless answer")
}

// verdict reads the reply to INSTREAM.
func verdict(reply string) (signature string, err error) {
	text := strings.TrimSpace(strings.TrimPrefix(reply, "stream: "))
	switch {
	case text == "OK":
		return "", nil
	case strings.HasSuffix(text, " FOUND"):
		if signature = strings.TrimSpace(strings.TrimSuffix(text, " FOUND")); signature == "" {
			signature = "unnamed"
		}
		return signature, nil
	case strings.Contains(text, "size limit exceeded"):
		return "", ErrTooLarge
	}
	return "", fmt.Errorf("clamd: %q", text)
}

// Version asks the daemon which version and which database it has, such as
// "ClamAV 1.4.3/27770/Sat Sep 20 09:27:00 2026".
func (c *Client) Version(ctx context.Context) (string, error) {
	conn, end, err := c.dial(ctx, connectTimeout)
	if err != nil {
		return "", err
	}
	defer end()
	if _, err := io.WriteString(conn, "zVERSION\x00"); err != nil {
		return "", fmt.Errorf("clamd: %w", err)
	}
	reply, err := answer(conn)
	if reply == "" {
		return "", fmt.Errorf("clamd: no answer: %w", err)
	}
	return reply, nil
}
