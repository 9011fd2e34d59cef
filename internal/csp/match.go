package csp

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/dewar-security/dewar/internal/markup"
)

// maxPage bounds how many hashes one page is given of each class: no header
// has room for more. maxFixed is how many of all classes a page is given that
// was not looked at.
const (
	maxPage  = 128
	maxFixed = 16
)

// maxMemory is how many texts a Matcher remembers.
const maxMemory = 8192

// A class is what a text stands in.
type class uint8

const (
	scripts class = iota
	handlers
	styles
	styleAttributes
	classes
)

// A Matcher knows which inline texts are an app's own. It is safe for
// concurrent use.
type Matcher struct {
	fixed   [classes][]string // the hashes of all texts without outputs, sorted
	dynamic [classes][]*instance

	mu   sync.Mutex
	seen map[string]verdict // by class and hash
}

// instance is a skeleton with what can be told of its texts.
type instance struct {
	Skeleton
	rx     *regexp.Regexp
	prefix string
	// times is how often a page may have different texts of it; 0 means any.
	times int
}

// verdict is what is known of a text: of which skeleton it is.
type verdict struct {
	fixed bool
	of    *instance
}

// NewMatcher returns the matcher of a source. A pattern that cannot be read is
// an error.
func NewMatcher(s *Source) (*Matcher, error) {
	m := &Matcher{seen: map[string]verdict{}}
	for at, list := range [classes][]Skeleton{s.Scripts, s.Handlers, s.Styles, s.StyleAttributes} {
		byPattern := map[string]*instance{}
		for _, k := range list {
			if k.Pattern == "" {
				if !validHash(k.Hash) {
					return nil, fmt.Errorf("csp: %s:%d: %q is no hash", k.File, k.Line, k.Hash)
				}
				m.fixed[at] = add(m.fixed[at], k.Hash)
				continue
			}
			if d := byPattern[k.Pattern]; d != nil {
				d.Many = d.Many || k.Many
				d.times++
				continue
			}
			rx, err := regexp.Compile(k.Pattern)
			if err != nil {
				return nil, fmt.Errorf("csp: %s:%d: %w", k.File, k.Line, err)
			}
			d := &instance{Skeleton: k, rx: rx, times: 1}
			d.prefix, _ = rx.LiteralPrefix()
			byPattern[k.Pattern] = d
			m.dynamic[at] = append(m.dynamic[at], d)
		}
	}
	return m, nil
}

// validHash keeps what is put into a header to the letters of a hash.
func validHash(h string) bool {
	rest, ok := strings.CutPrefix(h, "sha256-")
	return ok && len(rest) == 44 && strings.Trim(rest, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=") == ""
}

// Page is what one page has of an app's own inline texts: their hashes, sorted.
type Page struct {
	Scripts, Handlers, Styles, StyleAttributes []string
	// Copied are skeletons of which the page had more different texts than
	// the template writes: some are not the app's, so none got a hash.
	Copied []Skeleton
	// Cut says that the page has more of them than a header has room for.
	Cut bool
}

// Dynamic reports whether pages must be looked at: whether some script or
// style has outputs in it, or there are more fixed ones than every page should
// be given.
func (m *Matcher) Dynamic() bool {
	fixed := 0
	for at := range classes {
		if fixed += len(m.fixed[at]); len(m.dynamic[at]) > 0 {
			return true
		}
	}
	return fixed > maxFixed
}

// Fixed returns what is allowed on a page that was not looked at: every text
// without outputs, up to what a header has room for.
func (m *Matcher) Fixed() Page {
	var p Page
	for at, list := range p.lists() {
		all := m.fixed[at]
		if len(all) > maxPage {
			all, p.Cut = all[:maxPage], true
		}
		*list = all
	}
	return p
}

func (p *Page) lists() [classes]*[]string {
	return [classes]*[]string{&p.Scripts, &p.Handlers, &p.Styles, &p.StyleAttributes}
}

// Match looks at a page: HTML in UTF-8. Reading takes time linear in its size.
func (m *Matcher) Match(page []byte) Page {
	var found Page
	lists := found.lists()
	// Different texts of each skeleton.
	var of map[*instance][]string
	var kindOf map[*instance]class
	take := func(at class, text string) {
		if len(m.fixed[at]) == 0 && len(m.dynamic[at]) == 0 || len(text) > maxPattern*4 {
			return
		}
		h := Hash(text)
		v := m.judge(at, h, text)
		switch {
		case v.fixed:
			*lists[at] = add(*lists[at], h)
		case v.of != nil:
			if of == nil {
				of, kindOf = map[*instance][]string{}, map[*instance]class{}
			}
			of[v.of], kindOf[v.of] = add(of[v.of], h), at
		}
	}
	markup.Each(page, func(t *markup.Tag) {
		src := false
		for _, a := range t.Attrs {
			switch {
			case len(a.Name) > 2 && a.Name[0]|0x20 == 'o' && a.Name[1]|0x20 == 'n':
				take(handlers, string(markup.Value(a.Value)))
			case markup.EqualFold(a.Name, "style"):
				take(styleAttributes, string(markup.Value(a.Value)))
			case markup.EqualFold(a.Name, "src"):
				src = true
			}
		}
		switch {
		case len(t.Text) == 0:
		case t.Is("style"):
			take(styles, string(markup.Text(t.Text)))
		case !src:
			take(scripts, string(markup.Text(t.Text)))
		}
	})
	for d, hashes := range of {
		if !d.Many && len(hashes) > d.times {
			found.Copied = append(found.Copied, d.Skeleton)
			continue
		}
		for _, h := range hashes {
			*lists[kindOf[d]] = add(*lists[kindOf[d]], h)
		}
	}
	slices.SortFunc(found.Copied, func(a, b Skeleton) int {
		return cmp.Or(strings.Compare(a.File, b.File), a.Line-b.Line)
	})
	for _, list := range lists {
		if len(*list) > maxPage {
			*list, found.Cut = (*list)[:maxPage], true
		}
	}
	return found
}

// judge says of which skeleton a text is, and remembers it.
func (m *Matcher) judge(at class, hash, text string) verdict {
	if _, ok := slices.BinarySearch(m.fixed[at], hash); ok {
		return verdict{fixed: true}
	}
	if len(m.dynamic[at]) == 0 {
		return verdict{}
	}
	key := string(rune('0'+at)) + hash
	m.mu.Lock()
	v, known := m.seen[key]
	m.mu.Unlock()
	if known {
		return v
	}
	for _, d := range m.dynamic[at] {
		if strings.HasPrefix(text, d.prefix) && d.rx.MatchString(text) {
			v.of = d
			break
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.seen) >= maxMemory {
		clear(m.seen) // what is in use comes back with the next pages
	}
	m.seen[key] = v
	return v
}
