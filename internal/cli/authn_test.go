package cli

import (
	"bufio"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"html"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/zitadel/oidc/v3/example/server/exampleop"
	"github.com/zitadel/oidc/v3/example/server/storage"
)

// loginApp is an app that knows nothing of a login: it says what it is told.
const loginApp = `import os
from flask import Flask, jsonify, request, session
app = Flask(__name__)
app.secret_key = os.environ["SECRET_KEY"]

def told():
    return jsonify(path=request.full_path, remote_user=request.remote_user, cookies=sorted(request.cookies),
        **{k: v for k, v in request.environ.items() if k.startswith(("HTTP_X_FORWARDED", "HTTP_X_DEWAR", "REMOTE_USER", "HTTP_AUTHORIZATION"))})

@app.get("/")
def index():
    return told()

@app.route("/account/<path:rest>", methods=["GET", "POST"])
def account(rest):
    session["seen"] = rest
    return told()

@app.get("/admin/")
def admin():
    return told()

@app.get("/api/items")
def items():
    return told()
`

// idp is a real provider, written by others, on this machine.
type idp struct {
	issuer, client, secret string
	settings               string // more lines for [authn.provider]
	start                  func(redirect, origin, caFile string)
	user, password, email  string
	said                   *buffer
	complete               bool // it does logout and client credentials as a large one does
}

// zitadelOP is the example provider of zitadel/oidc.
func zitadelOP(t *testing.T) idp {
	port := freePorts(t, 1)[0]
	p := idp{issuer: "http://localhost:" + port, client: "web", secret: "secret", settings: "userinfo = true\n", user: "id1", password: "verysecure", email: "test-user@zitadel.ch"}
	p.start = func(redirect, _, _ string) {
		store := storage.NewStorageWithClients(storage.NewUserStore(p.issuer), map[string]*storage.Client{"web": storage.WebClient("web", "secret", redirect)})
		l, err := net.Listen("tcp", "127.0.0.1:"+port)
		if err != nil {
			t.Fatal(err)
		}
		s := &http.Server{Handler: exampleop.SetupServer(p.issuer, store, nil, false), ReadHeaderTimeout: 10 * time.Second}
		go s.Serve(l)
		t.Cleanup(func() { s.Close() })
	}
	return p
}

// panvaOP is the npm package oidc-provider.
func panvaOP(t *testing.T) idp {
	t.Helper()
	modules, _ := filepath.Abs("../../.cache/oidc-provider")
	node, err := exec.LookPath("node")
	if _, gone := os.Stat(filepath.Join(modules, "node_modules", "oidc-provider")); err != nil || gone != nil {
		if os.Getenv("DEWAR_REQUIRE_REAL") != "" {
			t.Fatal("node or the npm package oidc-provider is missing: apt-get install nodejs npm, scripts/oidc-provider.sh")
		}
		t.Skip("SKIPPED, ONE PROVIDER WAS NOT ASKED: apt-get install nodejs npm, scripts/oidc-provider.sh")
	}
	port := freePorts(t, 1)[0]
	p := idp{issuer: "http://localhost:" + port, client: "shop:web", secret: "s3cret & more, with: signs", user: "ann", password: "any", email: "ann@shop.example", complete: true, said: &buffer{},
		settings: "scopes = [\"openid\", \"email\", \"profile\", \"groups\"]\nuser-claim = \"preferred_username\"\n"}
	p.start = func(redirect, origin, caFile string) {
		settings, _ := json.Marshal(map[string]any{"issuer": p.issuer, "client": p.client, "secret": p.secret, "redirect": redirect, "origin": origin, "port": json.Number(port), "access": 12})
		c := exec.Command(node, "testdata/oidc-provider/provider.mjs", modules)
		c.Env = append(os.Environ(), "PROVIDER="+string(settings), "NODE_EXTRA_CA_CERTS="+caFile)
		var errs buffer
		c.Stderr = &errs
		in, _ := c.StdinPipe()
		out, _ := c.StdoutPipe()
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			in.Close()
			done := make(chan struct{})
			go func() { _ = c.Wait(); close(done) }()
			select {
			case <-done:
			case <-time.After(30 * time.Second):
				_ = c.Process.Kill()
			}
			if t.Failed() {
				t.Logf("oidc-provider said:\n%s", errs.String())
			}
		})
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			if lines.Text() == "ready" {
				go io.Copy(p.said, out)
				return
			}
		}
		t.Fatalf("oidc-provider did not start:\n%s", errs.String())
	}
	return p
}

var (
	formTag  = regexp.MustCompile(`(?is)<form[^>]*action="([^"]*)"[^>]*>(.*?)</form>`)
	inputTag = regexp.MustCompile(`(?is)<(?:input|button)[^>]*>`)
	attrs    = regexp.MustCompile(`(?is)(name|value|type)="([^"]*)"`)
)

// through asks for a page as a browser does and fills in the forms that come
// from elsewhere, until a page of the site has come.
func (s *site) through(c *http.Client, p idp, target string) answer {
	s.t.Helper()
	ask := func(method, at, body string) answer {
		h := []string{"Accept", "text/html", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "document"}
		if body != "" {
			h = append(h, "Content-Type", "application/x-www-form-urlencoded")
		}
		return s.ask(c, method, at, body, h...)
	}
	at, _ := url.Parse(s.https)
	at, _ = at.Parse(target)
	a := ask("GET", at.String(), "")
	for range 30 {
		if to := a.Header.Get("Location"); to != "" && a.StatusCode >= 300 && a.StatusCode < 400 {
			next, err := at.Parse(to)
			if err != nil {
				s.t.Fatal(err)
			}
			at = next
			a = ask("GET", at.String(), "")
			continue
		}
		if strings.HasPrefix(at.String(), s.https) {
			return a
		}
		f := formTag.FindStringSubmatch(a.text)
		if f == nil {
			s.t.Fatalf("%d at %s, and no form: %s", a.StatusCode, at, a.text)
		}
		v := url.Values{}
		for _, tag := range inputTag.FindAllString(f[2], -1) {
			m := map[string]string{}
			for _, kv := range attrs.FindAllStringSubmatch(tag, -1) {
				m[strings.ToLower(kv[1])] = html.UnescapeString(kv[2])
			}
			switch name := m["name"]; {
			case name == "":
			case strings.EqualFold(m["type"], "password"), name == "password":
				v.Set(name, p.password)
			case name == "login":
				v.Set(name, p.user)
			case name == "username":
				v.Set(name, "test-user@localhost")
			default:
				v.Set(name, m["value"])
			}
		}
		next, err := at.Parse(html.UnescapeString(f[1]))
		if err != nil {
			s.t.Fatal(err)
		}
		at = next
		a = ask("POST", at.String(), v.Encode())
	}
	s.t.Fatalf("no end, at %s", at)
	return a
}

// endAt logs out at the provider itself.
func (s *site) endAt(c *http.Client, p idp) answer {
	s.t.Helper()
	a := s.ask(c, "GET", p.issuer+"/session/end", "")
	f := formTag.FindStringSubmatch(a.text)
	xsrf := regexp.MustCompile(`name="xsrf" value="([^"]+)"`).FindStringSubmatch(a.text)
	if f == nil || xsrf == nil {
		s.t.Fatalf("%d %s", a.StatusCode, a.text)
	}
	return s.ask(c, "POST", html.UnescapeString(f[1]), url.Values{"xsrf": {xsrf[1]}, "logout": {"yes"}}.Encode(), "Content-Type", "application/x-www-form-urlencoded")
}

// operate runs an operator's command against the running guard.
func (s *site) operate(command ...string) (code int, out, errs string) {
	var o, e buffer
	code = execute(s.t.Context(), append(command, "--dir", s.dir), s.environ, strings.NewReader(""), &o, &e)
	return code, o.String(), e.String()
}

// TestLoginAtARealProvider: an app without a login behind the guard, in front
// of providers that others have written.
func TestLoginAtARealProvider(t *testing.T) {
	for name, make := range map[string]func(*testing.T) idp{"zitadel": zitadelOP, "oidc-provider": panvaOP} {
		t.Run(name, func(t *testing.T) {
			real(t)
			p := make(t)
			dir := project1(t, map[string]string{"app.py": loginApp, "dewar.toml": `[authn]
remote-user = true
secrets = ["env:RING"]
[authn.provider]
issuer = "` + p.issuer + `"
client-id = "` + p.client + `"
client-secret = "env:OIDC_SECRET"
` + p.settings + `
[authn.bearer]
audience = "https://api.shop.example/"
introspection = "opaque"
cache = "1s"
[[authn.rule]]
path = "/admin/**"
roles = ["admins"]
[[authn.rule]]
path = "/account/**"
[[authn.rule]]
path = "/api/**"
by = "bearer"
scopes = ["read"]
`})
			s := start(t, dir, []string{"SECRET_KEY=0f3a9b7c5d1e8f2a4b6c8d0e2f4a6b8c0f3a9b7c", "RING=0f3a9b7c5d1e8f2a4b6c8d0e2f4a6b8c0f3a9b7c", "OIDC_SECRET=" + p.secret})
			told := func(a answer) map[string]any {
				t.Helper()
				m := map[string]any{}
				if err := json.Unmarshal([]byte(a.text), &m); err != nil || a.StatusCode != 200 {
					t.Fatalf("%d %s", a.StatusCode, a.text)
				}
				return m
			}
			// The provider is not there yet: the guard runs, and says so.
			c := s.client()
			s.want(s.ask(c, "GET", "/", ""), 200, "a page for everybody, without the provider")
			if a := s.through(c, p, "/account/x"); a.StatusCode != 503 {
				t.Errorf("without the provider: %d %s", a.StatusCode, a.text)
			}
			p.start(s.https+"/_dewar/auth/callback", s.https, s.cert)
			eventually(t, "a login is possible", func() bool {
				a := s.ask(c, "GET", "/account/x", "", "Accept", "text/html")
				return a.StatusCode == 302
			})

			if m := told(s.through(c, p, "/account/orders?page=2&u=%2F")); m["path"] != "/account/orders?page=2&u=%2F" || m["remote_user"] != p.user || m["REMOTE_USER"] != p.user ||
				m["HTTP_X_FORWARDED_USER"] != p.user || m["HTTP_X_FORWARDED_EMAIL"] != p.email || m["HTTP_X_DEWAR_REMOTE_USER"] != nil {
				t.Errorf("%v", m)
			} else if cookies := fmt.Sprint(m["cookies"]); strings.Contains(cookies, "dewar-login") {
				t.Errorf("the app sees %s", cookies)
			}
			s.want(s.ask(c, "GET", "/admin/", ""), 403, "an admin's page")
			anonymous := s.client()
			if a := s.ask(anonymous, "GET", "/account/x", "", "Accept", "application/json", "Sec-Fetch-Mode", "cors", "Sec-Fetch-Dest", "empty"); a.StatusCode != 401 || a.Header.Get("Content-Type") != "application/problem+json" || a.Header.Get("Www-Authenticate") == "" {
				t.Errorf("fetch: %d %v", a.StatusCode, a.Header)
			}

			// Whoever has logged in is still not somebody else, in any spelling,
			// on the wire itself.
			var cookies []string
			base, _ := url.Parse(s.https)
			for _, k := range c.Jar.Cookies(base) {
				cookies = append(cookies, k.Name+"="+k.Value)
			}
			for _, path := range []string{"/", "/account/x"} {
				conn, err := tls.Dial("tcp", base.Host, &tls.Config{RootCAs: s.ca, ServerName: "localhost"})
				if err != nil {
					t.Fatal(err)
				}
				_ = conn.SetDeadline(time.Now().Add(time.Minute))
				fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: Mozilla/5.0\r\nAccept: */*\r\nConnection: close\r\nCookie: %s\r\n", path, base.Host, strings.Join(cookies, "; "))
				for _, f := range []string{"X-Forwarded-User", "X_Forwarded_User", "X-Forwarded_User", "x_FORWARDED_groups", "X-Forwarded-Groups", "X-Forwarded-Email", "Remote-User", "REMOTE_USER", "X-Dewar-Remote-User", "X_Dewar_Remote_User", "X-Dewar-Assertion", "X_DEWAR_ASSERTION"} {
					fmt.Fprintf(conn, "%s: evil\r\n", f)
				}
				io.WriteString(conn, "\r\n")
				b, _ := io.ReadAll(conn)
				conn.Close()
				if text := string(b); !strings.HasPrefix(text, "HTTP/1.1 200") || strings.Contains(text, "evil") || !strings.Contains(text, `"REMOTE_USER":"`+p.user+`"`) {
					t.Errorf("%s: %s", path, text)
				}
			}

			// What was signed for the app can be verified with the keys that are
			// public.
			m := told(s.ask(c, "GET", "/", ""))
			var set jose.JSONWebKeySet
			if err := json.Unmarshal([]byte(s.ask(anonymous, "GET", "/_dewar/auth/keys", "").text), &set); err != nil {
				t.Fatal(err)
			}
			assertion, err := jwt.ParseSigned(fmt.Sprint(m["HTTP_X_DEWAR_ASSERTION"]), []jose.SignatureAlgorithm{jose.ES256})
			if err != nil {
				t.Fatal(err)
			}
			var claims jwt.Claims
			if err := assertion.Claims(set, &claims); err != nil || claims.Subject != p.user || claims.ValidateWithLeeway(jwt.Expected{Issuer: s.https, AnyAudience: jwt.Audience{s.https}, Time: time.Now()}, 0) != nil {
				t.Errorf("%v %+v", err, claims)
			}

			// The operator.
			code, out, errs := s.operate("login", "sessions")
			if code != 0 || !strings.Contains(out, p.user) {
				t.Errorf("login sessions: %d %s%s", code, out, errs)
			}
			if code, out, errs = s.operate("login", "end", p.user); code != 0 {
				t.Errorf("login end: %d %s%s", code, out, errs)
			}
			s.want(s.ask(c, "GET", "/account/x", "", "Accept", "application/json"), 401, "a session that the operator has ended")

			// The provider knows the visitor still: no password is asked for.
			told(s.through(c, p, "/account/x"))
			a := s.ask(c, "POST", "/_dewar/auth/logout", "", "Sec-Fetch-Site", "same-origin")
			if to := a.Header.Get("Location"); a.StatusCode != 303 || !strings.HasPrefix(to, p.issuer) {
				t.Fatalf("logout: %d %s", a.StatusCode, to)
			}
			s.want(s.ask(c, "GET", "/account/x", "", "Accept", "application/json"), 401, "after the logout")
			if !p.complete {
				return
			}
			if a := s.through(c, p, a.Header.Get("Location")); a.StatusCode != 200 {
				t.Errorf("back from the provider: %d %s", a.StatusCode, a.text)
			}

			// The access token expires, and the session goes on with another.
			told(s.through(c, p, "/account/x"))
			time.Sleep(3 * time.Second) // it lives for 12 s, and is renewed 10 s before its end
			told(s.ask(c, "GET", "/account/x", ""))
			eventually(t, "a refreshed token", func() bool { return strings.Contains(p.said.String(), "grant refresh_token") })

			// A logout at the provider ends the session here (back channel).
			if a := s.endAt(c, p); a.StatusCode >= 400 {
				t.Errorf("%d %s", a.StatusCode, a.text)
			}
			eventually(t, "the back-channel logout has come", func() bool {
				return s.ask(c, "GET", "/account/x", "", "Accept", "application/json").StatusCode == 401
			})

			// A program with a token of its own.
			post := func(client, path string, v url.Values, into any) {
				t.Helper()
				req, _ := http.NewRequest("POST", p.issuer+path, strings.NewReader(v.Encode()))
				req.SetBasicAuth(client, url.QueryEscape(p.secret))
				req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
				res, err := http.DefaultClient.Do(req)
				if err != nil {
					t.Fatal(err)
				}
				defer res.Body.Close()
				if b, _ := io.ReadAll(res.Body); res.StatusCode != 200 || into != nil && json.Unmarshal(b, into) != nil {
					t.Fatalf("%s: %d %s", path, res.StatusCode, b)
				}
			}
			token := func(client, resource, scope string) string {
				t.Helper()
				var token struct {
					AccessToken string `json:"access_token"`
				}
				post(client, "/token", url.Values{"grant_type": {"client_credentials"}, "resource": {resource}, "scope": {scope}}, &token)
				return token.AccessToken
			}
			bearer := func(token string) answer {
				t.Helper()
				return s.ask(anonymous, "GET", "/api/items", "", "Authorization", "Bearer "+token)
			}
			const api = "https://api.shop.example/"
			if m := told(bearer(token("machine", api, "read"))); m["REMOTE_USER"] != "machine" {
				t.Errorf("%v", m)
			}
			s.want(bearer(token("machine", api, "write")), 403, "a token without the scope")
			s.want(bearer(token("machine", "https://other.example/", "read")), 401, "a token for another API")
			// Tokens that only the issuer can judge.
			opaque := token("old-machine", api, "read")
			if strings.Contains(opaque, ".") {
				t.Fatalf("%s is not opaque", opaque)
			}
			if m := told(bearer(opaque)); m["REMOTE_USER"] != "client:old-machine" {
				t.Errorf("%v", m)
			}
			s.want(bearer(token("old-machine", api, "write")), 403, "an opaque token without the scope")
			s.want(bearer(token("old-machine", "https://other.example/", "read")), 401, "an opaque token for another API")
			s.want(bearer("made-up"), 401, "a token of nobody")
			post("old-machine", "/token/revocation", url.Values{"token": {opaque}}, nil)
			time.Sleep(1100 * time.Millisecond)
			s.want(bearer(opaque), 401, "a revoked token")
		})
	}
}
