package attack

import (
	"compress/zlib"
	"encoding/base64"
	"io"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// forge makes cookies with leaky's own key, as anybody can who knows it.
func forge(t *testing.T, code string) string {
	t.Helper()
	c := exec.Command(filepath.Join(root, ".venv", "bin", "python"), "-c", `
import hashlib
from flask.json.tag import TaggedJSONSerializer
from flask_login.utils import encode_cookie
from itsdangerous import URLSafeTimedSerializer
def session(values, key="dev"):
    return URLSafeTimedSerializer(key, salt="cookie-session", serializer=TaggedJSONSerializer(), signer_kwargs={"key_derivation": "hmac", "digest_method": hashlib.sha1}).dumps(values)
print(`+code+`, end="")`)
	out, err := c.Output()
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// is reports whether a request with a Cookie header is that of an account.
func is(x *target, email, cookie string) bool {
	b := x.browser()
	b.http.Jar = nil
	a := b.get("/account", "Cookie", cookie)
	return a.StatusCode == 200 && strings.Contains(a.text, email)
}

const (
	admin = "admin@leaky.example"
	user  = "user@leaky.example"
)

// session returns the Cookie header of a browser.
func (b *browser) session() string {
	var all []string
	for _, c := range b.cookies("/") {
		all = append(all, c.Name+"="+c.Value)
	}
	return strings.Join(all, "; ")
}

func TestSessions(t *testing.T) {
	const adminSession = `session({"_user_id": "1", "_fresh": True, "_permanent": True})`
	suite(t, quiet, []string{"SECRET_KEY=dev"}, []attack{
		{"CWE-798 forged session", "the app's own key", []string{"session"}, func(t *testing.T, x *target) bool {
			return is(x, admin, "session="+forge(t, adminSession))
		}},
		// The same forgery from the same client is one event a minute: the one
		// before told of it.
		{"CWE-798 forged session", "under the name that the guard uses", []string{"changed"}, func(t *testing.T, x *target) bool {
			v := forge(t, adminSession)
			return is(x, admin, "__Host-session="+v+"; session="+v)
		}},
		{"CWE-798 forged session", "beside an honest one", []string{"session"}, func(t *testing.T, x *target) bool {
			b := x.browser()
			b.login(user, "password")
			return is(x, admin, "session="+forge(t, adminSession)+"; "+b.session())
		}},
		{"CWE-798 forged session", "remember token", []string{"session"}, func(t *testing.T, x *target) bool {
			return is(x, admin, "remember_token="+forge(t, `encode_cookie("1", key="dev")`))
		}},
		{"CWE-613 session that outlives its logout", "the cookies from before", []string{"session"}, func(t *testing.T, x *target) bool {
			b := x.browser()
			b.login(user, "password")
			stolen := b.session()
			if !is(x, user, stolen) {
				t.Fatal("the login did not work")
			}
			b.get("/logout")
			if is(x, user, stolen) {
				return true
			}
			// Within session.grace it may be a request that was on its way.
			time.Sleep(1200 * time.Millisecond)
			return is(x, user, stolen)
		}},
		{"CWE-613 session that outlives its logout", "answers that come after it", []string{"changed"}, func(t *testing.T, x *target) bool {
			b := x.browser()
			b.login(user, "password")
			before := b.session()
			// Requests in flight while the visitor logs out: each answer
			// renews the cookie of a permanent session.
			var wg sync.WaitGroup
			var mu sync.Mutex
			var renewed []string
			for range 12 {
				wg.Go(func() {
					other := x.browser()
					other.http.Jar = nil
					for range 4 {
						a, err := other.try("GET", "/account", "", "Cookie", before)
						if err != nil {
							continue
						}
						for _, c := range a.Cookies() {
							mu.Lock()
							renewed = append(renewed, c.Name+"="+c.Value)
							mu.Unlock()
						}
					}
				})
			}
			b.get("/logout")
			wg.Wait()
			for _, c := range append(renewed, before) {
				if is(x, user, c) {
					return true
				}
			}
			return false
		}},
		{"CWE-315 secrets in the cookie", "decoding it", []string{"changed"}, func(t *testing.T, x *target) bool {
			b := x.browser()
			b.login(user, "password")
			for _, c := range b.cookies("/") {
				if strings.Contains(decoded(c.Value), `"password":"password"`) {
					return true
				}
			}
			return false
		}},
		{"CWE-384 planted session", "a sibling subdomain sets a cookie of the same name", []string{"changed"}, func(t *testing.T, x *target) bool {
			evil := x.browser()
			evil.form("/register", "email", "evil@leaky.example", "name", "Eve", "password", "secret-of-eve")
			evil.login("evil@leaky.example", "secret-of-eve")
			victim := x.browser()
			victim.login(user, "password")
			var planted []string
			for _, c := range evil.cookies("/") {
				// What a sibling can set has no prefix.
				planted = append(planted, strings.TrimPrefix(c.Name, "__Host-")+"="+c.Value)
			}
			return is(x, "evil@leaky.example", strings.Join(planted, "; ")+"; "+victim.session())
		}},
		{"CWE-1004 cookie that scripts can read", "flags", []string{"changed"}, func(t *testing.T, x *target) bool {
			b := x.browser()
			a := b.login(user, "password")
			for _, line := range a.Header["Set-Cookie"] {
				l := strings.ToLower(line)
				if !strings.Contains(l, "httponly") || !strings.Contains(l, "secure") || !strings.Contains(l, "samesite=") {
					return true
				}
			}
			return len(a.Header["Set-Cookie"]) == 0
		}},
	})
}

// decoded returns what anybody can read of a cookie of Flask's.
func decoded(v string) string {
	packed := strings.HasPrefix(v, ".")
	part, _, _ := strings.Cut(strings.TrimPrefix(v, "."), ".")
	b, err := base64.RawURLEncoding.DecodeString(part)
	if err != nil {
		return ""
	}
	if packed {
		z, err := zlib.NewReader(strings.NewReader(string(b)))
		if err != nil {
			return ""
		}
		b, _ = io.ReadAll(io.LimitReader(z, 1<<20))
	}
	return string(b)
}

func TestCSRF(t *testing.T) {
	// review posts a review in the name of a visitor who has logged in, as
	// another site's page would have his browser do.
	review := func(way string, stoppedBy string, header func(x *target) []string) attack {
		text := "planted by " + strings.ReplaceAll(way, " ", "-")
		return attack{"CWE-352 cross-site request forgery", way, []string{stoppedBy}, func(t *testing.T, x *target) bool {
			b := x.browser()
			b.login(user, "password")
			b.do("POST", "/product/1/review", query("text", text), header(x)...)
			return strings.Contains(x.browser().get("/product/1").text, text)
		}}
	}
	fixed := func(header ...string) func(*target) []string { return func(*target) []string { return header } }
	suite(t, quiet, []string{"SECRET_KEY=dev"}, []attack{
		review("another site", "csrf", fixed("Origin", "https://evil.example", "Sec-Fetch-Site", "cross-site")),
		review("a sibling", "csrf", fixed("Origin", "https://evil.localhost", "Sec-Fetch-Site", "same-site")),
		review("a sandboxed frame", "csrf", fixed("Origin", "null", "Sec-Fetch-Site", "cross-site")),
		review("an old browser", "csrf", fixed("Origin", "", "Sec-Fetch-Site", "")),
		review("an old browser with a referrer", "csrf", fixed("Origin", "", "Sec-Fetch-Site", "", "Referer", "https://evil.example/")),
		review("our name as a prefix", "csrf", func(x *target) []string { return []string{"Origin", x.url + ".evil.example", "Sec-Fetch-Site", ""} }),
		review("our name as a user name", "csrf", func(x *target) []string {
			return []string{"Origin", strings.Replace(x.url, "://", "://evil@", 1), "Sec-Fetch-Site", ""}
		}),
		review("our name, another scheme", "csrf", func(x *target) []string {
			if x.guarded {
				return []string{"Origin", strings.Replace(x.url, "https:", "http:", 1), "Sec-Fetch-Site", ""}
			}
			return []string{"Origin", strings.Replace(x.url, "http:", "https:", 1)}
		}),
		review("two origins", "request", func(x *target) []string {
			return []string{"Origin", x.url, "Origin", "https://evil.example", "Sec-Fetch-Site", ""}
		}),
		review("an origin in other letters", "csrf", fixed("origin", "https://evil.example", "Origin", "", "Sec-Fetch-Site", "")),
		{"CWE-352 cross-site request forgery", "an image that changes the address", []string{"csrf"}, func(t *testing.T, x *target) bool {
			b := x.browser()
			b.form("/register", "email", "victim@leaky.example", "name", "Vic", "password", "secret-of-vic")
			b.login("victim@leaky.example", "secret-of-vic")
			b.get("/account/email?"+query("email", "taken@evil.example"), "Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "no-cors", "Sec-Fetch-Dest", "image")
			return strings.Contains(b.get("/account").text, "taken@evil.example")
		}},
	})
}

func TestExposure(t *testing.T) {
	public := func(way, path string, after func(answer) bool) attack {
		return attack{"CWE-489 what is meant for development", way, []string{"never-public"}, func(t *testing.T, x *target) bool {
			return after(x.browser().get(path))
		}}
	}
	suite(t, quiet+"[settings]\nmask = \"enforce\"\n", []string{"SECRET_KEY=dev"}, []attack{
		public("console of the debugger", "/console", holds("Interactive Console")),
		public("in other letters", "/%63onsole", holds("Interactive Console")),
		public("resources of the debugger", "/?__debugger__=yes&cmd=resource&f=debugger.js", func(a answer) bool { return a.StatusCode == 200 && strings.Contains(a.text, "docReady") }),
		{"CWE-209 traceback", "an error", []string{"mask"}, func(t *testing.T, x *target) bool {
			a := x.browser().get("/api/orders")
			return strings.Contains(a.text, "Traceback")
		}},
		{"CWE-200 headers that tell", "versions", []string{"changed"}, func(t *testing.T, x *target) bool {
			h := x.browser().get("/").Header
			return h.Get("X-Powered-By") != "" || strings.Contains(strings.ToLower(h.Get("Server")), "gunicorn")
		}},
		{"CWE-1021 framing", "the app's own header", []string{"changed"}, func(t *testing.T, x *target) bool {
			h := x.browser().get("/").Header
			return h.Get("X-Frame-Options") != "DENY" && h.Get("X-Frame-Options") != "SAMEORIGIN"
		}},
		{"CWE-942 everybody may read with cookies", "another site's script", []string{"changed"}, func(t *testing.T, x *target) bool {
			h := x.browser().get("/api/products", "Origin", "https://evil.example", "Sec-Fetch-Site", "cross-site").Header
			return h.Get("Access-Control-Allow-Credentials") == "true"
		}},
		{"CWE-749 a method nobody needs", "TRACE", []string{"request", "routes"}, func(t *testing.T, x *target) bool {
			a := x.browser().do("TRACE", "/", "", "Origin", "")
			return a.StatusCode == http.StatusOK || a.StatusCode == http.StatusMethodNotAllowed && !x.guarded
		}},
	})
}
