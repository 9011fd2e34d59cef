package pysyntax

import (
	"bufio"
	"encoding/hex"
	"fmt"
	"math"
	"math/rand/v2"
	"os/exec"
	"strings"
	"testing"
)

// evalPy evaluates a literal in hexadecimal on each line of standard input.
// It answers "s hex", "b hex", "i decimal", "f repr", "j repr" or "!".
const evalPy = `
import ast, sys, warnings
warnings.simplefilter("ignore")
sys.set_int_max_str_digits(0) if hasattr(sys, "set_int_max_str_digits") else None
for line in sys.stdin:
    try:
        src = bytes.fromhex(line).decode()
        v = None if isinstance(ast.parse(src, mode="eval").body, ast.BinOp) else ast.literal_eval(src)
    except Exception:
        print("!"); continue
    if v is None: print("!")
    elif isinstance(v, str): print("s", v.encode("utf-8", "surrogatepass").hex())
    elif isinstance(v, bytes): print("b", v.hex())
    elif isinstance(v, int): print("i", v)
    elif isinstance(v, float): print("f", v.hex())
    else: print("j", v.imag.hex())
`

// value gives the answer of evalPy for the only expression of a source, or
// "!" if this package does not know it.
func value(src string) string {
	f := Parse("x.py", []byte(src))
	if len(f.Errors) > 0 || len(f.Body()) != 1 {
		return "!"
	}
	id := f.Value(f.Body()[0])
	if s, ok := f.StringValue(id); ok {
		return strings.TrimSpace("s " + hex.EncodeToString([]byte(s)))
	}
	if b, ok := f.BytesValue(id); ok {
		return strings.TrimSpace("b " + hex.EncodeToString(b))
	}
	n, ok := f.NumValue(id)
	switch {
	case !ok:
		return "!"
	case n.Int != nil:
		return "i " + n.Int.String()
	case n.Imag:
		return fmt.Sprintf("j %x", n.Float)
	}
	return fmt.Sprintf("f %x", n.Float)
}

// literals makes up string, bytes and number literals.
func literals(r *rand.Rand, n int) []string {
	pick := func(from []string) string { return from[r.IntN(len(from))] }
	prefixes := []string{"", "", "", "r", "R", "u", "U", "b", "B", "br", "Rb", "bR"}
	pieces := []string{
		"a", "b", " ", "é", "€", "😀", "{", "}", "#", "'", `"`, `''`, `""`, "0", "7", "8", "f", "\t", "\f",
		`\`, `\\`, `\'`, `\"`, `\n`, `\r`, `\t`, `\a`, `\b`, `\f`, `\v`, `\0`, `\7`, `\12`, `\377`, `\777`, `\1234`, `\8`, `\9`,
		`\x`, `\x4`, `\x41`, `\xe9`, `\xZZ`, `\u`, `\u00e9`, `\u20`, `\ud800`, `\udc00`, `\ud83d\ude00`, `\U0001f600`, `\U00110000`, `\UFFFFFFFF`,
		`\N`, `\N{`, `\N{}`, `\N{BULLET}`, `\N{bullet}`, `\N{Latin Small Letter A With Diaeresis}`, `\N{LF}`, `\N{NBSP}`, `\N{no such name}`,
		`\N{HANGUL SYLLABLE GAG}`, `\N{CJK UNIFIED IDEOGRAPH-4E00}`, `\N{CJK UNIFIED IDEOGRAPH-0041}`, `\N{GREEK SMALL LETTER ALPHA}`,
		"\\\n", "\n", "\r\n", "\\\r\n", "\r", `\q`, `\{`, `\ `, `\€`, `\%`,
	}
	join := []string{" ", "", "  ", "\\\n", "\n", " # comment ' \"\n", "\t"}
	one := func() string {
		q := pick([]string{"'", `"`, "'''", `"""`})
		var b strings.Builder
		for range r.IntN(6) {
			b.WriteString(pick(pieces))
		}
		return pick(prefixes) + q + b.String() + q
	}
	digits := []string{"0", "1", "9", "7", "a", "F", "_", "__", "x", "X", "o", "b", ".", "e", "E", "e+1", "E-3", "j", "J", "00", "10", "123456789", "99999999999999999999"}
	var out []string
	for range n {
		switch r.IntN(4) {
		case 0:
			var b strings.Builder
			b.WriteString(pick([]string{"0", "1", "0x", "0o", "0b", "12", ".5", "0X1"}))
			for range r.IntN(5) {
				b.WriteString(pick(digits))
			}
			out = append(out, b.String())
		case 1:
			parts := []string{one()}
			for range 1 + r.IntN(2) {
				parts = append(parts, pick(join), one())
			}
			out = append(out, "("+strings.Join(parts, "")+"\n)")
		default:
			out = append(out, one())
		}
	}
	return out
}

// TestLiteralsCPython decodes made-up literals as CPython does.
func TestLiteralsCPython(t *testing.T) {
	python, _ := python(t)
	r := rand.New(rand.NewPCG(1, 2))
	srcs := literals(r, 60_000)
	srcs = append(srcs,
		"1e400", "1e-400", "0.0", "0_0", "00", "0e0", "1_000.5_0", "1e1_0", "0x_ff", "1__0", "1_", "0777", "0o777", "0b2", "1j", "1.j", ".5J", "09.5", "09", "09j",
		"123456789012345678901234567890", "5e-324", "1.7976931348623157e308", "0.1", "1if", "1 if 1 else 2",
		`'\N{LATIN SMALL LETTER SHARP S}'`, `'\N{HANGUL SYLLABLE HIH}'`, `'\N{HANGUL SYLLABLE A}'`, `'\N{CJK UNIFIED IDEOGRAPH-20000}'`, `'\N{VARIATION SELECTOR-17}'`,
		`'\N{TANGUT IDEOGRAPH-17000}'`, `'\N{BELL}'`, `'\N{CJK COMPATIBILITY IDEOGRAPH-2F800}'`, `'\N{SPACE}'`, `'\N{space }'`,
		`b'\u0041' b'\N{x}'`, `b'é'`, `'a' b'b'`, `b'a' 'b'`, `u'a' r'b'`, `ur'a'`, `''`, `b""`, "'''a\r\nb\rc'''", "r'''a\r\nb\rc\\\r\n'''",
	)
	var in strings.Builder
	for _, s := range srcs {
		fmt.Fprintf(&in, "%x\n", s)
	}
	cmd := exec.CommandContext(t.Context(), python, "-c", evalPy)
	cmd.Stdin = strings.NewReader(in.String())
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	kinds := map[byte]int{}
	bad := 0
	sc := bufio.NewScanner(strings.NewReader(string(out)))
	for i := 0; sc.Scan(); i++ {
		want, got := strings.TrimSpace(sc.Text()), value(srcs[i])
		kinds[want[0]]++
		if (want[0] == 'f' || want[0] == 'j') && len(got) > 0 && got[0] == want[0] {
			var a, b float64
			fmt.Sscanf(got[2:], "%g", &a)
			if strings.HasSuffix(want, "inf") {
				b = math.Inf(1)
			} else {
				fmt.Sscanf(want[2:], "%g", &b)
			}
			if strings.Contains(got, "Inf") {
				a = math.Inf(1)
			}
			if a == b {
				continue
			}
		}
		if got != want {
			if bad++; bad <= 20 {
				t.Errorf("%q\ngot  %s\nwant %s", srcs[i], got, want)
			}
		}
	}
	t.Logf("%d literals: %v, %d differ", len(srcs), kinds, bad)
	for _, k := range []byte("sbif!") {
		if kinds[k] < 100 {
			t.Errorf("only %d of kind %c", kinds[k], k)
		}
	}
}
