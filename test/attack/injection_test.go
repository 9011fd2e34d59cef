package attack

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/textproto"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"unicode/utf16"
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
	// What builds objects, reads files and sends mail.
	for _, c := range [][2]string{
		{"entity", `<!DOCTYPE r [<!ENTITY x SYSTEM "URL">]><r>&x;</r>`}, {"behind a comment and an instruction", "<?xml version='1.0'?>\n<!-- <r/> --><?a?>\n<!DOCTYPE r [<!ENTITY x SYSTEM 'URL'>]><r>&x;</r>"},
		{"in UTF-16", "\ufeff<!DOCTYPE r [<!ENTITY x SYSTEM 'URL'>]><r>&x;</r>"}, {"by the type of a form", `<!DOCTYPE r [<!ENTITY x SYSTEM "URL">]><r>&x;</r>`},
	} {
		all = append(all, attack{"CWE-611 XML external entity", c[0], inspected, func(t *testing.T, x *target) bool {
			before, doc, kind := hits.Load(), strings.ReplaceAll(c[1], "URL", inside.URL), "application/xml"
			if strings.HasPrefix(doc, "\ufeff") {
				var wide []byte
				for _, u := range utf16.Encode([]rune(doc)) {
					wide = binary.BigEndian.AppendUint16(wide, u)
				}
				doc = string(wide)
			} else if strings.HasSuffix(c[0], "form") {
				kind = "application/x-www-form-urlencoded"
			}
			x.browser().do("POST", "/desk/book", doc, "Content-Type", kind)
			return hits.Load() > before
		}})
	}
	for _, c := range [][2]string{
		{"pickle, protocol 0", "cposix\nsystem\n(S'touch MARK'\ntR."}, {"pickle, INST", "(S'touch MARK'\niposix\nsystem\n."}, {"pickle, names from the stack", "\x80\x04Vposix\nVsystem\n\x93(S'touch MARK'\ntR."},
		{"pickle, behind an honest one's beginning", "\x80\x03]q\x00(K\x01K\x02cposix\nsystem\n(S'touch MARK'\ntRe."},
	} {
		all = append(all, attack{"CWE-502 deserialisation", c[0], inspected, func(t *testing.T, x *target) bool {
			mark := filepath.Join(x.work, "pickle")
			os.Remove(mark)
			cart := base64.StdEncoding.EncodeToString([]byte(strings.ReplaceAll(c[1], "MARK", mark)))
			x.browser().get("/cart/", "Cookie", "cart="+cart)
			return exists(mark)
		}})
	}
	for _, c := range [][2]string{
		{"YAML, another name for the tag", "%TAG ! tag:yaml.org,2002:python/\n---\n- !object/apply:os.system ['touch MARK']"}, {"YAML, escapes in the tag", "- !<tag:yaml.org,2002:pyth%6fn/object/apply:os.system> ['touch MARK']"}, {"YAML, in a flow", `[{"a":!!python/object/apply:os.system ['touch MARK']}]`},
	} {
		all = append(all, attack{"CWE-502 deserialisation", c[0], inspected, func(t *testing.T, x *target) bool {
			mark := filepath.Join(x.work, "yaml-more")
			os.Remove(mark)
			x.browser().do("POST", "/tools/import", strings.ReplaceAll(c[1], "MARK", mark), "Content-Type", "application/x-yaml")
			return exists(mark)
		}})
	}
	post := mailServer(t)
	for _, c := range [][2]string{{"CR LF", "order\r\nBcc: everybody@evil.example"}, {"LF", "order\nBcc: everybody@evil.example"}} {
		all = append(all, attack{"CWE-93 mail header injection", c[0], inspected, func(t *testing.T, x *target) bool {
			post.forget()
			x.browser().form("/desk/ask", "name", "Ann", "subject", c[1], "text", "Where is it?")
			return strings.Contains(post.headers(), "\nBcc: everybody@evil.example")
		}})
	}
	for _, c := range []struct{ way, body, kind string }{
		{"a field of the form", "name=Ann&role=admin", "application/x-www-form-urlencoded"}, {"a name in escapes", "r%6f%6ce=admin&name=Ann", "application/x-www-form-urlencoded"},
	} {
		all = append(all, attack{"CWE-915 mass assignment", c.way, inspected, func(t *testing.T, x *target) bool {
			b, name := x.browser(), strings.ReplaceAll(c.way, " ", "")+"@leaky.example"
			b.form("/register", "email", name, "name", "Ann", "password", "a long enough one")
			b.login(name, "a long enough one")
			if a := b.get("/admin/"); a.StatusCode != http.StatusForbidden {
				t.Errorf("a customer in the back office: %d", a.StatusCode)
			}
			b.do("POST", "/desk/profile", c.body, "Content-Type", c.kind)
			return b.get("/admin/").StatusCode == http.StatusOK
		}})
	}
	suite(t, quiet, []string{"SECRET_KEY=dev", "SMTP_PORT=" + post.port}, all)
}

// mails is a mail server that keeps the last mail.
type mails struct {
	port string
	mu   sync.Mutex
	last string
}

func (m *mails) forget() { m.mu.Lock(); m.last = ""; m.mu.Unlock() }

// headers returns those of the last mail, with LF at the ends of lines.
func (m *mails) headers() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	head, _, _ := strings.Cut(strings.ReplaceAll(m.last, "\r\n", "\n"), "\n\n")
	return head
}

func mailServer(t *testing.T) *mails {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	m := &mails{port: ln.Addr().String()[strings.LastIndexByte(ln.Addr().String(), ':')+1:]}
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go m.serve(textproto.NewConn(c))
		}
	}()
	return m
}

func (m *mails) serve(c *textproto.Conn) {
	defer c.Close()
	answer := "220 mail.example"
	for {
		if c.PrintfLine("%s", answer) != nil {
			return
		}
		line, err := c.ReadLine()
		if err != nil {
			return
		}
		answer = "250 ok"
		switch strings.ToUpper(line) {
		case "DATA":
			if c.PrintfLine("354 go on") != nil {
				return
			}
			mail, err := io.ReadAll(c.DotReader())
			if err != nil {
				return
			}
			m.mu.Lock()
			m.last = string(mail)
			m.mu.Unlock()
		case "QUIT":
			answer = "221 bye"
		}
	}
}

func redirects(a answer) bool {
	return a.StatusCode/100 == 3 && strings.Contains(a.Header.Get("Location"), "evil.example")
}

func exists(name string) bool {
	_, err := os.Stat(name)
	return err == nil
}
