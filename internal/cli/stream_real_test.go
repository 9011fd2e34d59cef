package cli

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// streamApp has an event stream and a WebSocket (its handshake, and text that
// no frame holds: the guard does not look into it) on threads of gunicorn.
const streamApp = `
import base64, hashlib, os, time
from flask import Flask, Response, request, session

app = Flask(__name__)
app.secret_key = os.environ["SECRET_KEY"]

@app.post("/enter")
def enter():
    session["user_id"] = request.form["user"]
    return "welcome"

@app.post("/leave")
def leave():
    session.clear()
    return "bye"

def ticks():
    for n in range(6000):
        yield "data: %d\n\n" % n
        time.sleep(0.1)

@app.get("/events")
def events():
    return Response(ticks(), mimetype="text/event-stream")

@app.route("/ws", websocket=True)
def ws():
    s = request.environ["gunicorn.socket"]
    key = request.headers["Sec-WebSocket-Key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
    accept = base64.b64encode(hashlib.sha1(key.encode()).digest()).decode()
    s.sendall(("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n" % accept).encode())
    try:
        for tick in ticks():
            s.sendall(tick.encode())
    finally:
        s.close()
    return ""
`

// TestStreamEndsWithItsSession: an open event stream and an open WebSocket of
// a real app end when their user logs out in another tab, or an operator ends
// the sessions of the account; another user's go on (CWE-613).
func TestStreamEndsWithItsSession(t *testing.T) {
	real(t)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "app.py"), []byte(streamApp), 0o600); err != nil {
		t.Fatal(err)
	}
	s := start(t, dir, []string{"SECRET_KEY=" + realKey, "STATE_DIRECTORY=" + t.TempDir()}, append([]string{"--set", "deployment.threads=8"}, calm...)...)
	enter := func(user string) *http.Client {
		c := s.client()
		s.want(s.post(c, "/enter", "user", user), 200, user)
		return c
	}
	// open returns a channel that is closed when the stream has ended.
	open := func(what string, r io.Reader) chan bool {
		br := bufio.NewReader(r)
		line, err := br.ReadString('\n')
		if line != "data: 0\n" {
			t.Fatalf("%s: %q %v", what, line, err)
		}
		ended := make(chan bool)
		go func() { _, _ = io.Copy(io.Discard, br); close(ended) }()
		return ended
	}
	request := func(c *http.Client, path string) *http.Request {
		r, err := http.NewRequest("GET", s.https+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("User-Agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0")
		r.Header.Set("Cookie", s.cookies(c))
		return r
	}
	events := func(c *http.Client) chan bool {
		alone := s.client()
		alone.Timeout, alone.Jar = 0, nil
		res, err := alone.Do(request(c, "/events"))
		if err != nil || res.StatusCode != 200 {
			t.Fatalf("%v %v", res, err)
		}
		t.Cleanup(func() { res.Body.Close() })
		return open("events", res.Body)
	}
	socket := func(c *http.Client) chan bool {
		conn, err := tls.Dial("tcp", strings.TrimPrefix(s.https, "https://"), &tls.Config{RootCAs: s.ca, ServerName: "localhost", NextProtos: []string{"http/1.1"}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		r := request(c, "/ws")
		fmt.Fprintf(conn, "GET /ws HTTP/1.1\r\nHost: %s\r\nUser-Agent: %s\r\nCookie: %s\r\nOrigin: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n", r.Host, r.UserAgent(), r.Header.Get("Cookie"), s.https)
		br := bufio.NewReader(conn)
		res, err := http.ReadResponse(br, nil)
		if err != nil || res.StatusCode != 101 {
			t.Fatalf("%v %v", res, err)
		}
		return open("socket", br)
	}
	bob := enter("bob")
	bobs := []chan bool{events(bob), socket(bob)}
	for what, end := range map[string]func(c *http.Client, user string){
		"logout in another tab": func(c *http.Client, _ string) { s.post(c, "/leave") },
		"session end": func(_ *http.Client, user string) {
			var out bytes.Buffer
			if code := execute(context.Background(), []string{"session", "end", user, "--dir", s.dir}, s.environ, strings.NewReader(""), &out, &out); code != 0 {
				t.Fatalf("%d: %s", code, &out)
			}
		},
	} {
		user := "ann of " + strings.ReplaceAll(what, " ", "-")
		ann := enter(user)
		anns := []chan bool{events(ann), socket(ann)}
		end(ann, user)
		for i, ended := range anns {
			select {
			case <-ended:
			case <-time.After(2 * time.Minute):
				t.Fatalf("%s: %s goes on", what, []string{"the event stream", "the WebSocket"}[i])
			}
		}
	}
	for _, ended := range bobs {
		select {
		case <-ended:
			t.Error("bob's stream has ended")
		default:
		}
	}
	eventually(t, "four streams that were ended in the log", func() bool {
		b, err := os.ReadFile(s.log)
		return err == nil && strings.Count(string(b), `"session-stream-ended"`) == 4
	})
}
