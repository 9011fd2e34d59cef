// Package percent reads percent-encoding (RFC 3986, section 2.1) where it is
// valid and says so where it is not. What becomes of the rest is its caller's
// business: each of them follows another reader (Werkzeug, Coraza, a person).
package percent

// Digit returns the value of a hexadecimal digit in either case, -1 for any
// other byte.
func Digit(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'a' <= c|0x20 && c|0x20 <= 'f':
		return int(c|0x20-'a') + 10
	}
	return -1
}

// At returns the byte that the three bytes %XX at s[i:] stand for, and false
// where they are none.
func At(s string, i int) (byte, bool) {
	if i+2 >= len(s) || s[i] != '%' {
		return 0, false
	}
	return pair(s[i+1], s[i+2])
}

// pair is apart so that the compiler can put At into its callers' loops.
func pair(hi, lo byte) (byte, bool) {
	n := Digit(hi)<<4 | Digit(lo) // -1 in either makes it negative
	return byte(n), n >= 0
}
