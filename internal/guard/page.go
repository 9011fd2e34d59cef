package guard

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// sentences say to a visitor what happened, and nothing about why: the
// reason's detail is for the log.
var sentences = map[int]string{
	400: "The request could not be understood.",
	401: "You have to log in first.",
	403: "The request was refused.",
	404: "There is nothing here.",
	405: "This address does not answer that kind of request.",
	408: "The request took too long to arrive.",
	411: "The request must say how long it is.",
	413: "The request is too large.",
	414: "The address is too long.",
	415: "This kind of content is not accepted here.",
	417: "What the request expects is not offered here.",
	421: "This site does not answer to that name.",
	422: "What was sent cannot be accepted.",
	429: "Too many requests. Please wait a little.",
	431: "The request's header is too large.",
	500: "Something went wrong here.",
	501: "The request uses what this server does not know.",
	502: "The application did not answer.",
	503: "The application is not available right now.",
	504: "The application took too long to answer.",
	505: "This server does not speak that version of HTTP.",
}

// linger is how long the body of a refused request may still come: a client
// that sends before it reads shall see the answer, not a reset.
const linger = time.Second

// write sends the guard's own answer: an Answer as it is, a Deny as the error
// page or as the page that the layer has for it. It passes the responders like the app's answers.
func (c *Chain) write(w http.ResponseWriter, x *Exchange, d Decision, proof string) {
	h := d.Header.Clone() // layers keep their headers; responders change these
	if h == nil {
		h = make(http.Header, 16)
	}
	var text []byte
	if d.Verdict == Deny && d.Body == nil {
		var kind string
		text, kind = page(x, d)
		h.Set("Content-Type", kind)
		// The page depends on who asks, and on when: nobody keeps it. That is
		// why it needs no Vary.
		h.Set("Cache-Control", "no-store")
	} else {
		if text = d.Body; h.Get("Cache-Control") == "" {
			h.Set("Cache-Control", "no-store")
		}
	}
	body := io.NopCloser(bytes.NewReader(text))
	res := &http.Response{
		StatusCode: d.Status, Status: strconv.Itoa(d.Status) + " " + http.StatusText(d.Status),
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: h,
		Body: body, ContentLength: int64(len(text)), Request: x.Request,
	}
	c.responders(x, res, true)
	c.mark(x, res.Header, proof)
	if res.Body != nil && res.Body != body {
		text, _ = io.ReadAll(res.Body) // a responder has looked at it, or changed it
	}
	dst := w.Header()
	for k, v := range res.Header {
		dst[k] = v
	}
	r := x.Request
	if r.ProtoMajor == 1 && r.Body != nil && r.Body != http.NoBody && r.ContentLength != 0 && x.body == nil {
		// The body is still on its way. net/http would wait for it before it
		// sends this answer, and again before it lets go of the connection:
		// what a slow client wants.
		dst.Set("Connection", "close")
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(linger)) // not every server has one
	}
	if d.Status == http.StatusNoContent || d.Status == http.StatusNotModified { // RFC 9110, 6.4.1
		dst.Del("Content-Length")
		w.WriteHeader(d.Status)
		return
	}
	dst.Set("Content-Length", strconv.Itoa(len(text)))
	w.WriteHeader(d.Status)
	if r.Method != http.MethodHead {
		_, _ = w.Write(text)
	}
}

// page renders the error for who asked: HTML for a person, RFC 9457 problem
// details for a program that wants JSON, text for everybody else.
func page(x *Exchange, d Decision) (body []byte, contentType string) {
	title := http.StatusText(d.Status)
	sentence := sentences[d.Status]
	if sentence == "" {
		sentence = title + "."
	}
	switch Wants(x.Request) {
	case "html":
		// No script, no style, nothing from elsewhere: the page works under
		// the strictest policy. The id is 26 letters and digits of ours.
		return fmt.Appendf(nil, "<!doctype html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\"><meta name=\"color-scheme\" content=\"light dark\"><title>%d %s</title></head>\n<body>\n<h1>%s</h1>\n<p>%s</p>\n<p>If you think this is a mistake, tell the people who run this site the number of your request:</p>\n<p><code>%s</code></p>\n</body>\n</html>\n", d.Status, title, title, sentence, x.ID), "text/html; charset=utf-8"
	case "json":
		body, _ = json.Marshal(struct {
			Type      string `json:"type"`
			Title     string `json:"title"`
			Status    int    `json:"status"`
			Detail    string `json:"detail"`
			RequestID string `json:"request_id"`
		}{"about:blank", title, d.Status, sentence, x.ID})
		return append(body, '\n'), "application/problem+json"
	}
	return fmt.Appendf(nil, "%d %s\n%s\nRequest %s\n", d.Status, title, sentence, x.ID), "text/plain; charset=utf-8"
}

// Wants returns "html", "json" or "text": what the client's Accept field
// prefers (RFC 9110, 12.5.1), or what its other fields hint at.
func Wants(r *http.Request) string {
	best, q := "", 0.0
	for _, line := range r.Header["Accept"] {
		for entry := range strings.SplitSeq(line, ",") {
			kind, params, _ := strings.Cut(strings.ToLower(entry), ";")
			form := ""
			switch kind = strings.TrimSpace(kind); {
			case kind == "text/html", kind == "application/xhtml+xml":
				form = "html"
			case kind == "application/json", strings.HasSuffix(kind, "+json"):
				form = "json"
			case kind == "text/plain":
				form = "text"
			default:
				continue
			}
			weight := 1.0
			for p := range strings.SplitSeq(params, ";") {
				if v, ok := strings.CutPrefix(strings.TrimSpace(p), "q="); ok {
					if n, err := strconv.ParseFloat(v, 64); err == nil {
						weight = n
					}
				}
			}
			if weight > q {
				best, q = form, weight
			}
		}
	}
	switch {
	case best != "":
		return best
	case r.Header.Get("Sec-Fetch-Mode") == "navigate":
		return "html"
	case r.Header.Get("Sec-Fetch-Mode") == "cors", strings.Contains(strings.ToLower(r.Header.Get("Content-Type")), "json"):
		return "json"
	}
	return "text"
}
