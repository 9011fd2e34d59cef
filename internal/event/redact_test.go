package event

import (
	"crypto/hmac"
	"crypto/sha1"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// None of these is valid anywhere. They are put together at run time so that
// no scanner of secrets takes this file for a leak.
const (
	jwt       = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxMjM0NTY3ODkwIiwibmFtZSI6IkpvaG4gRG9lIn0.SflKxwRJSMeKKF2QT4fwpMeJf36POk6yJV_adQssw5c"
	flask     = "eyJfdXNlcl9pZCI6IjEiLCJfZnJlc2giOnRydWV9.ZzQx1w.Cn4ryFl4skS3ss10nSignatur_8"
	flaskZip  = ".eJwlzjsOwjAMANC7ZGaw82nsXqaKP7FYWzohxN1B4t3gfcqRZ12HcnvNs67lPmzbAvRlDlWLmQ.ZzQx1w.Dq3ryFl4skS3ss10nSignatur_9"
	timed     = "ImtpbUBleGFtcGxlLmNvbSI.ZzQx1w.2VJq1Zk3mB7Qd0cPpYw9aLrT5uE"
	untimed   = "ImtpbUBleGFtcGxlLmNvbSI.4XJq1Zk3mB7Qd0cPpYw9aLrT5uF"
	unsignedJ = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhZG1pbiJ9."
)

var (
	remember = "7|" + strings.Repeat("0123456789abcdef", 8)
	awsID    = "AK" + "IAIOSFODNN7EXAMPLE"
	github   = "gh" + "p_16C7e42F292c6912E7710c838347Ae178B4a"
	stripe   = "sk_" + "live_4eC39HqLyjWDarjtT1zdp7dc"
	slack    = "xox" + "b-263594206564-FGqddMF8t08v8N7Oq4i57vs1"
	google   = "AI" + "zaSyDdI0hCZtE6vySjMm-WEfRq3CPzqKqqsHI"
	sendgrid = "SG" + ".ngeVfQFYQlKU0ufo8x5d1A.TwL2iGABf9DHoTf-09kqeF8tAmbihYzrnopKc-1s5cr"
	pem      = "-----BEGIN RSA PRIVATE" + " KEY-----\nMIIBOgIBAAJBAKj34GkxFhD90vcNLYLInFEX6Ppy1tPf9Cnzj4p4WGeKLs1Pt8Qu\n-----END RSA PRIVATE" + " KEY-----"
)

// TestTakenOut: what must not come out again, in the places where it travels.
func TestTakenOut(t *testing.T) {
	for _, c := range []struct{ in, leak string }{
		{`{"username": "kim", "password": "Tr0ub4dor&3"}`, "Tr0ub4dor"},
		{`{"password":"with \" quote inside"}`, "quote"},
		{`{\"password\":\"escaped-json\"}`, "escaped-json"},
		{`"{\\\"password\\\":\\\"twice-escaped\\\"}"`, "twice-escaped"},
		{`{'password': ['from-a-form']}`, "from-a-form"},
		{`{"credentials": {"user": "kim", "key2": "nested-one"}} rest`, "nested-one"},
		{`{"pin": 4711, "n": 1}`, "4711"},
		{`form user[password]=bracketed&x=1`, "bracketed"},
		{`form user%5Bpassword%5D=encoded-name&x=1`, "encoded-name"},
		{`a=%22password%22%3A%22encoded-json%22`, "encoded-json"},
		{`password=semi;colon,comma x`, "colon"},
		{`password='quoted value' x`, "quoted value"},
		{`password: hunter2`, "hunter2"},
		{`PASSWORD = "x y z w"`, "y z"},
		{`old_password=aaaaaa&new_password=bbbbbb`, "bbbbbb"},
		{`"password" => "ruby-style"`, "ruby-style"},
		{`passphrase=p1&passwort=deutsch1`, "deutsch1"},
		{"card=4242 4242 4242 4242 ok", "4242"}, {"iban: DE89 3704 0044 0532 0130 00", "0532"}, {"x_token=|4242 4242 4242 4242 0", "4242"},
		{`db_pass=dbpass1 x`, "dbpass1"}, {"pAss=\nX-Api-Key: after-the-name 0", "after-the-name"}, {"0\\u000aBearer ab12glued 0", "ab12glued"}, {"card 4242 4242 4242 4242 7 pieces", "4242"},
		{`stripe_secret_key=whatever1`, "whatever1"},
		{`API-Key: abc-123`, "abc-123"},
		{`X-Api-Key: abc-456`, "abc-456"},
		{`Cookie: a=1; session=abc.def; b=2`, "abc.def"},
		{`Set-Cookie: sid=qwerty; Path=/`, "qwerty"},
		{`Authorization: Digest username="kim", response="6629fae49393a05397450978507c4ef1"`, "6629fae"},
		{`authorization: Basic a2ltOnNlY3JldA==`, "a2ltOnN"},
		{`sent Bearer abcdef0123456 to`, "abcdef0123456"},
		{`sent basic a2ltOnNlY3JldA== to`, "a2ltOnN"},
		{`Token 9944b09199c62bcf9418ad846dd0e4bbdfc6ee4b`, "9944b091"},
		{`code=4%2F0AX4XfWh&state=xyz`, "0AX4XfWh"},
		{"jwt " + jwt, "eyJzdWIi"},
		{"jwt " + jwt, "SflKxw"},
		{"/verify/" + jwt + "/x", "eyJzdWIi"},
		{"half " + jwt[:60], "eyJzdWIi"},
		{`repr 'a\n` + github + `'`, "16C7e42F"}, {`a\\n` + github, "16C7e42F"}, {`a\u0009` + awsID, "IOSFODNN"}, {`a\x1b` + awsID, "IOSFODNN"}, {`x\npin=4711`, "4711"}, {`c:\token=backslash`, "backslash"},
		{"unsigned " + unsignedJ, "eyJzdWIi"},
		{"cookie " + flask, "eyJfdXNl"},
		{"cookie " + flask, "Cn4ryF"},
		{"cookie " + flaskZip + ".", "Dq3ryF"},
		{"cookie " + flaskZip, "eJwlzjsO"},
		{"link /reset/" + timed, "2VJq1Z"},
		{"link?t=" + untimed, "4XJq1Z"},
		{"kim@example.com.ZzQx1w.2VJq1Zk3mB7Qd0cPpYw9aLrT5uE", "2VJq1Z"},
		{"remember " + remember, "0123456789abcdef"},
		{"remember " + strings.Replace(remember, "|", "%7C", 1), "0123456789abcdef"},
		{"id " + awsID + ",", "IOSFODNN"}, {"x:" + github, "16C7e42F"}, {"key/" + github, "16C7e42F"}, {"my-" + stripe + "!", "4eC39Hq"},
		{slack, "FGqddMF"}, {"u=" + google, "SyDdI0h"}, {sendgrid, "TwL2iGAB"},
		{"before " + pem + " after", "MIIBOg"},
		{"before " + pem[:60], "MIIBOg"},
		{strings.NewReplacer(" ", "%20", "\n", "%0A").Replace(pem), "MIIBOg"},
		{"card 4242 4242 4242 4242.", "4242"}, {"card 4242-4242-4242-4242", "4242"}, {"n=4242424242424242", "4242"}, {"n=4242+4242+4242+4242", "4242"},
		{"n=4242%204242%204242%204242", "4242"}, {"amex 3782 822463 10005", "822463"}, {"amex 378282246310005", "378282"}, {"card_5555555555554444", "5555"}, {"mail-4242424242424242", "4242"},
		{"mc 5555555555554444,", "5555"}, {"diners 3056 930902 5904", "930902"}, {"d 6011111111111117", "6011"},
		{"postgresql://shop:s3cr3t@db/shop", "s3cr3t"}, {"https://ghtoken@host/x", "ghtoken"}, {"redis://:p@ss/w#rd@h:1/0", "w#rd"}, {"https://u:p%40ss@h/a@b", "p%40ss"},
		{"mail kim.lee+shop@example.com", "kim.lee"}, {"to=kim%40example.com", "kim%40"}, {"<jürgen@example.de>", "jürgen"},
		{"random Zk3mB7Qd0cPpYw9aLrT5uE2VJq1ZxN8hGf4sKj6tRb", "Zk3mB7"},
	} {
		got := NewRedactor().Text(c.in)
		if strings.Contains(got, c.leak) {
			t.Errorf("Text(%q)\n = %q leaks %q", c.in, got, c.leak)
		}
		if !strings.Contains(c.in, c.leak) {
			t.Errorf("%q does not hold %q: the case tests nothing", c.in, c.leak)
		}
	}
}

// TestLeftIn: what looks a little like a secret and is none.
func TestLeftIn(t *testing.T) {
	for _, s := range []string{
		"order 4000000000000003-7 shipped", "order 2024-000123456789", "invoice 1234567890123456", "isbn 9783161484100", "ean 4006381333931",
		"id 550e8400-e29b-41d4-a716-446655440000", "ulid 01ARZ3NDEKTSV4RRFFQ69G5FAV", "objectid 507f1f77bcf86cd799439011",
		"commit da39a3ee5e6b4b0d3255bfef95601890afd80709", "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
		"sha384-oqVuAfXRKap7fdgcCY5uykM6+R9GqQ8K/uxy9rx7HNQlGYl1kPzQho1wx4JwY8wC",
		"2024-01-15T10:30:00.123456+01:00", "[15/Jan/2024:10:30:00 +0000]", "1700000000123", "1700000000.4242424242424242",
		"v1.2.3-rc.1+build.5", "gunicorn 23.0.0", "Python/3.12.4 Werkzeug/3.0.3", "2001:db8::8a2e:370:7334", "[::1]:8443", "10.0.0.1:443",
		"/static/js/main.8f3a2b1c.chunk.js", "IMG_20240115_123456.jpg", "/usr/lib/python3.12/site-packages/flask/app.py",
		"monkey=banana", "keyboard: qwertz", "turkey=1", "donkey=2", "statement=7", "encode=utf8", "HTTP status code: 404", "state: running", "worker exited with code: 1", "the key: be patient",
		"Basic authentication failed", "a bearer of good news", "Bearer authentication required", "token refreshed",
		"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36",
		"TestUserRegistrationWithInvalidEmail2AddressFails", "test_user_registration_with_an_invalid_mail_address", "flask.app.SomeQuiteLongClassNameHere",
		"GET /products/the-long-and-winding-road-to-nowhere-in-particular HTTP/1.1", "q=red+shoes&page=2&sort=price", "next=%2Fcart%3Fpage%3D2",
		"user@localhost", "@mention and #tag", "x@", "50% of 100%", "5 > 3 && 2 < 4", "a=b", "日本語のテキスト: はい", "naïve café — déjà vu",
		"-----BEGIN CERTIFICATE-----", "git rev-parse --short HEAD", "4096 4096 4096 4097", "https://example.com/a/b?c=d#e", "unix:///run/app.sock",
		"0x7ffe4242424242424242", "12345678901234567890123456789012345678901234567890", "CVE-2024-3094", "CWE-798", "Content-Length: 4242",
	} {
		if got := NewRedactor().Text(s); got != s {
			t.Errorf("Text(%q) = %q", s, got)
		}
	}
}

func TestPath(t *testing.T) {
	r := NewRedactor()
	for in, want := range map[string]string{
		"/reset/E2eResetLinkToken0123456789AbCd":                       "/reset/[redacted]",
		"/E2eResetLinkToken0123456789AbCd":                             "/[redacted]",
		"/reset-password/550e8400-e29b-41d4-a716-446655440000/confirm": "/reset-password/[redacted]/confirm",
		"/verify_email/da39a3ee5e6b4b0d3255bfef95601890afd80709":       "/verify_email/[redacted]",
		"/reset/" + timed:                              "/reset/[redacted]",
		"/x;jsessionid=0123ABCD/y?":                    "/x;jsessionid=[redacted]",
		"/u/kim%40example.com":                         "/u/k***%40example.com",
		"/orders/550e8400-e29b-41d4-a716-446655440000": "/orders/550e8400-e29b-41d4-a716-446655440000",
		"/session/new":                                 "/session/new",
		"/login":                                       "/login",
		"/login/callback":                              "/login/callback",
		"/blog/how-to-reset-your-password-in-2024-the-short-guide": "/blog/how-to-reset-your-password-in-2024-the-short-guide",
		"/static/vendor/bootstrap-5.3.3-dist/bootstrap.min.css":    "/static/vendor/bootstrap-5.3.3-dist/bootstrap.min.css",
		"/%2e%2e/etc/passwd": "/%2e%2e/etc/passwd",
		"":                   "",
		"*":                  "*",
	} {
		if got := r.Path(in); got != want {
			t.Errorf("Path(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestQuery(t *testing.T) {
	r := NewRedactor("tenantkey")
	for in, want := range map[string]string{
		"":                        "",
		"a=1&b=2":                 "a=1&b=2",
		"password=a;b&x=1":        "password=[redacted]&x=1", // one server sees a;b, another only a
		"a=1;token=x;y&c=2":       "a=1;token=[redacted]&c=2",
		"pass%77ord=x":            "pass%77ord=[redacted]",
		"a=%zz&token=x":           "a=%zz&token=[redacted]",
		"token=":                  "token=",
		"token":                   "token",
		"user%5Bpassword%5D=x":    "user%5Bpassword%5D=[redacted]",
		"next=%2Fr%3Ftoken%3Dabc": "next=/r?token%3D[redacted]",
		"u=https%3A%2F%2Fh%2Freset%2FE2eResetLinkToken0123456789AbCd": "u=https://h/reset/[redacted]",
		"next=%252Fr%253Ftoken%253Dabc":                               "next=%2Fr%3Ftoken%3D[redacted]",
		"t=E2eResetLinkToken0123456789AbCd":                           "t=[redacted]",
		"E2eResetLinkToken0123456789AbCd":                             "[redacted]",
		"mail=kim%40example.com":                                      "mail=k***@example.com",
		"card=4242":                                                   "card=[redacted]",
		"n=4242+4242+4242+4242":                                       "n=[redacted]",
		"Tenant-Key=1":                                                "Tenant-Key=[redacted]",
		"q=red+shoes&sort=price":                                      "q=red+shoes&sort=price",
		"&&;=;&":                                                      "&&;=;&",
		`j=%7B%22password%22%3A%22x%22%7D`:                            `j={"password":"[redacted]"}`,
	} {
		got := r.Query(in)
		if got != want {
			t.Errorf("Query(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestLine(t *testing.T) {
	r := NewRedactor()
	for in, want := range map[string]string{
		`127.0.0.1 - - [15/Jan/2024:10:30:00 +0000] "GET /reset/E2eResetLinkToken0123456789AbCd HTTP/1.1" 404 207 "-" "curl/8"`: `127.0.0.1 - - [15/Jan/2024:10:30:00 +0000] "GET /reset/[redacted] HTTP/1.1" 404 207 "-" "curl/8"`,
		`"GET /reset/E2eResetLinkToken0123456789AbCd" 404`:                                                                      `"GET /reset/[redacted]" 404`,
		`'/reset/E2eResetLinkToken0123456789AbCd' not found`:                                                                    `'/reset/[redacted]' not found`,
		`ref "https://shop.example/reset/E2eResetLinkToken0123456789AbCd?x=1"`:                                                  `ref "https://shop.example/reset/[redacted]?x=1"`,
		`GET /a?t=E2eResetLinkToken0123456789AbCd&b=2 500`:                                                                      `GET /a?t=[redacted]&b=2 500`,
		`path=/reset/E2eResetLinkToken0123456789AbCd`:                                                                           `path=/reset/[redacted]`,
		`  File "/srv/app/shop/views.py", line 12, in reset`:                                                                    `  File "/srv/app/shop/views.py", line 12, in reset`,
		`[2024-01-15 10:30:00 +0000] [7] [INFO] Booting worker with pid: 7`:                                                     `[2024-01-15 10:30:00 +0000] [7] [INFO] Booting worker with pid: 7`,
		"colour \x1b[31mred\x1b[0m":                                                                                             `colour red`,
		"clear \x1b[2J screen \x1b":                                                                                             `clear \u001b[2J screen \u001b`,
		"\x1b[32m" + github + "\x1b[0m":                                                                                         "[redacted]",
		"a\r\nforged":                                                                                                           `a\u000d\u000aforged`,
		"bad \xff\xfe utf8":                                                                                                     `bad \xff\xfe utf8`,
		"turn \u202egpj.exe":                                                                                                    `turn \u202egpj.exe`,
		"user 'kim' logged in with password=hunter2":                                                                            "user 'kim' logged in with password=[redacted]",
	} {
		if got := r.Line(in); got != want {
			t.Errorf("Line(%q)\n  = %q\nwant %q", in, got, want)
		}
	}
}

// TestRealSignatures: what itsdangerous makes of random keys and values is
// taken out, whatever its signature happens to look like.
func TestRealSignatures(t *testing.T) {
	r := NewRedactor()
	rnd := rand.New(rand.NewPCG(1, 2))
	timedLeaks, untimedLeaks := 0, 0
	const n = 20000
	for i := range n {
		payload := base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, `["%d"]`, i))
		stamp := base64.RawURLEncoding.EncodeToString([]byte{0x67, byte(rnd.Uint32()), byte(rnd.Uint32()), byte(rnd.Uint32())})
		mac := hmac.New(sha1.New, []byte{byte(i), byte(i >> 8)})
		mac.Write([]byte(payload))
		sig := base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
		if strings.Contains(r.Text("t "+payload+"."+stamp+"."+sig), sig) {
			timedLeaks++
		}
		if strings.Contains(r.Text("t "+payload+"."+sig), sig) {
			untimedLeaks++
		}
	}
	if timedLeaks > 0 || untimedLeaks > n/1000 {
		t.Errorf("of %d tokens %d timed and %d untimed ones leaked", n, timedLeaks, untimedLeaks)
	}
	t.Logf("of %d tokens %d timed and %d untimed ones leaked", n, timedLeaks, untimedLeaks)
}

func TestEventIsRedactedEverywhere(t *testing.T) {
	const leak = "hunter2canary"
	e := NewRedactor().Event(Event{
		Message: "password=" + leak, Detail: "token: " + leak, Host: "a@b", Path: "/x;session=" + leak, Query: "a=1&pwd=" + leak,
		UserAgent: "x api_key=" + leak, Method: "GET\nPOST", Reason: strings.Repeat("r", 100),
		Attributes: map[string]string{"set-cookie": leak, "note": "secret=" + leak, "password=" + leak: "x", "bad\nkey": "v"},
	})
	all := fmt.Sprintf("%+v", e)
	if strings.Contains(all, leak) {
		t.Errorf("leaks: %s", all)
	}
	if strings.ContainsAny(all, "\n\r") || e.Method != `GET\u000aPOST` || len(e.Reason) > 70 {
		t.Errorf("not one line: %q", all)
	}
	// A text that is cut is redacted first: half a token has no shape.
	long := strings.Repeat("x", maxDetail-30) + " " + jwt
	if d := NewRedactor().Event(Event{Detail: long}).Detail; strings.Contains(d, "eyJ") || len(d) > maxDetail+4 {
		t.Errorf("cut token leaks: …%s", d[len(d)-60:])
	}
	if h := NewRedactor().Event(Event{Host: "token.example.com:443"}).Host; h != "token.example.com:443" {
		t.Errorf("host = %q", h)
	}
}

func TestSecretKey(t *testing.T) {
	r := NewRedactor("X-Tenant_Key")
	for name, want := range map[string]bool{
		"password": true, "Password": true, "user[password]": true, "X-API-Key": true, "csrf_token": true, "xtenantkey": true, "SECRET_KEY": true,
		"monkey": false, "name": false, "": false, "user": false, "page": false, "db_pass": true, "smtpPwd": true, "user[pin]": true, "bypass": false, "shipping": false, "compass": false, "BYPASS": false, strings.Repeat("x", 500) + "password": true,
	} {
		if got := r.SecretKey(name); got != want {
			t.Errorf("SecretKey(%q) = %v", name, got)
		}
	}
}

// TestLinear: no text makes the redactor take more than linear time.
func TestLinear(t *testing.T) {
	r := NewRedactor()
	for _, unit := range []string{"a://", "cookie:\\u000a", "password=[", "password=\"", "%3D", "4-", "4 ", "e.", "eyJ.", "a@", "-----BEGIN ", "/reset/", "=", ": ", "\\\"", "token:", "4242 ", "%40", "bearer "} {
		s := strings.Repeat(unit, maxLine/len(unit))
		// About 1 ms where it is fast, 20 where it is slow; squared it
		// would be seconds, every time.
		took := time.Hour
		for range 10 {
			begin := time.Now()
			r.Line(s)
			r.Query(s)
			if took = min(took, time.Since(begin)); took < time.Second {
				break
			}
		}
		if took > time.Second {
			t.Errorf("%q: %v for %d KiB", unit, took, maxLine>>10)
		}
	}
}

func FuzzRedact(f *testing.F) {
	for _, s := range []string{`{"password": "x"}`, jwt, flaskZip, pem, "a@b.c", "redis://:p@h", "token=[", "Cookie: \\u000a", "4242 4242 4242 4242", "%40%3D%", "/reset/E2eResetLinkToken0123456789AbCd?x=%2Fy%3Ftoken%3Dz", "\xff\u202e\x00", "password=\\\"a\\\"b"} {
		f.Add(s)
	}
	r := NewRedactor()
	f.Fuzz(func(t *testing.T, s string) {
		if utf8.ValidString(s) {
			once := r.Text(s)
			if !utf8.ValidString(once) {
				t.Fatalf("Text(%q) = %q is no UTF-8", s, once)
			}
			if twice := r.Text(once); twice != once {
				t.Fatalf("Text(%q) = %q, then %q", s, once, twice)
			}
		}
		e := r.Event(Event{Message: s, Detail: s, Path: s, Query: s, UserAgent: s, Host: s, Method: s, Attributes: map[string]string{s: s}})
		for _, out := range []string{r.Line(s), e.Message, e.Detail, e.Path, e.Query, e.UserAgent, e.Host, e.Method, e.Attributes["x"]} {
			if !utf8.ValidString(out) {
				t.Fatalf("%q from %q is no UTF-8", out, s)
			}
			for _, c := range out {
				if unsafeRune(c) {
					t.Fatalf("%q from %q holds %U", out, s, c)
				}
			}
		}
	})
}

// FuzzCanary puts a secret into random surroundings: whatever stands around
// it, it never comes out.
func FuzzCanary(f *testing.F) {
	raw := hex.EncodeToString([]byte("canary"))
	secrets := []struct{ text, leak string }{
		{"password=" + raw, raw}, {`"password": "` + raw + `"`, raw}, {"X-Api-Key: " + raw, raw}, {"Cookie: sid=" + raw, raw}, {"token%3D" + raw, raw},
		{jwt, "SflKxw"}, {flask, "Cn4ryF"}, {flaskZip, "Dq3ryF"}, {timed, "2VJq1Z"}, {github, "16C7e42F"}, {awsID, "IOSFODNN"}, {stripe, "4eC39Hq"},
		{"4242 4242 4242 4242", "4242 4242"}, {"Bearer ab12" + raw, raw}, {"redis://:" + raw + "@h", raw}, {strings.ReplaceAll(pem, "\n", " "), "MIIBOg"},
	}
	for i := range secrets {
		f.Add("before", "after", uint8(i), uint8(i))
	}
	f.Add(`{"a": "`, `"}`, uint8(3), uint8(1))
	f.Add(`password=[`, `]`, uint8(0), uint8(0))
	r := NewRedactor()
	f.Fuzz(func(t *testing.T, before, after string, which, where uint8) {
		s := secrets[int(which)%len(secrets)]
		if strings.Contains(before+after, s.leak) || len(before)+len(after) > maxLine/2 {
			t.Skip()
		}
		sep := []string{" ", "\n", "\t", " (", "<", "`", "|", "&"}[where%8]
		if sep == "&" && !strings.Contains(s.text, "=") || sep == "|" && strings.ContainsAny(s.text, ":%") {
			sep = " "
		}
		text := before + sep + s.text + " " + after
		for name, out := range map[string]string{"Text": r.Text(text), "Line": r.Line(text), "Detail": r.Event(Event{Detail: text}).Detail, "Message": r.Event(Event{Message: text}).Message} {
			if strings.Contains(out, s.leak) {
				t.Fatalf("%s(%q) = %q leaks %q", name, text, out, s.leak)
			}
		}
	})
}

// accessLog is what gunicorn writes, one line in twenty with something to
// take out.
func accessLog() []string {
	var out []string
	for i := range 20 {
		l := fmt.Sprintf(`127.0.0.1 - - [15/Jan/2024:10:30:%02d +0000] "GET /products/%d/the-long-and-winding-road?page=2&sort=price HTTP/1.1" 200 %d "https://shop.example/products" "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36"`, i, 1000+i, 20000+i)
		if i == 7 {
			l = strings.Replace(l, "/products/1007", "/reset/E2eResetLinkToken0123456789AbCd", 1)
		}
		out = append(out, l)
	}
	return out
}

func BenchmarkLine(b *testing.B) {
	r := NewRedactor()
	lines := accessLog()
	n := 0
	for _, l := range lines {
		n += len(l)
	}
	b.SetBytes(int64(n))
	b.ReportAllocs()
	for b.Loop() {
		for _, l := range lines {
			r.Line(l)
		}
	}
}

func BenchmarkText(b *testing.B) {
	r := NewRedactor()
	for name, s := range map[string]string{
		"prose": strings.Repeat("The quick brown fox jumps over the lazy dog, and nobody minds. ", 100),
		"json":  strings.Repeat(`{"id": 12345, "name": "Kim", "at": "2024-01-15T10:30:00Z", "uuid": "550e8400-e29b-41d4-a716-446655440000", "password": "x"}, `, 50),
	} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(s)))
			b.ReportAllocs()
			for b.Loop() {
				r.Text(s)
			}
		})
	}
}

func BenchmarkEvent(b *testing.B) {
	r := NewRedactor()
	e := Event{Name: "http_request", Severity: Info, RequestID: "01ARZ3NDEKTSV4RRFFQ69G5FAV", Method: "GET", Scheme: "https", Host: "shop.example", Path: "/products/17/shoes", Query: "page=2&sort=price",
		Status: 200, UserAgent: "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36"}
	b.ReportAllocs()
	for b.Loop() {
		r.Event(e)
	}
}
