package guard

import (
	"fmt"
	"strings"
)

// CheckPattern reports why p is no path pattern, or nil. A pattern starts
// with / or with **; * stands for any characters within one segment, a
// segment ** for any number of segments, none included.
func CheckPattern(p string) error {
	if !strings.HasPrefix(p, "/") && p != "**" && !strings.HasPrefix(p, "**/") {
		return fmt.Errorf("%q is not a path pattern: start it with / or with **/", p)
	}
	for seg := range strings.SplitSeq(p, "/") {
		if seg != "**" && strings.Contains(seg, "**") {
			return fmt.Errorf("%q is not a path pattern: ** stands alone between slashes, as in /files/**", p)
		}
	}
	return nil
}

// MatchPattern reports whether a path, decoded and starting with /, matches
// p: /hooks/** matches /hooks, /hooks/ and everything below, **/login matches
// /login and /a/b/login. It compares bytes, and takes time proportional to
// the product of both lengths at worst, whatever the pattern.
func MatchPattern(p, path string) bool {
	p, path = strings.TrimPrefix(p, "/"), strings.TrimPrefix(path, "/")
	// The rest of the pattern and of the path after the last ** seen, to come
	// back to when what follows it fails. An earlier ** needs no second try:
	// the last one can swallow whatever the earlier one could.
	var backP, backPath string
	star := false
	pDone, pathDone := false, false
	for {
		if !pDone {
			seg, rest, more := strings.Cut(p, "/")
			if seg == "**" {
				if !more {
					return true
				}
				p, star = rest, true
				backP, backPath = p, path
				continue
			}
			if !pathDone {
				name, left, pathMore := strings.Cut(path, "/")
				if matchSegment(seg, name) {
					p, pDone = rest, !more
					path, pathDone = left, !pathMore
					if pDone && pathDone {
						return true
					}
					continue
				}
			}
		}
		// Mismatch: let the last ** take one more segment.
		if !star {
			return false
		}
		_, left, more := strings.Cut(backPath, "/")
		if !more {
			return false
		}
		backPath = left
		p, path, pDone, pathDone = backP, backPath, false, false
	}
}

// matchSegment matches one segment; * stands for any characters.
func matchSegment(p, s string) bool {
	first, rest, more := strings.Cut(p, "*")
	if !more {
		return p == s
	}
	if !strings.HasPrefix(s, first) {
		return false
	}
	s = s[len(first):]
	for {
		part, next, more := strings.Cut(rest, "*")
		if !more {
			return strings.HasSuffix(s, part)
		}
		i := strings.Index(s, part)
		if i < 0 {
			return false
		}
		s, rest = s[i+len(part):], next
	}
}
