package headers

import (
	"bytes"
	"crypto/sha512"
	"encoding/base64"
	"net/http"
	"net/url"
	"path"
	"strings"
	"sync"

	"github.com/dewar-security/dewar/internal/guard"
	"github.com/dewar-security/dewar/internal/markup"
)

// Bounds of what is remembered and looked at.
const (
	maxAsset  = 4 << 20 // bytes of one script or style sheet
	maxAssets = 2048
)

// integrity knows what is served under the addresses of scripts and style
// sheets of this site, and says so in pages (Subresource Integrity): who can
// change a file's bytes on their way (a cache, a static host behind another
// name) cannot run code in a page.
//
// A hash that does not fit breaks the page, so one is only said of content
// that a browser cannot have another version of: it asks each time (no-cache),
// or the address never changes its content (immutable). An address that has
// changed is said of what it has now.
type integrity struct {
	mu    sync.Mutex
	known map[string]*asset
}

// asset is a script or style sheet as it was served last.
type asset struct {
	validator string // ETag and Last-Modified: the same means the same bytes
	hash      string // "" if nothing can be said of it
	changes   int    // how often it became something else
}

func (in *integrity) count() int {
	in.mu.Lock()
	defer in.mu.Unlock()
	n := 0
	for _, a := range in.known {
		if a.hash != "" {
			n++
		}
	}
	return n
}

// learn looks at a script or style sheet that is served.
// isFile says that the app's source serves a file there, the same for all:
// extensions that look at the session have Flask say "Vary: Cookie" of it.
func (in *integrity) learn(x *guard.Exchange, r *http.Response, kind string, isFile bool) {
	switch kind {
	case "text/javascript", "application/javascript", "text/css":
	default:
		return
	}
	key := x.Client.Host + x.Path // apps may be told apart by host
	if q := x.Request.URL.RawQuery; q != "" {
		key += "?" + q
	}
	if x.Request.Method != http.MethodGet || len(key) > 1024 {
		return
	}
	if r.StatusCode != http.StatusOK {
		return // 304 says that it is as it was
	}
	if !fresh(r.Header) || !isFile && variesByVisitor(r.Header) || len(r.Header["Set-Cookie"]) > 0 || r.ContentLength < 0 || r.ContentLength > maxAsset {
		in.forget(key)
		return
	}
	validator := ""
	if tag := r.Header.Get("Etag"); tag != "" && !strings.HasPrefix(tag, "W/") {
		validator = tag + " " + r.Header.Get("Last-Modified")
	}
	in.mu.Lock()
	a := in.known[key]
	in.mu.Unlock()
	if a != nil && validator != "" && a.validator == validator {
		return
	}
	text, err := guard.PeekBody(r, maxAsset+1)
	if err != nil || len(text) > maxAsset {
		in.forget(key)
		return
	}
	sum := sha512.Sum384(text)
	hash := "sha384-" + base64.StdEncoding.EncodeToString(sum[:])
	in.mu.Lock()
	defer in.mu.Unlock()
	if a == nil {
		if len(in.known) >= maxAssets {
			// One makes room, or whoever asks for enough of them ends it all.
			for other := range in.known {
				delete(in.known, other)
				break
			}
		}
		a = &asset{}
		in.known[key] = a
	} else if a.hash != hash {
		a.changes++
	}
	a.validator, a.hash = validator, hash
	if a.changes > 16 {
		a.hash = "" // it is made anew for each visitor
	}
}

func (in *integrity) forget(key string) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if a := in.known[key]; a != nil {
		a.hash, a.validator = "", ""
	}
}

// fresh reports whether a browser that has an answer from before asks before
// it uses it, or the answer can never change.
func fresh(h http.Header) bool {
	for _, line := range h["Cache-Control"] {
		for d := range strings.SplitSeq(line, ",") {
			switch strings.ToLower(strings.TrimSpace(d)) {
			case "no-cache", "no-store", "immutable", "max-age=0":
				return true
			}
		}
	}
	return false
}

// lasting reports whether a browser or a cache may show an answer later without
// asking. A page that is kept would ask for the scripts of its day when they
// are others by then.
func lasting(h http.Header) bool {
	if len(h["Cache-Control"]) == 0 {
		return len(h["Expires"])+len(h["Last-Modified"]) > 0 // RFC 9111, 4.2.2
	}
	for _, line := range h["Cache-Control"] {
		for d := range strings.SplitSeq(line, ",") {
			switch name, value, _ := strings.Cut(strings.ToLower(strings.TrimSpace(d)), "="); name {
			case "public", "immutable", "stale-while-revalidate", "stale-if-error":
				return true
			case "max-age", "s-maxage":
				if strings.Trim(value, `" `) != "0" {
					return true
				}
			}
		}
	}
	return false
}

// variesByVisitor reports whether another visitor may get something else.
func variesByVisitor(h http.Header) bool {
	for _, line := range h["Vary"] {
		for f := range strings.SplitSeq(line, ",") {
			if f = strings.ToLower(strings.TrimSpace(f)); f != "" && f != "accept-encoding" && f != "origin" {
				return true
			}
		}
	}
	return false
}

// stamp adds integrity to the scripts and style sheets of a page that are
// known.
func (in *integrity) stamp(x *guard.Exchange, r *http.Response) {
	if in.count() == 0 || x.Request.Method == http.MethodHead || r.StatusCode == http.StatusNotModified || r.StatusCode == http.StatusPartialContent || r.ContentLength <= 0 || r.ContentLength > maxPage || lasting(r.Header) {
		return
	}
	page, err := guard.PeekBody(r, maxPage+1)
	if err != nil || len(page) > maxPage {
		return
	}
	type addition struct {
		at   int
		hash string
	}
	var all []addition
	base := false
	markup.Each(page, func(t *markup.Tag) {
		address := ""
		switch {
		case t.Is("base"):
			base = true
		case t.Is("script"):
			address, _ = t.Get("src")
		case t.Is("link"):
			if rel, _ := t.Get("rel"); hasWord(rel, "stylesheet") {
				address, _ = t.Get("href")
			}
		}
		if address == "" {
			return
		}
		if _, has := t.Get("integrity"); has {
			return
		}
		if hash := in.of(x, address); hash != "" {
			all = append(all, addition{t.Start + 1 + len(t.Name), hash})
		}
	})
	if len(all) == 0 || base {
		return // with <base> an address may mean something else
	}
	var out bytes.Buffer
	out.Grow(len(page) + len(all)*96)
	last := 0
	for _, a := range all {
		out.Write(page[last:a.at])
		out.WriteString(` integrity="` + a.hash + `"`)
		last = a.at
	}
	out.Write(page[last:])
	guard.ReplaceAnswer(r, out.Bytes())
}

func hasWord(list, word string) bool {
	for w := range strings.FieldsSeq(list) {
		if strings.EqualFold(w, word) {
			return true
		}
	}
	return false
}

// of returns the hash of what is served at an address of this site, as a page
// writes it; "" if it is not known, or elsewhere.
func (in *integrity) of(x *guard.Exchange, address string) string {
	u, err := url.Parse(strings.TrimSpace(address))
	if err != nil || u.Opaque != "" || u.User != nil || u.Scheme != "" && !strings.EqualFold(u.Scheme, x.Client.Scheme) || u.Host != "" && !strings.EqualFold(u.Host, x.Client.Host) {
		return ""
	}
	p := u.Path
	if !strings.HasPrefix(p, "/") {
		p = path.Dir(x.Path+"x") + "/" + p
	}
	key := x.Client.Host + path.Clean(p)
	if u.RawQuery != "" {
		key += "?" + u.RawQuery
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	if a := in.known[key]; a != nil {
		return a.hash
	}
	return ""
}
