package injection

import (
	"bytes"
	"context"
	"encoding/base64"
	encjson "encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pelletier/go-toml/v2"

	"github.com/dewar-security/dewar/internal/event"
	"github.com/dewar-security/dewar/internal/guard"
)

// TestRecord records requests and reads them back: what the rules need is
// there, and no secret is.
func TestRecord(t *testing.T) {
	name := filepath.Join(t.TempDir(), "traffic.jsonl")
	l := newLayer(t, Config{Record: name})
	send := func(method, target, contentType, body string, header map[string]string) guard.Decision {
		x := exchange(method, target, contentType, body)
		x.Start = time.Now()
		for k, v := range header {
			x.Request.Header.Set(k, v)
		}
		return l.Request(x)
	}
	send("GET", "/search?q=red+shoes&token=hunter2hunter2", "", "", map[string]string{"Cookie": "session=s3cr3tValue; theme=dark", "Authorization": "Bearer abcDEF123", "Referer": "https://example.com/reset?token=zzsecretzz#x"})
	send("POST", "/login", form, "email=ann%40example.org&password=correct+horse%26battery", nil)
	send("POST", "/api", "application/json", `{"note": "hi", "api_key": "AKxSECRETx77", "deep": [{"password": "pw123456", "n": 5}]}`, nil)
	boundary := "multipart/form-data; boundary=b"
	send("POST", "/up", boundary, "--b\r\nContent-Disposition: form-data; name=\"title\"\r\n\r\nholiday\r\n--b\r\nContent-Disposition: form-data; name=\"f\"; filename=\"a.png\"\r\n\r\nFILECONTENT\r\n--b--\r\n", nil)
	if d := send("GET", "/search?q="+"1%27+union+select+name+from+staff--", "", "", nil); d.Verdict != guard.Deny || d.Attributes["waf.matches"] == "" || !strings.Contains(d.Attributes["waf.matches"], "@ARGS:q") {
		t.Fatalf("an attack: %+v", d)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	st, err := os.Stat(name)
	if err != nil || st.Mode().Perm() != 0o600 {
		t.Fatalf("%v, %v", st, err)
	}
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{"hunter2", "s3cr3t", "dark", "abcDEF", "zzsecretzz", "horse", "battery", "SECRET", "pw123", "FILECONTENT"} {
		if bytes.Contains(data, []byte(secret)) {
			t.Errorf("%q is in the record:\n%s", secret, data)
		}
	}
	var past []Past
	if skipped, err := ReadPast(bytes.NewReader(data), func(p *Past) error { past = append(past, *p); return nil }); err != nil || skipped != 0 || len(past) != 5 {
		t.Fatalf("%d requests, %d skipped, %v", len(past), skipped, err)
	}
	if past[0].URI != "/search?q=red+shoes&token=xxxxxx0xxxxxx0" {
		t.Errorf("uri %q", past[0].URI)
	}
	if c := past[0].Header.Get("Cookie"); c != "session=x0xx0xXxxxx; theme=xxxx" {
		t.Errorf("cookie %q", c)
	}
	if !strings.Contains(past[1].Body, "password=xxxxxxx+xxxxx%41xxxxxxx") || !strings.Contains(past[2].Body, `"note":"hi"`) || !strings.Contains(past[3].Body, "holiday") {
		t.Errorf("bodies %q %q %q", past[1].Body, past[2].Body, past[3].Body)
	}
	if !past[4].Denied || past[4].Reason != "waf-attack" {
		t.Errorf("%+v", past[4])
	}

	// The same verdicts come out again.
	r, err := NewReplay(Config{}, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := range past {
		o, err := r.Judge(t.Context(), &past[i])
		if err != nil || o.Denied != past[i].Denied {
			t.Errorf("%s %s: denied %v, then %v (%v) %s", past[i].Method, past[i].URI, o.Denied, past[i].Denied, err, o.Verdict.Summary())
		}
	}
}

func TestReadPast(t *testing.T) {
	har, err := encjson.Marshal(map[string]any{"log": map[string]any{"entries": []any{
		map[string]any{"startedDateTime": "2026-01-02T03:04:05Z", "request": map[string]any{"method": "POST", "url": "https://example.com/a?b=c", "httpVersion": "HTTP/2", "headers": []any{map[string]any{"name": ":authority", "value": "x"}, map[string]any{"name": "X-A", "value": "1"}}, "postData": map[string]any{"mimeType": form, "params": []any{map[string]any{"name": "k", "value": "v w"}}}}},
		map[string]any{"request": map[string]any{"method": "PUT", "url": "https://example.com/z", "postData": map[string]any{"mimeType": "text/plain", "text": base64.StdEncoding.EncodeToString([]byte("raw")), "encoding": "base64"}}},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, log string
		want      []string
		skipped   int
	}{
		{"combined", `203.0.113.9 - ann [02/Jan/2026:03:04:05 +0100] "GET /a?q=%27+or+1=1 HTTP/1.1" 200 5 "https://example.com/\x22x" "Mozilla/5.0 \"q\""` + "\n\nnonsense\n" + `203.0.113.9 - - [02/Jan/2026:03:04:06 +0100] "POST /b HTTP/1.0" 302 -`, []string{"GET /a?q=%27+or+1=1 ", "POST /b "}, 1},
		{"HAR", string(har), []string{"POST /a?b=c k=v+w", "PUT /z raw"}, 0},
		{"security log", `{"event.name":"http_request","http.request.method":"GET","url.path":"/a b","url.query":"q=1","dewar.verdict":"deny","dewar.reason":"waf-attack"}` + "\n" + `{"event.name":"sys_startup"}`, []string{"GET /a%20b?q=1 "}, 1},
		{"record", `{"method":"GET","uri":"/x"}`, []string{"GET /x "}, 0},
	} {
		var got []string
		skipped, err := ReadPast(strings.NewReader(c.log), func(p *Past) error {
			got = append(got, p.Method+" "+p.URI+" "+string(p.body()))
			return nil
		})
		if err != nil || skipped != c.skipped || fmt.Sprint(got) != fmt.Sprint(c.want) {
			t.Errorf("%s: %q, %d skipped, %v; want %q, %d", c.name, got, skipped, err, c.want, c.skipped)
		}
	}
	if _, err := ReadPast(strings.NewReader(`{"log": {"entries": [`), func(*Past) error { return nil }); err == nil {
		t.Error("half a HAR file is none")
	}
}

// TestCompare replays a log by two paranoia levels.
func TestCompare(t *testing.T) {
	before, err := NewReplay(Config{}, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	after, err := NewReplay(Config{Paranoia: 2}, []guard.Override{{Path: "/safe/**", Reason: "test", Modes: map[string]guard.Mode{"waf": guard.Off}}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	var c Comparison
	for i, uri := range []string{"/a?q=hello", "/order/12345?q=1%27+union+select+name+from+staff--", "/order/777?note=x+%3D%3D+y", "/order/778?note=x+%3D%3D+y", "/safe/x?q=1%27+union+select+name+from+staff--"} {
		if err := c.Compare(t.Context(), &Past{Method: "GET", URI: uri, Line: i + 1}, before, after); err != nil {
			t.Fatal(err)
		}
	}
	c.Sort()
	if c.Requests != 5 || len(c.Kept) == 0 || len(c.New) == 0 || len(c.Freed) == 0 {
		t.Fatalf("%+v", c)
	}
	if l := c.New[0]; l.Route != "/order/<int>" || l.Requests != 2 || l.First != 3 || l.Rule == 0 {
		t.Errorf("%+v", l)
	}
	if l := c.Freed[0]; l.Route != "/safe/x" {
		t.Errorf("%+v", l)
	}
	toml := Proposal(c.New)
	if !strings.Contains(toml, `path = "/order/*"`) || !strings.Contains(toml, `parameters = ["note"]`) {
		t.Errorf("proposal:\n%s", toml)
	}
}

func TestReport(t *testing.T) {
	var r Report
	add := func(client, verdict, path, matches string) {
		r.Add(&event.Event{Time: time.Unix(1000, 0), Layer: "waf", Verdict: verdict, Method: "POST", Path: path, Reason: "waf-attack", Client: netip.MustParseAddr(client), Attributes: map[string]string{"waf.matches": matches}})
	}
	for i := range 5 {
		add(fmt.Sprintf("203.0.113.%d", i), "observe", fmt.Sprintf("/post/%d", i), "941100@ARGS:body 941160@ARGS:body")
	}
	add("203.0.113.77", "deny", "/login", "942100@ARGS:user")
	add("2001:db8::1", "deny", "/login", "942100@ARGS:user")
	add("2001:db8::2", "deny", "/login", "942100@ARGS:user")
	r.Add(&event.Event{Layer: "csrf", Verdict: "deny"})
	r.Sort()
	if r.Denied != 3 || r.Observed != 5 || len(r.Groups) != 3 {
		t.Fatalf("%+v", r)
	}
	if g := r.Groups[0]; g.Clients != 5 || g.Route != "/post/<int>" || g.Parameter != "ARGS:body" || g.Observed != 5 {
		t.Errorf("%+v", g)
	}
	if g := r.Groups[2]; g.Clients != 2 || g.Requests != 3 {
		t.Errorf("one network of IPv6 is one client: %+v", g)
	}
	if p := r.Proposal(); !strings.Contains(p, "exclude = [941100, 941160]") || strings.Contains(p, "942100") {
		t.Errorf("proposal:\n%s", p)
	}
}

func FuzzReadPast(f *testing.F) {
	f.Add([]byte(`203.0.113.9 - - [02/Jan/2026:03:04:05 +0100] "GET /a HTTP/1.1" 200 5 "-" "x"`))
	f.Add([]byte(`{"method":"GET","uri":"/x","header":{"A":["b"]},"body":"c"}`))
	f.Add([]byte(`{"log":{"entries":[{"request":{"method":"GET","url":"http://a/b"}}]}}`))
	r, err := NewReplay(Config{}, nil, nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, log []byte) {
		_, _ = ReadPast(bytes.NewReader(log), func(p *Past) error {
			_, _ = r.Judge(context.Background(), p)
			return nil
		})
	})
}

// TestRecordSecrets sends secrets in places where a name does not stand plainly
// before them.
func TestRecordSecrets(t *testing.T) {
	r := &recorder{redact: event.NewRedactor()}
	name := filepath.Join(t.TempDir(), "traffic.jsonl")
	var err error
	if r.sink, err = event.OpenFile(name, 1<<20, 1); err != nil {
		t.Fatal(err)
	}
	const jwt = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.SflKxwRJSMeKKF2QT4fwpMeJf36POk6yJV"
	send := func(uri, contentType, body string, h http.Header) {
		x := exchange("POST", "/", contentType, body)
		for k, v := range h {
			x.Request.Header[k] = v
		}
		if err := r.write(x.Request, uri, []byte(body), guard.Pass(), time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	send("/a?%70assword=Zsecret1&"+jwt+"&x="+jwt, "", "", http.Header{"Cookie": {"Zsecret2; a=Zsecret3"}, "Referer": {"https://u:Zsecret4@example.com/reset/" + jwt + "?x=1"}})
	send("http://u:Zsecret5@example.com/?a=b", "", "", nil)
	send("/a", form, `{"password":"Zsecret6"}`, nil)
	send("/a", form, "\x1f\x8b\x08password=Zsecret7\xff", nil)
	send("/a", form, "p%61ssword=Zsecret8", nil)
	send("/a", "application/json", `{"password": {"value": "Zsecret9", "n": 5551234}, "list": [4111111111111111], "token": [["Zsecret10"]], "a": {"credentials": {"b": [{"c": "Zsecret11"}]}}}`, nil)
	send("/a", "application/json", `{"query": "mutation { login(password: \"Zsecret12\") { id } }", "variables": {"password": "Zsecret13"}}`, nil)
	send("/a", "application/xml", `<a password="Zsecret14"><b>Zsecret15</b></a>`, nil)
	send("/a", "", "Zsecret16", nil)
	send("/a", "multipart/form-data; boundary=b", "--b\r\nContent-Disposition: form-data; name=\"f\"; filename=\"Zsecret17.pdf\"\r\nX-Key: Zsecret18\r\n\r\nZsecret19\r\n--b\r\nContent-Disposition: form-data; name=\"j\"\r\nContent-Type: application/json\r\n\r\n{\"password\": \"Zsecret20\"}\r\n--b--\r\n", nil)
	send("/a", "", "", http.Header{"X-Token": {"Zsecret21", "Zsecret22"}, "X-Any": {"Zsecret23"}})
	if err := r.close(); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	for i, line := range bytes.Split(data, []byte("\n")) {
		var p Past
		_ = encjson.Unmarshal(line, &p)
		for _, secret := range []string{"Zsecret", "SflKxw", "5551234", "4111111111111111"} {
			if bytes.Contains(line, []byte(secret)) || bytes.Contains(p.Base64, []byte(secret)) {
				t.Errorf("%q is in line %d: %s", secret, i+1, line)
			}
		}
	}
}

// TestReadPastLong reads on behind a line that is longer than any request.
func TestReadPastLong(t *testing.T) {
	log := `{"method":"GET","uri":"/a"}` + "\n" + strings.Repeat("x", maxPastLine+100) + "\n" + `{"method":"GET","uri":"/b"}`
	var seen []string
	skipped, err := ReadPast(strings.NewReader(log), func(p *Past) error {
		seen = append(seen, fmt.Sprint(p.URI, p.Line))
		return nil
	})
	if err != nil || skipped != 1 || !slices.Equal(seen, []string{"/a1", "/b3"}) {
		t.Errorf("%v, %d skipped, %v", seen, skipped, err)
	}
}

// TestHostileLogs asks that what visitors choose forges nothing in a report.
func TestHostileLogs(t *testing.T) {
	l := newLayer(t, Config{})
	d := l.Request(exchange("GET", "/x?"+url.QueryEscape("a\u00a0942100@ARGS:comment\u3000b")+"="+url.QueryEscape("1' union select name from staff-- "), "", ""))
	for _, m := range strings.Fields(d.Attributes["waf.matches"]) {
		if _, place, _ := strings.Cut(m, "@"); !strings.HasPrefix(place, "ARGS") || place == "ARGS:comment" {
			t.Errorf("%q in %q", m, d.Attributes["waf.matches"])
		}
	}
	for _, path := range []string{"/**", "/a/*", "/<path:x>/b", "/{a,b}", "/\x1b[2J", "/\xff"} {
		route := routeOf(nil, "GET", path)
		if p := routePattern(route); strings.Contains(p, "**") || strings.ContainsAny(route, "\x1b*") || strings.IndexByte(route, 0xff) >= 0 {
			t.Errorf("%q becomes %q, %q", path, route, p)
		}
	}
	var c Comparison
	r, err := NewReplay(Config{}, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	c.index = [3]map[Line]int{{}, {}, {}}
	for i := range maxGroups + 5 {
		note(&c.New, c.index[1], &c.More, &Past{Method: "GET"}, Outcome{Route: fmt.Sprint("/", i), Reason: "x"})
	}
	if len(c.New) != maxGroups || c.More != 5 {
		t.Errorf("%d lines, %d more", len(c.New), c.More)
	}
	c = Comparison{}
	for range 3 {
		if err := c.Compare(t.Context(), &Past{Method: "GET", URI: "/x?q=" + url.QueryEscape("1' union select name from staff-- ")}, r, r); err != nil {
			t.Fatal(err)
		}
	}
	if len(c.Kept) == 0 || c.Kept[0].Requests != 3 {
		t.Errorf("%+v", c.Kept)
	}
}

// TestRecordDisk: a disk that is full is said for as long as it is, and a
// symbolic link is not written through. The limit that plays the full disk
// holds for the whole process, so the test has one of its own.
func TestRecordDisk(t *testing.T) {
	const own = "DEWAR_TEST_OWN_PROCESS"
	if os.Getenv(own) == "" {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestRecordDisk$", "-test.v")
		cmd.Env = append(os.Environ(), own+"=1")
		out, err := cmd.CombinedOutput()
		switch {
		case err != nil:
			t.Errorf("%v\n%s", err, out)
		case bytes.Contains(out, []byte("--- SKIP")):
			t.Skipf("%s", out)
		case !bytes.Contains(out, []byte("--- PASS: TestRecordDisk")):
			t.Errorf("the test did not run:\n%s", out)
		}
		return
	}
	dir := t.TempDir()
	name := filepath.Join(dir, "traffic.jsonl")
	l := newLayer(t, Config{Record: name})
	defer l.Close()
	x := func() *guard.Exchange { return exchange("GET", "/search?q=shoes", "", "") }
	l.Request(x())
	if err := l.Health(); err != nil {
		t.Fatal(err)
	}
	var was syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &was); err != nil {
		t.Skip("SKIPPED: no limit on file size here: ", err)
	}
	// Go ignores SIGXFSZ, so a write comes back short, as on a full disk.
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: 10, Max: was.Max}); err != nil {
		t.Skip("SKIPPED: ", err)
	}
	d := l.Request(x())
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &was); err != nil {
		t.Fatal(err)
	}
	if d.Verdict != guard.Allow || l.Health() == nil {
		t.Errorf("on a full disk: %v, health %v", d.Verdict, l.Health())
	}
	l.Request(x())
	if err := l.Health(); err != nil {
		t.Errorf("there is room again, health says %v", err)
	}
	n := 0
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if skipped, err := ReadPast(f, func(*Past) error { n++; return nil }); n != 2 || skipped != 0 || err != nil {
		t.Errorf("%d requests, %d skipped, %v", n, skipped, err)
	}

	victim, link := filepath.Join(dir, "victim"), filepath.Join(dir, "link")
	if err := os.WriteFile(victim, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(victim, link); err != nil {
		t.Fatal(err)
	}
	if _, err := NewWAF(Config{Record: link}, guard.Env{}); err == nil || !strings.Contains(err.Error(), "injection.record") || !strings.Contains(err.Error(), "symbolic link") {
		t.Errorf("a link is opened: %v", err)
	}
	// Nor one that takes the file's place later.
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(victim, name); err != nil {
		t.Fatal(err)
	}
	l.Request(x())
	if b, _ := os.ReadFile(victim); string(b) != "mine" || l.Health() == nil {
		t.Errorf("written through a link: %q, health %v", b, l.Health())
	}
}

// TestProposalIsTOML: whatever a log holds, a proposal is read as what it
// says.
func TestProposalIsTOML(t *testing.T) {
	names := []string{"plain", `a"b\c`, "new\nline", "\x00\x1f\x7f\a\v", "\u0085\u2028\u200b\U0001f600\U000e0001", "not \xff\xfe UTF-8", "tab\t", "ü"}
	var lines []Line
	for _, n := range names {
		lines = append(lines, Line{Method: "GET", Route: "/x/" + n, Parameter: "ARGS:" + n, Rule: 942100})
	}
	text := Proposal(lines)
	var got struct {
		Route []struct {
			Path    string
			Methods []string
			WAF     struct {
				Exclude    []int
				Parameters []string
			}
		}
	}
	if err := toml.Unmarshal([]byte(text), &got); err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	if len(got.Route) != len(names) {
		t.Fatalf("%d routes", len(got.Route))
	}
	for i, n := range names {
		n = strings.ToValidUTF8(n, "\ufffd")
		if r := got.Route[i]; r.Path != "/x/"+n || r.Methods[0] != "GET" || r.WAF.Parameters[0] != n || r.WAF.Exclude[0] != 942100 {
			t.Errorf("%q: %+v", n, r)
		}
	}
}
