package pysyntax

import (
	"bytes"
	"fmt"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/htmlindex"
)

// problem is an error before its position is known in lines and columns.
type problem struct {
	pos uint32
	msg string
}

// decode returns the source as UTF-8, by its byte order mark or its encoding
// declaration (PEP 263). What does not decode is read as Latin-1, which
// gives every byte a character, and noted.
func decode(src []byte) (text []byte, problems []problem) {
	if bytes.HasPrefix(src, []byte(bom)) {
		text, problems = utf8Or(src, "UTF-8, which the byte order mark says it is")
		name, pos := cookie(src[len(bom):])
		if key := strings.ReplaceAll(strings.ToLower(name), "_", "-"); key != "" && key != "utf-8" && !strings.HasPrefix(key, "utf-8-") {
			problems = append(problems, problem{pos + uint32(len(bom)), fmt.Sprintf("the byte order mark says UTF-8, the comment %q", name)})
		}
		return text, problems
	}
	name, pos := cookie(src)
	note := func(format string, args ...any) {
		problems = append(problems, problem{pos, fmt.Sprintf(format, args...)})
	}
	switch key := strings.ReplaceAll(strings.ToLower(name), "_", "-"); {
	case name == "":
		return utf8Or(src, "UTF-8, and no other encoding is declared")
	case key == "utf-8" || key == "utf8" || strings.HasPrefix(key, "utf-8-"):
		return utf8Or(src, "UTF-8, which is declared")
	case key == "ascii" || key == "us-ascii":
		if i := bytes.IndexFunc(src, func(r rune) bool { return r >= utf8.RuneSelf }); i >= 0 {
			pos = uint32(i)
			note("this byte is not ASCII, which is declared")
		}
		text, _ = utf8Or(src, "")
		return text, problems
	default:
		enc := lookupEncoding(key)
		if enc == nil {
			note("unknown encoding %q, read as Latin-1", name)
			return latin1(src), problems
		}
		text, err := enc.NewDecoder().Bytes(src)
		if err != nil || !utf8.Valid(text) {
			note("the source is not %s, which is declared", name)
			return latin1(src), problems
		}
		if bytes.ContainsRune(text, utf8.RuneError) {
			note("some bytes are not %s, which is declared", name)
		}
		return text, problems
	}
}

// lookupEncoding finds an encoding by Python's name for it, or returns nil.
func lookupEncoding(key string) encoding.Encoding {
	switch key {
	case "latin-1", "latin1", "iso-8859-1", "iso8859-1", "l1":
		return charmap.ISO8859_1 // the HTML index would give windows-1252
	case "iso-8859-9", "iso8859-9", "latin-5", "latin5":
		return charmap.ISO8859_9
	}
	for _, family := range [...][2]string{
		{"iso8859-", "iso-8859-"}, {"iso-latin-", "latin"}, {"latin-", "latin"},
		{"cp125", "windows-125"}, {"cp932", "shift_jis"}, {"cp936", "gbk"}, {"cp949", "euc-kr"}, {"cp950", "big5"},
		{"cp866", "ibm866"}, {"eucjp", "euc-jp"}, {"euckr", "euc-kr"}, {"sjis", "shift_jis"}, {"shift-jis", "shift_jis"},
	} {
		if rest, ok := strings.CutPrefix(key, family[0]); ok {
			key = family[1] + rest
			break
		}
	}
	enc, err := htmlindex.Get(key)
	if err != nil {
		return nil
	}
	// Encodings in which ASCII bytes mean something else, or which stand for
	// "undecodable": an attacker could hide code in them, Python has no such
	// source encodings, and so the bytes are shown as they are.
	switch name, _ := htmlindex.Name(enc); name {
	case "replacement", "x-user-defined", "utf-16be", "utf-16le", "utf-8":
		return nil
	}
	return enc
}

// utf8Or returns src if it is UTF-8. Otherwise the bytes that are not become
// the Latin-1 characters of the same value.
func utf8Or(src []byte, what string) ([]byte, []problem) {
	if utf8.Valid(src) {
		return src, nil
	}
	var problems []problem
	out := make([]byte, 0, len(src)+len(src)/8)
	for i := 0; i < len(src); {
		r, n := utf8.DecodeRune(src[i:])
		if r == utf8.RuneError && n == 1 {
			if problems == nil {
				problems = []problem{{uint32(len(out)), "this byte is not " + what}}
			}
			r = rune(src[i])
		}
		out = utf8.AppendRune(out, r)
		i += n
	}
	return out, problems
}

func latin1(src []byte) []byte {
	out := make([]byte, 0, len(src)+len(src)/8)
	for _, c := range src {
		out = utf8.AppendRune(out, rune(c))
	}
	return out
}

// cookie returns the encoding that a comment in one of the first two lines
// declares, and where. The second line counts only below a blank line or
// comment.
func cookie(src []byte) (name string, pos uint32) {
	off := 0
	for range 2 {
		line := src[off:]
		end := bytes.IndexAny(line, "\r\n")
		next := end + 1
		if end < 0 {
			end, next = len(line), len(line)
		} else if line[end] == '\r' && next < len(line) && line[next] == '\n' {
			next++
		}
		line = line[:end]
		blank := bytes.TrimLeft(line, " \t\f")
		if len(blank) > 0 && blank[0] != '#' {
			return "", 0
		}
		rest := blank
		for {
			i := bytes.Index(rest, []byte("coding"))
			if i < 0 {
				break
			}
			rest = rest[i+len("coding"):]
			if len(rest) == 0 || rest[0] != ':' && rest[0] != '=' {
				continue
			}
			value := bytes.TrimLeft(rest[1:], " \t")
			n := 0
			for n < len(value) && n < 64 && (value[n] == '-' || value[n] == '_' || value[n] == '.' || isAlnum(value[n])) {
				n++
			}
			if n > 0 {
				return string(value[:n]), uint32(off + end - len(value))
			}
		}
		off += next
	}
	return "", 0
}

func isAlnum(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c|0x20 && c|0x20 <= 'z'
}
