package probe

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net/http"
	"strings"

	"github.com/dewar-security/dewar/internal/evidence"
)

// Refused reports whether an answer says "not you" or "not now" instead of
// answering: too many requests, overload. It tells nothing about the promise.
func (r *Response) Refused() bool {
	return r.Status == http.StatusTooManyRequests || r.Status == http.StatusServiceUnavailable
}

// Line returns the first line of the answer as it is quoted in reports.
func (r *Response) Line() string {
	return fmt.Sprintf("%s %d %s", r.Proto, r.Status, http.StatusText(r.Status))
}

// Nonce returns a fresh word that no site knows: for paths that cannot exist
// and markers that occur nowhere else.
func Nonce() string {
	var b [6]byte
	rand.Read(b[:])
	return "dewar" + hex.EncodeToString(b[:])
}

// Nowhere returns a path that no site serves.
func Nowhere() string { return "/" + Nonce() }

// Welcome gets the front page and returns why nothing can be learnt from a
// site that turns the probe away; "" when it does not.
func (c *Client) Welcome(ctx context.Context) (home *Response, why string) {
	home, err := c.Visit(ctx, "/")
	switch {
	case err != nil:
		return nil, "could not tell: " + err.Error()
	case home.Refused() || home.Status == http.StatusForbidden || home.Status == http.StatusMisdirectedRequest || home.Status >= 500:
		return nil, fmt.Sprintf("could not tell: the site answers its front page with %d", home.Status)
	}
	return home, ""
}

// File is something that must not be served.
type File struct {
	Path string
	What string // "the repository's HEAD"
	// Looks reports whether a body is really that, and not a page that a
	// catch-all route serves for every path.
	Looks func(body []byte) bool
}

// Exposed asks for files. It returns a failure for every file that is served,
// or one pass; files about which it could not tell are an error beside it.
// It sends one request for each file and one for a path that cannot exist.
func (c *Client) Exposed(ctx context.Context, files []File) []Answer {
	if _, why := c.Welcome(ctx); why != "" {
		return []Answer{{Summary: why}}
	}
	control, err := c.Get(ctx, Nowhere()+".txt")
	if err != nil {
		return []Answer{{Summary: "could not tell: " + err.Error()}}
	}
	var (
		out     []Answer
		unclear []string
		asked   int
	)
	for _, f := range files {
		r, err := c.Get(ctx, f.Path)
		switch {
		case err != nil:
			unclear = append(unclear, fmt.Sprintf("%s (%v)", f.Path, err))
			continue
		case r.Refused():
			unclear = append(unclear, fmt.Sprintf("%s (answered %d)", f.Path, r.Status))
			continue
		}
		asked++
		if r.Status != http.StatusOK && r.Status != http.StatusPartialContent || !f.Looks(r.Body) {
			continue
		}
		// The same page for a path that cannot exist is no file.
		if control.Status == r.Status && (bytes.Equal(control.Body, r.Body) || f.Looks(control.Body)) {
			continue
		}
		out = append(out, Answer{
			Outcome: evidence.Fail,
			Summary: fmt.Sprintf("%s is served: %s", f.Path, f.What),
			URL:     c.URL(f.Path),
			// What kind of file it is is proof enough; a report must not
			// become the next place that leaks it.
			Seen: fmt.Sprintf("%s, %d bytes of %s", r.Line(), len(r.Body), r.Header.Get("Content-Type")),
		})
	}
	if len(out) == 0 && asked > 0 {
		out = append(out, Answer{Outcome: evidence.Pass, Summary: fmt.Sprintf("none of %d files is served", asked), URL: c.URL("/"), Seen: "a path that cannot exist: " + control.Line()})
	}
	if len(unclear) > 0 {
		out = append(out, Answer{Summary: "could not tell about " + strings.Join(unclear, ", ")})
	}
	return out
}
