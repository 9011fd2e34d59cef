package attack

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
)

// quiet are settings under which only what the attack is about refuses: one
// client sends all of them, and a ban after the tenth would hide the rest.
const quiet = `[abuse]
rate = "off"
sensitive-rate = "off"
bans = "off"
login = "off"
[injection]
patch-from = "medium"
[session]
seal = "enforce"
grace = "1s"
[headers]
csp-mode = "enforce"
`

// inspected are the layers that know what a value would become.
var inspected = []string{"waf", "parameters", "virtual-patches"}

var md5Hash = regexp.MustCompile(`\b[0-9a-f]{32}\b`)

// get returns an attack by one GET, which succeeds if the answer holds what it
// is after.
func get(weakness, way, path string, values []string, after func(answer) bool, header ...string) attack {
	return attack{weakness, way, inspected, func(t *testing.T, x *target) bool {
		return after(x.browser().get(path+"?"+query(values...), header...))
	}}
}

func holds(text string) func(answer) bool {
	return func(a answer) bool { return a.StatusCode == 200 && strings.Contains(a.text, text) }
}

func TestInjection(t *testing.T) {
	passwords := func(a answer) bool { return md5Hash.MatchString(a.text) }
	const union = "' UNION SELECT id, password_hash, 0 FROM user --"
	all := []attack{
		get("CWE-89 SQL injection", "union", "/", []string{"q", union}, passwords),
		get("CWE-89 SQL injection", "comments for spaces", "/", []string{"q", "'/**/UNION/**/SELECT/**/id,password_hash,0/**/FROM/**/user/**/--"}, passwords),
		get("CWE-89 SQL injection", "mixed case, tabs and line breaks", "/", []string{"q", "'\tuNiOn\nsElEcT\nid,\npassword_hash,0\tFrOm\nuser--"}, passwords),
		get("CWE-89 SQL injection", "the parameter twice, the first counts", "/", []string{"q", union, "q", "tea"}, passwords),
		get("CWE-89 SQL injection", "without blanks", "/", []string{"q", "'union select(id),(password_hash),(0)from(user)--"}, passwords),
		get("CWE-89 SQL injection", "behind 8,000 bytes of padding", "/", []string{"q", union + strings.Repeat(" tea", 1500)}, passwords),
		{"CWE-89 SQL injection", "percent signs for every byte", inspected, func(t *testing.T, x *target) bool {
			var b strings.Builder
			for _, c := range []byte(union) {
				fmt.Fprintf(&b, "%%%02x", c)
			}
			return passwords(x.browser().get("/?q=" + b.String()))
		}},
		{"CWE-89 SQL injection", "HTTP/1.1 with a body on GET", inspected, func(t *testing.T, x *target) bool {
			b := x.browser()
			b.http.Transport.(*http.Transport).ForceAttemptHTTP2 = false
			return passwords(b.do("GET", "/?"+query("q", union), "a=1", "Content-Type", "application/x-www-form-urlencoded"))
		}},
		get("CWE-79 cross-site scripting", "script", "/desk/hello", []string{"name", "<script>alert(1)</script>"}, holds("<script>alert(1)")),
		get("CWE-79 cross-site scripting", "event handler without blanks", "/desk/hello", []string{"name", "<svg/onload=alert(1)>"}, holds("<svg/onload=alert(1)>")),
		get("CWE-79 cross-site scripting", "odd tag and entity", "/desk/hello", []string{"name", "<a/href=\"j&#x61;vascript:alert(1)\">x"}, holds("j&#x61;vascript:")),
		get("CWE-79 cross-site scripting", "into a template literal", "/desk/", []string{"topic", "${alert(1)}"}, holds("`${alert(1)}`")),
		get("CWE-1336 template injection", "config", "/tools/greet", []string{"name", "{{ config }}"}, holds("SECRET_KEY")),
		get("CWE-1336 template injection", "attributes by subscript", "/tools/greet", []string{"name", "{{ ''['__cla'~'ss__'] }}"}, holds("class &#39;str&#39;")),
		get("CWE-1336 template injection", "statement", "/tools/greet", []string{"name", "{% if 1 %}in{% endif %}jected"}, holds("injected")),
		get("CWE-95 code injection", "import", "/tools/calculate", []string{"sum", "__import__('os').getpid()"}, func(a answer) bool { return a.StatusCode == 200 }),
		get("CWE-95 code injection", "without a name in quotes", "/tools/calculate", []string{"sum", "[c for c in ().__class__.__base__.__subclasses__()][0].__name__"}, func(a answer) bool { return a.StatusCode == 200 }),
		get("CWE-22 path traversal", "dots", "/tools/manual", []string{"file", "../../../../../../../../etc/passwd"}, holds("root:")),
		get("CWE-22 path traversal", "absolute", "/tools/manual", []string{"file", "/etc/passwd"}, holds("root:")),
		get("CWE-22 path traversal", "the app's own source", "/tools/manual", []string{"file", "../leaky/config.py"}, holds("PAYMENT_API_KEY")),
		get("CWE-22 path traversal", "a device of the system", "/tools/manual", []string{"file", "/etc/../etc/./hostname"}, func(a answer) bool { return a.StatusCode == 200 }),
		get("CWE-601 open redirect", "another site", "/tools/go", []string{"to", "https://evil.example/"}, redirects),
		get("CWE-601 open redirect", "without a scheme", "/tools/go", []string{"to", "//evil.example/"}, redirects),
		{"CWE-502 deserialisation", "YAML", inspected, func(t *testing.T, x *target) bool {
			mark := filepath.Join(x.work, "yaml")
			x.browser().do("POST", "/tools/import", "- !!python/object/apply:os.system ['touch "+mark+"']", "Content-Type", "application/x-yaml")
			return exists(mark)
		}},
		{"CWE-22 path traversal", "write", inspected, func(t *testing.T, x *target) bool {
			mark := filepath.Join(x.work, "written")
			x.browser().form("/desk/notes", "title", "../../../../../../../.."+mark, "text", "x")
			return exists(mark)
		}},
		{"CWE-22 path traversal", "write, absolute", inspected, func(t *testing.T, x *target) bool {
			mark := filepath.Join(x.work, "absolute")
			x.browser().form("/desk/notes", "title", mark, "text", "x")
			return exists(mark)
		}},
	}
	for _, c := range [][2]string{
		{"semicolon", ";touch MARK"}, {"substitution", "$(touch MARK)"}, {"back quotes", "`touch MARK`"}, {"line break", "x\ntouch MARK"},
		{"and", "x&touch MARK"}, {"pipe", "|touch MARK"}, {"blanks by IFS", ";touch${IFS}MARK"}, {"quotes in the word", ";to'u'ch MARK"},
	} {
		way, command := c[0], c[1]
		all = append(all, attack{"CWE-78 command injection", way, inspected, func(t *testing.T, x *target) bool {
			mark := filepath.Join(x.work, "cmd-"+strings.ReplaceAll(way, " ", ""))
			x.browser().get("/tools/ping?" + query("host", strings.ReplaceAll(command, "MARK", mark)))
			return exists(mark)
		}})
	}
	// A service that only this machine can reach.
	var hits atomic.Int64
	inside := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		hits.Add(1)
		fmt.Fprint(w, "internal secret")
	}))
	defer inside.Close()
	port := inside.URL[strings.LastIndexByte(inside.URL, ':'):]
	for _, c := range [][2]string{
		{"loopback", inside.URL}, {"by name", "http://localhost" + port}, {"decimal", "http://2130706433" + port}, {"short", "http://127.1" + port},
		{"octal", "http://0177.0.0.1" + port}, {"mapped", "http://[::ffff:127.0.0.1]" + port}, {"zero", "http://0.0.0.0" + port},
		{"behind a user name", "http://shop.example@127.0.0.1" + port},
	} {
		way, address := c[0], c[1]
		all = append(all, attack{"CWE-918 server-side request forgery", way, inspected, func(t *testing.T, x *target) bool {
			before := hits.Load()
			x.browser().get("/tools/preview?" + query("url", address))
			return hits.Load() > before
		}})
	}
	suite(t, quiet, []string{"SECRET_KEY=dev"}, all)
}

func redirects(a answer) bool {
	return a.StatusCode/100 == 3 && strings.Contains(a.Header.Get("Location"), "evil.example")
}

func exists(name string) bool {
	_, err := os.Stat(name)
	return err == nil
}
