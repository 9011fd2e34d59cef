package headers

import (
	"bytes"
	"crypto/sha512"
	"encoding/base64"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"time"

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
// that a browser cannot have another version of, and that is known now: of an
// address whose content never changes (immutable), or where a browser asks each
// time (no-cache) and the app serves a file, which is looked at for every page.
type integrity struct {
	facts func() guard.Facts
	now   guard.Clock

	mu    sync.Mutex
	known map[string]*asset
}

// asset is a script or style sheet as it was served last.
type asset struct {
	validator string // ETag and Last-Modified: the same means the same bytes
	hash      string // "" if nothing can be said of it
	immutable bool
	changed   bool // an immutable address became something else
	// file is what is served, as it is; "" if that is not known.
	file  string
	state os.FileInfo
}

// settled is how long ago a file must have changed for its hash to be said: an
// edit may be still going on, and clocks of file systems are coarse.
const settled = 2 * time.Second

// lookAt returns the state of a file that can be a script or style sheet; nil
// if there is none.
func lookAt(name string) os.FileInfo {
	info, err := os.Stat(name)
	if err != nil || !info.Mode().IsRegular() || info.Size() > maxAsset {
		return nil
	}
	return info
}

// sameState reports whether nothing was written to a file in between.
func sameState(a, b os.FileInfo) bool {
	return os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime())
}

// hashFile returns the hash of a file, and its state from before it was read;
// nil if it cannot be read.
func hashFile(name string) (hash string, state os.FileInfo) {
	if state = lookAt(name); state == nil {
		return "", nil
	}
	text, err := os.ReadFile(name)
	if err != nil || int64(len(text)) != state.Size() {
		return "", nil
	}
	return sri(text), state
}

// sri returns what an integrity attribute says of a text.
func sri(text []byte) string {
	sum := sha512.Sum384(text)
	return "sha384-" + base64.StdEncoding.EncodeToString(sum[:])
}

// file returns the file that Flask itself serves at a path, as the url_map of
// the app that runs has it; "" if there is none.
func (in *integrity) file(p string) string {
	if in.facts == nil {
		return ""
	}
	for _, r := range in.facts().Routes {
		if r.Folder == "" {
			continue
		}
		rest, ok := strings.CutPrefix(p, strings.TrimSuffix(r.Rule, "<path:filename>"))
		if ok && filepath.IsLocal(filepath.FromSlash(rest)) {
			return filepath.Join(r.Folder, filepath.FromSlash(rest))
		}
	}
	return ""
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
	hash := sri(text)
	now := asset{validator: validator, hash: hash, immutable: immutable(r.Header)}
	if name := in.file(x.Path); name != "" {
		// Only if the app changes nothing about it on its way.
		if of, state := hashFile(name); state != nil && of == hash {
			now.file, now.state = name, state
		}
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	if a = in.known[key]; a == nil {
		if len(in.known) >= maxAssets {
			// One makes room, or whoever asks for enough of them ends it all.
			for other := range in.known {
				delete(in.known, other)
				break
			}
		}
		a = &asset{}
		in.known[key] = a
	} else {
		now.changed = a.changed || a.immutable && a.hash != "" && a.hash != hash
	}
	*a = now
}

func (in *integrity) forget(key string) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if a := in.known[key]; a != nil {
		a.hash, a.validator = "", ""
	}
}

// immutable reports whether an address keeps its content.
func immutable(h http.Header) bool {
	for _, line := range h["Cache-Control"] {
		for d := range strings.SplitSeq(line, ",") {
			if strings.EqualFold(strings.TrimSpace(d), "immutable") {
				return true
			}
		}
	}
	return false
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
	var a asset
	if p := in.known[key]; p != nil {
		a = *p
	}
	in.mu.Unlock()
	switch {
	case a.hash == "":
		return ""
	case a.immutable:
		if a.changed {
			return "" // it is not: a browser may have kept what it was
		}
		return a.hash
	case a.file == "":
		return ""
	}
	now := lookAt(a.file)
	if now == nil || in.now().Sub(now.ModTime()) < settled {
		return ""
	}
	if sameState(now, a.state) {
		return a.hash
	}
	// Edited in place, and nobody has asked for it since.
	if a.hash, a.state = hashFile(a.file); a.state == nil {
		return ""
	}
	a.validator = ""
	in.mu.Lock()
	defer in.mu.Unlock()
	if p := in.known[key]; p != nil {
		*p = a
	}
	return a.hash
}
