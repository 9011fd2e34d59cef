package attack

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// guesses are passwords, the right one late among them.
func guesses(n, right int, password string) []string {
	var out []string
	for i := range n {
		if i == right {
			out = append(out, password)
		} else {
			out = append(out, fmt.Sprintf("guess-%d", i))
		}
	}
	return out
}

// limits are the defaults of the guard but for bans, which would hide what the
// other layers do, and the challenge's page, which no attack here answers.
const limits = `[abuse]
bans = "off"
login-delay = "0s"
[session]
seal = "enforce"
[headers]
csp-mode = "enforce"
`

func TestGuessing(t *testing.T) {
	slow := []string{"login", "rate-limit"}
	in := func(a answer) bool { return a.StatusCode == http.StatusFound && a.Header.Get("Location") == "/" }
	suite(t, limits, []string{"SECRET_KEY=dev"}, []attack{
		{"CWE-307 guessing a password", "one client", slow, func(t *testing.T, x *target) bool {
			b := x.browser()
			for _, p := range guesses(120, 100, "password") {
				if in(b.login(user, p)) {
					return true
				}
			}
			return false
		}},
		{"CWE-307 guessing a password", "addresses made up in headers", slow, func(t *testing.T, x *target) bool {
			for i, p := range guesses(120, 100, "password") {
				b := x.browser()
				addr := fmt.Sprintf("198.51.100.%d", i)
				if !x.guarded {
					addr = "127.0.0.1" // leaky believes it, and is for this machine only
				}
				if in(b.do("POST", "/login", query("email", user, "password", p), "X-Forwarded-For", addr, "X-Real-Ip", addr, "Forwarded", "for="+addr, "True-Client-Ip", addr)) {
					return true
				}
			}
			return false
		}},
		{"CWE-307 guessing a password", "a hundred at once", slow, func(t *testing.T, x *target) bool {
			var found atomic.Bool
			var wg sync.WaitGroup
			work := make(chan string)
			for range 25 {
				b := x.browser()
				wg.Go(func() {
					for p := range work {
						if a, err := b.try("POST", "/login", query("email", admin, "password", p)); err == nil && in(a) {
							found.Store(true)
						}
					}
				})
			}
			for _, p := range guesses(150, 120, "admin") {
				work <- p
			}
			close(work)
			wg.Wait()
			return found.Load()
		}},
		{"CWE-307 guessing a password", "the interface for programs", slow, func(t *testing.T, x *target) bool {
			b := x.browser()
			for _, p := range guesses(120, 100, "password") {
				if a := b.do("POST", "/api/token", fmt.Sprintf(`{"email": %q, "password": %q}`, user, p), "Content-Type", "application/json"); a.StatusCode == 200 {
					return true
				}
			}
			return false
		}},
		{"CWE-307 guessing a password", "other letters of the path", slow, func(t *testing.T, x *target) bool {
			b := x.browser()
			for _, p := range guesses(120, 100, "password") {
				if a := b.do("POST", "/%6cogin", query("email", user, "password", p)); in(a) {
					return true
				}
			}
			return false
		}},
		{"CWE-640 guessing a reset code", "four digits", slow, func(t *testing.T, x *target) bool {
			x.browser().form("/register", "email", "forgot@leaky.example", "name", "F", "password", "forgotten-1")
			b := x.browser()
			b.form("/reset", "email", "forgot@leaky.example", "password", "")
			// A wrong code makes a new one: any guess has one chance in 9,000
			// on the bare app, so the attack is counted by how many it may
			// make.
			tried := 0
			for range 300 {
				a := b.form("/reset", "email", "forgot@leaky.example", "code", "1234", "password", "taken-over")
				if a.StatusCode == 200 && strings.Contains(a.text, "on its way") {
					tried++
				}
			}
			return tried > 250
		}},
		{"CWE-799 one password for many accounts", "spraying", slow, func(t *testing.T, x *target) bool {
			b := x.browser()
			for i := range 120 {
				name := fmt.Sprintf("user%d@leaky.example", i)
				if i == 100 {
					name = user
				}
				if in(b.login(name, "password")) {
					return true
				}
			}
			return false
		}},
	})
}
