// Package csp derives a Content-Security-Policy (CSP Level 3) from an app's own
// templates, so that a page's own inline scripts run and nobody else's do.
//
// [Read] takes templates apart. An inline script without anything dynamic in
// it has a hash that is known before the app runs. One with outputs in it
// becomes a [Skeleton]: its fixed text, and for each output what may stand
// there without becoming code: in a string no quote and no line break, anywhere
// else a run of JSON tokens, which can name a value and call nothing.
//
//	<script>var user = "{{ name }}", cart = {{ cart|tojson }};</script>
//
// A [Matcher] looks at a page on its way out and gives the hashes of those
// scripts that are instances of a skeleton. So the policy allows exactly the
// bytes that were judged: a nonce would allow whatever its tag comes to hold
// (dangling markup, a second script that repeats the skeleton elsewhere), and
// the page would have to be rewritten for it. What the app did not write gets
// no hash, however it came into the page.
//
// Two parsers may see a page differently; that does no harm here. A hash is
// given for a text, and a browser that reads the page in another way finds
// another text, which has none.
package csp

import (
	"crypto/sha256"
	"encoding/base64"
	"slices"
)

// Source is what the templates of a project put into pages.
type Source struct {
	// Scripts are inline scripts, Handlers event handler attributes, Styles
	// inline style sheets and StyleAttributes the values of style.
	Scripts         []Skeleton `json:"scripts,omitempty"`
	Handlers        []Skeleton `json:"handlers,omitempty"`
	Styles          []Skeleton `json:"styles,omitempty"`
	StyleAttributes []Skeleton `json:"style_attributes,omitempty"`
	// Origins are by directive (script-src) what templates load from
	// elsewhere: for scripts and style sheets the whole address, because an
	// origin that serves many things serves scripts for attackers, too; for
	// the others https://host.
	Origins map[string][]string `json:"origins,omitempty"`
	// Mentioned are origins that the project's scripts and style sheets name:
	// known to the source, for whatever purpose.
	Mentioned []string `json:"mentioned,omitempty"`
	// Gaps are what can be neither hashed nor matched.
	Gaps []Gap `json:"gaps,omitempty"`
}

// Skeleton is one inline script, style sheet, or attribute of a template.
type Skeleton struct {
	File string `json:"file"`
	Line int    `json:"line"`
	// Hash is the source expression ("sha256-…") of a text that is always the
	// same; Pattern is a regular expression (RE2, for the whole text) of one
	// that is not.
	Hash    string `json:"hash,omitempty"`
	Pattern string `json:"pattern,omitempty"`
	// Many says that a page may have it more than once: it stands in a loop,
	// a macro or an included template.
	Many bool `json:"many,omitempty"`
}

// Gap is something inline that no policy can allow by its content.
type Gap struct {
	File string `json:"file"`
	Line int    `json:"line"`
	What string `json:"what"`
}

// Hash returns the source expression that allows an inline text (CSP3 section
// 2.3.1), without the quotes around it.
func Hash(text string) string {
	sum := sha256.Sum256([]byte(text))
	return "sha256-" + base64.StdEncoding.EncodeToString(sum[:])
}

// Empty reports whether the templates put nothing inline into pages and load
// nothing from elsewhere.
func (s *Source) Empty() bool {
	return s == nil || len(s.Scripts)+len(s.Handlers)+len(s.Styles)+len(s.StyleAttributes)+len(s.Origins) == 0
}

// add puts a value into a sorted list once.
func add(list []string, v string) []string {
	i, ok := slices.BinarySearch(list, v)
	if ok {
		return list
	}
	return slices.Insert(list, i, v)
}
