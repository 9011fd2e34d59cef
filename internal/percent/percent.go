// Package percent reads percent-encoding (RFC 3986, section 2.1) where it is
// valid and says so where it is not. What becomes of the rest is its caller's
// business: each of them follows another reader (Werkzeug, Coraza, a person).
package percent

// values holds what each byte is worth as a hexadecimal digit, -1 for nothing:
// a table, so that the compiler puts both functions into its callers' loops.
var values = func() (t [256]int8) {
	for c := range t {
		switch {
		case '0' <= c && c <= '9':
			t[c] = int8(c - '0')
		case 'a' <= c|0x20 && c|0x20 <= 'f':
			t[c] = int8(c|0x20-'a') + 10
		default:
			t[c] = -1
		}
	}
	return t
}()

// Digit returns the value of a hexadecimal digit in either case, -1 for any
// other byte.
func Digit(c byte) int { return int(values[c]) }

// At returns the byte that the three bytes %XX at s[i:] stand for, and false
// where they are none.
func At(s string, i int) (byte, bool) {
	if i+2 >= len(s) || s[i] != '%' {
		return 0, false
	}
	n := values[s[i+1]]<<4 | values[s[i+2]]
	return byte(n), values[s[i+1]]|values[s[i+2]] >= 0
}
