package injection

import "unicode/utf8"

// matchSteps bounds how many steps of a backtracking matcher one text may take
// against a pattern that can take exponentially many: some ten milliseconds of
// Python's. Longer texts get as many more as they are longer.
const matchSteps = 300_000

// matcher counts what a backtracking matcher like Python's re needs for a text.
// It tries what re tries, in the same order, so that a text which matches at
// once passes, however long it is.
type matcher struct {
	a             automaton
	start, accept int
	mode          string // match, search or full; empty: any of them
}

// newMatcher returns a matcher for a pattern, or nil for one that cannot be
// read.
func newMatcher(text, mode string) *matcher {
	if len(text) > maxPattern {
		return nil
	}
	p := patternParser{text: []rune(text)}
	tree := p.alternatives(0)
	if p.bad || p.at < len(p.text) || tree.size() > 4*maxStates {
		return nil
	}
	m := &matcher{mode: mode}
	m.accept = m.a.state()
	m.start = m.a.compile(tree, m.accept)
	return m
}

// takesLong reports whether the text needs more steps than are allowed.
func (m *matcher) takesLong(text string) bool {
	runes := []rune(text)
	steps := matchSteps + 64*len(runes)
	if m.mode == "full" || m.mode == "match" {
		m.from(runes, 0, m.mode == "full", &steps)
		return steps < 0
	}
	for at := 0; at <= len(runes) && steps >= 0; at++ {
		if end := m.from(runes, at, false, &steps); end > at {
			at = end - 1 // findall and sub go on behind it
		}
	}
	if m.mode == "" && steps >= 0 {
		m.from(runes, 0, true, &steps)
	}
	return steps < 0
}

// empty are the states that a way has come through since it took a character:
// who comes to one of them again and again goes round over nothing, which re does
// not.
type empty struct {
	state int
	up    *empty
}

// from tries to match at a place and returns the end of the match, or -1.
func (m *matcher) from(text []rune, at int, full bool, steps *int) int {
	type point struct {
		state, at int
		been      *empty
	}
	stack := []point{{m.start, at, nil}}
next:
	for len(stack) > 0 {
		p := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		if *steps--; *steps < 0 {
			return -1
		}
		n := &m.a.nodes[p.state]
		if p.state == m.accept && (!full || p.at == len(text)) {
			return p.at
		}
		if n.to >= 0 {
			if p.at < len(text) && n.set.has(text[p.at]) {
				stack = append(stack, point{n.to, p.at + 1, nil})
			}
			continue
		}
		// Once more is a loop within a loop that begins anew.
		before := 0
		for b := p.been; b != nil; b = b.up {
			if b.state == p.state {
				if before++; before > 1 {
					continue next
				}
			}
		}
		switch n.only {
		case opBegin:
			if p.at != 0 {
				continue
			}
		case opEnd:
			if p.at < len(text)-1 || p.at == len(text)-1 && text[p.at] != '\n' {
				continue
			}
		}
		been := &empty{p.state, p.been}
		for i := len(n.over) - 1; i >= 0; i-- { // the first one first
			stack = append(stack, point{n.over[i], p.at, been})
		}
	}
	return -1
}

func (c charset) has(r rune) bool {
	for i := 0; i+1 < len(c); i += 2 {
		if c[i] <= r && r <= c[i+1] {
			return true
		}
	}
	return false
}

// breaksRegexText judges a text that is matched against a pattern of which the
// audit knows that it can take for ever.
func breaksRegexText(pattern, spot, text string) string {
	if !utf8.ValidString(text) {
		text = string([]rune(text))
	}
	m := newMatcher(pattern, spot)
	switch {
	case m == nil && len(text) > 20:
		return "longer than the pattern is known to take"
	case m != nil && m.takesLong(text):
		return "the pattern goes back over it again and again"
	}
	return ""
}
