package guard

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
)

// sentences say to a visitor what happened, and nothing about why: the
// reason's detail is for the log.
var sentences = map[int]string{
	400: "The request could not be understood.",
	403: "The request was refused.",
	404: "There is nothing here.",
	405: "This address does not answer that kind of request.",
	408: "The request took too long to arrive.",
	411: "The request must say how long it is.",
	413: "The request is too large.",
	415: "This kind of content is not accepted here.",
	421: "This site does not answer to that name.",
	429: "Too many requests. Please wait a little.",
	500: "Something went wrong here.",
	502: "The application did not answer.",
	503: "The application is not available right now.",
	504: "The application took too long to answer.",
}

// write sends the guard's own answer: an Answer as it is, a Deny as the error
// page. It passes the responders like the app's answers.
func (c *Chain) write(w http.ResponseWriter, x *Exchange, d Decision, proof string) {
	h := make(http.Header, 16)
	for k, v := range d.Header {
		h[k] = v
	}
	var body []byte
	if d.Verdict == Deny {
		var kind string
		body, kind = page(x, d)
		h.Set("Content-Type", kind)
	}
	if h.Get("Cache-Control") == "" {
		h.Set("Cache-Control", "no-store")
	}
	res := &http.Response{
		StatusCode: d.Status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: h,
		Body: io.NopCloser(bytes.NewReader(body)), ContentLength: int64(len(body)), Request: x.Request,
	}
	c.responders(x, res) // a Deny of our own page changes nothing: this is the page
	c.mark(x, res.Header, proof)
	dst := w.Header()
	for k, v := range res.Header {
		dst[k] = v
	}
	if d.Status != http.StatusNoContent && d.Status >= 200 {
		dst.Set("Content-Length", strconv.Itoa(len(body)))
	}
	w.WriteHeader(d.Status)
	if x.Request.Method != http.MethodHead {
		_, _ = w.Write(body)
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
	accept := strings.ToLower(strings.Join(x.Request.Header["Accept"], ","))
	switch {
	case strings.Contains(accept, "text/html") || x.Request.Header.Get("Sec-Fetch-Mode") == "navigate":
		// No script, no style, nothing from elsewhere: the page works under
		// the strictest policy. The id is 26 letters and digits of ours.
		return fmt.Appendf(nil, "<!doctype html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\"><meta name=\"color-scheme\" content=\"light dark\"><title>%d %s</title></head>\n<body>\n<h1>%s</h1>\n<p>%s</p>\n<p>If you think this is a mistake, tell the people who run this site the number of your request:</p>\n<p><code>%s</code></p>\n</body>\n</html>\n", d.Status, title, title, sentence, x.ID), "text/html; charset=utf-8"
	case strings.Contains(accept, "json") || strings.Contains(strings.ToLower(x.Request.Header.Get("Content-Type")), "json") || x.Request.Header.Get("Sec-Fetch-Mode") == "cors":
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
