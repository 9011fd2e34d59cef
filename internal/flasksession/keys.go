package flasksession

import (
	"bytes"
	_ "embed"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
)

const (
	// minKeyBytes is the shortest key accepted: 128 bits if it is random.
	minKeyBytes = 16
	// minKeyBits is the least entropy, as estimated here, that a key must
	// have. Sixteen random bytes, or sixteen random letters and digits, reach
	// 55 and more.
	minKeyBits = 48
)

// WeakKey says why a signing key can be guessed, as the end of a sentence that
// starts with the key's name; it is empty for a key that looks random. The
// answer never quotes the key.
//
// It is a judgement by appearance. A key that looks random may still be
// published somewhere; a long passphrase of unrelated words passes.
func WeakKey(key string) string {
	if len(key) < minKeyBytes {
		if published()[squeeze(key)] {
			return fmt.Sprintf("is a published key (%d bytes)", len(key))
		}
		return fmt.Sprintf("is %d bytes long: at least %d, made at random", len(key), minKeyBytes)
	}
	s := squeeze(key)
	// A random binary key may hold two letters by chance; a number behind a
	// known key makes it no better.
	if len(s)*2 >= len(key) && (published()[s] || published()[strings.TrimRight(s, "0123456789")]) {
		return "is a published key: it stands in tutorials or default settings"
	}
	if p := period(key); p <= len(key)/2 && p < minKeyBytes {
		return "repeats itself"
	}
	if runs(key) {
		return "follows the alphabet, the digits or the keyboard"
	}
	if Entropy(key) < minKeyBits {
		return "uses too few different characters"
	}
	// Words say nothing that a word list does not know: what remains without
	// them must carry the key alone.
	if rest, words := withoutWords(key); words*2 >= len(key) && Entropy(rest) < minKeyBits {
		return "is made of words that people use for keys"
	}
	return ""
}

//go:embed weakkeys.txt
var weakKeys string

// published is the set of known keys, squeezed.
var published = sync.OnceValue(func() map[string]bool {
	m := map[string]bool{}
	for line := range strings.Lines(weakKeys) {
		line = strings.TrimRight(line, "\r\n")
		if line == "" || strings.HasPrefix(line, "# ") {
			continue
		}
		m[squeeze(line)] = true
		// A Python literal is a key twice: as it is written, for those who
		// copied it into .env, and as what it means.
		if text, err := strconv.Unquote(`"` + strings.ReplaceAll(line, `"`, `\"`) + `"`); err == nil {
			m[squeeze(text)] = true
		}
	}
	delete(m, "")
	return m
})

// squeeze leaves letters and digits, in lower case.
func squeeze(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case 'a' <= r && r <= 'z', '0' <= r && r <= '9':
			return r
		case 'A' <= r && r <= 'Z':
			return r + 'a' - 'A'
		}
		return -1
	}, s)
}

// Entropy is Shannon's, over the bytes of s, times their number: an upper
// bound of what s can hold, in bits.
func Entropy(s string) float64 {
	var n [256]int
	for _, c := range []byte(s) {
		n[c]++
	}
	bits := 0.0
	for _, k := range n {
		if k > 0 {
			bits -= float64(k) * math.Log2(float64(k)/float64(len(s)))
		}
	}
	return bits
}

// period returns the length of the shortest string whose repetition s is (the
// last one may be cut), by the failure function of Knuth, Morris and Pratt.
func period(s string) int {
	fail := make([]int, len(s)+1)
	k := 0
	for i := 1; i < len(s); i++ {
		for k > 0 && s[i] != s[k] {
			k = fail[k]
		}
		if s[i] == s[k] {
			k++
		}
		fail[i+1] = k
	}
	return len(s) - fail[len(s)]
}

// keyboards are the orders in which fingers and people run.
var keyboards = []string{"abcdefghijklmnopqrstuvwxyz", "01234567890", "qwertyuiop", "asdfghjkl", "zxcvbnm", "qwertzuiop", "azertyuiop", "1qaz2wsx3edc4rfv5tgb6yhn7ujm8ik9ol"}

// runs reports whether most neighbouring characters of s are neighbours in
// the alphabet, among the digits or on a keyboard, or equal.
func runs(s string) bool {
	s = strings.ToLower(s)
	next := 0
	for i := 1; i < len(s); i++ {
		pair := s[i-1 : i+1]
		if pair[0] == pair[1] || slices.ContainsFunc(keyboards, func(k string) bool {
			return strings.Contains(k, pair) || strings.Contains(k, string([]byte{pair[1], pair[0]}))
		}) {
			next++
		}
	}
	// Random hex has one such pair in five; three of four never come by chance.
	return next*4 >= (len(s)-1)*3
}

// keyWords are what people write when a key is asked for, longest first.
var keyWords = func() []string {
	w := strings.Fields(`
		a an and any anything app application admin always api auth backend base be blog by can cannot cant change changed changeit
		changeme changethis chars character characters code complex config cookie database debug default demo dev develop developer
		development django do does dont dummy encryption enter environment env ever example extremely fake fallback flask flaskr flasky foo
		bar for from generate generated goes guess guessed guessing guessable hard has have hello here hidden i in insecure
		insert instead is it jwt keep key keys known later local long love me minimum must my mysecret name need needs never new no
		nobody not of on one only or original our own pass passphrase password people phrase placeholder please pls precious
		private prod production project public put python random randomly real really replace require required safe salt sample
		secret secretkey secrets secure security server session set shall should signing site some somebody something staging
		store string strong super supersecret sure tell temp temporary test testing than that the their them then they thing this time to token
		top tutorial unguessable unique unsafe unsecure url use used user using value var very web website will with word words work world
		would you your yours yourself wont cryptographically ultra mega shop store todo fixme xxx abc qwerty asdf letmein welcome hunter2
		s3cr3t s3cret secr3t k3y p4ssw0rd passw0rd p@ssw0rd ch4ng3m3 123456789 12345678 1234567 123456 12345 1234 123 2019 2020 2021 2022 2023 2024 2025 2026`)
	slices.SortFunc(w, func(a, b string) int { return len(b) - len(a) })
	return slices.Compact(w)
}()

// withoutWords takes the words that people use for keys out of s, separators
// too, and returns how many bytes that were. Words of up to three letters
// count only with nothing but separators around them: they occur in random
// text too.
func withoutWords(s string) (rest string, words int) {
	lower := []byte(s)
	for i, c := range lower {
		if 'A' <= c && c <= 'Z' { // byte by byte: strings.ToLower changes lengths
			lower[i] = c + 'a' - 'A'
		}
	}
	alnum := func(i int) bool {
		return i >= 0 && i < len(lower) && ('a' <= lower[i] && lower[i] <= 'z' || '0' <= lower[i] && lower[i] <= '9')
	}
	for _, w := range keyWords {
		for from := 0; ; {
			i := bytes.Index(lower[from:], []byte(w))
			if i < 0 {
				break
			}
			i += from
			from = i + 1
			if len(w) < 4 && (alnum(i-1) || alnum(i+len(w))) {
				continue
			}
			copy(lower[i:], bytes.Repeat([]byte{' '}, len(w)))
		}
	}
	var b strings.Builder
	for i, c := range []byte(s) {
		if lower[i] == ' ' || c == '-' || c == '_' || c == '.' {
			words++
			continue
		}
		b.WriteByte(c)
	}
	return b.String(), words
}

// Published returns the published keys in the spellings in which people copy
// them: what somebody tries who wants to sign a session of his own. The caller
// must not change the list.
var Published = sync.OnceValue(func() []string {
	seen := map[string]bool{}
	var out []string
	add := func(k string) {
		if k != "" && !seen[k] {
			seen[k] = true
			out = append(out, k)
		}
	}
	for line := range strings.Lines(weakKeys) {
		line = strings.TrimRight(line, "\r\n")
		if line == "" || strings.HasPrefix(line, "# ") {
			continue
		}
		add(line)
		add(strings.Trim(line, `"'`))
		for _, s := range []string{line, strings.TrimSuffix(strings.TrimPrefix(line, "b'"), "'")} {
			if text, err := strconv.Unquote(`"` + strings.ReplaceAll(s, `"`, `\"`) + `"`); err == nil {
				add(text)
			}
		}
		words := strings.FieldsFunc(line, func(r rune) bool { return r == ' ' || r == '-' || r == '_' })
		for _, sep := range []string{" ", "-", "_", ""} {
			joined := strings.Join(words, sep)
			for _, k := range []string{joined, strings.ToLower(joined), strings.ToUpper(joined), capital(joined)} {
				add(k)
				add(k + "!")
			}
		}
		title := make([]string, len(words))
		for i, w := range words {
			title[i] = capital(w)
		}
		for _, sep := range []string{" ", "", "_"} {
			add(strings.Join(title, sep))
		}
	}
	return out
})

func capital(s string) string {
	if s == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:]
}
