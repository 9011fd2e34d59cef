package flasksession_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/dewar-security/dewar/internal/flasksession"
	"github.com/dewar-security/dewar/internal/flasksession/flasksessiontest"
)

const key = "8f42a73054b1749f8f58848be5e6502c"

// oracle asks the real Flask, Flask-Login and itsdangerous to write values.
const oracle = `
import json, sys, datetime, uuid, hashlib
from flask import Flask, session
from flask.sessions import SecureCookieSessionInterface
from flask_login.utils import encode_cookie
from itsdangerous import URLSafeTimedSerializer
from markupsafe import Markup
app = Flask(__name__)
app.secret_key = sys.argv[1]
sessions = [
    {}, {"_user_id": "7", "_fresh": True}, {"user_id": 42}, {"user": {"id": 5, "name": "ann"}}, {"uid": uuid.UUID(int=7)},
    {"user": Markup("<b>")}, {"_user_id": "ü|.x", "n": None, "when": datetime.datetime(2026, 1, 2), "t": (1, 2), "b": b"ab"},
    {"pad": "x" * 3000, "_user_id": "long"}, {"user_id": 0, "logged_in": True, "admin": False}, {"user_id": 1.5},
]
out = []
serializer = SecureCookieSessionInterface().get_signing_serializer(app)
for s in sessions:
    out.append({"value": serializer.dumps(s), "keys": sorted(s)})
signed = []
for digest in (hashlib.sha1, hashlib.sha224, hashlib.sha256, hashlib.sha384, hashlib.sha512):
    for how in ("hmac", "django-concat", "concat", "none"):
        s = URLSafeTimedSerializer(sys.argv[1], salt="s4lt", signer_kwargs={"key_derivation": how, "digest_method": digest})
        signed.append({"value": s.dumps({"a": 1}), "how": how})
with app.app_context():
    remember = [encode_cookie(i) for i in ("7", "a|b", "ü", "")]
print(json.dumps({"sessions": out, "signed": signed, "remember": remember}))
`

func python(t *testing.T) string {
	t.Helper()
	p, _ := filepath.Abs("../../.venv/bin/python")
	if _, err := os.Stat(p); err != nil {
		if os.Getenv("DEWAR_REQUIRE_REAL") == "1" {
			t.Fatalf("needs make venv: %v", err)
		}
		t.Skipf("SKIPPED: needs make venv (%v)", err)
	}
	return p
}

// TestAgainstFlask reads what the real libraries write, and nothing else.
func TestAgainstFlask(t *testing.T) {
	out, err := exec.Command(python(t), "-c", oracle, key).Output()
	if err != nil {
		t.Fatal(err)
	}
	var w struct {
		Sessions []struct {
			Value string
			Keys  []string
		}
		Signed   []struct{ Value, How string }
		Remember []string
	}
	if err := json.Unmarshal(out, &w); err != nil {
		t.Fatal(err)
	}
	want := []map[string]string{
		{}, {"_user_id": "7", "_fresh": "true"}, {"user_id": "42"}, {"user": "5"}, {"uid": "00000000000000000000000000000007"},
		{"user": "<b>"}, {"_user_id": "ü|.x", "n": "", "t": ""}, {"_user_id": "long"}, {"user_id": "", "logged_in": "true", "admin": ""}, {"user_id": "1.5"},
	}
	if len(w.Sessions) != len(want) || len(w.Signed) != 20 || len(w.Remember) != 4 {
		t.Fatalf("%s", out)
	}
	for i, c := range w.Sessions {
		tok, ok := flasksession.Parse(c.Value)
		if !ok {
			t.Errorf("%s is not understood", c.Value)
			continue
		}
		if age := time.Since(tok.Time); age < -time.Minute || age > time.Minute {
			t.Errorf("signed at %v", tok.Time)
		}
		if !tok.VerifiedBy(flasksession.Signer{}, key) || !tok.SignedWith(key, flasksession.Salt) {
			t.Errorf("%s does not verify", c.Value)
		}
		if tok.VerifiedBy(flasksession.Signer{}, key+"x") || tok.SignedWith(key, "other") || tok.SignedWith("dev", flasksession.Salt) {
			t.Errorf("%s verifies under another key or salt", c.Value)
		}
		s, err := tok.Session()
		if err != nil || len(s) != len(c.Keys) {
			t.Errorf("%v, %v; want the keys %v", s, err, c.Keys)
		}
		for k, v := range want[i] {
			if got := s.Text(k); got != v {
				t.Errorf("%d: %s is %q, want %q (%s)", i, k, got, v, s[k])
			}
		}
		// Each single change makes it another value.
		for j := range len(c.Value) {
			if j > 200 {
				break
			}
			b := []byte(c.Value)
			b[j] ^= 1
			if tok, ok := flasksession.Parse(string(b)); ok && tok.VerifiedBy(flasksession.Signer{}, key) && !sameBits(string(b), c.Value) {
				t.Errorf("%s verifies, made from %s", b, c.Value)
			}
		}
	}
	for _, c := range w.Signed {
		tok, ok := flasksession.Parse(c.Value)
		if !ok || !tok.SignedWith(key, "other", "s4lt") {
			t.Errorf("%s (%s) does not verify", c.Value, c.How)
		}
		for _, how := range flasksession.Derivations {
			if got := tok.VerifiedBy(flasksession.Signer{Salt: "s4lt", Derivation: how}, key); got != (how == c.How) {
				t.Errorf("%s, derived by %s: %s says %v", c.Value, c.How, how, got)
			}
		}
	}
	for i, id := range []string{"7", "a|b", "ü", ""} {
		v := w.Remember[i]
		if got, ok := flasksession.Remembered(v); !ok || got != id {
			t.Errorf("%s: %q, %v", v, got, ok)
		}
		if !flasksession.RememberedWith(v, key) || flasksession.RememberedWith(v, "dev") || flasksession.RememberedWith("x"+v, key) {
			t.Errorf("%s: the signature is judged wrong", v)
		}
		if v != flasksessiontest.Remember(key, id) {
			t.Errorf("flasksessiontest writes another remember token than %s", v)
		}
	}
}

// sameBits: the last character of base64 has bits that mean nothing.
func sameBits(a, b string) bool { return len(a) == len(b) && a[:len(a)-1] == b[:len(b)-1] }

// TestFlaskReadsOurs: the tests' own writer writes what Flask reads.
func TestFlaskReadsOurs(t *testing.T) {
	v := flasksessiontest.Session(key, `{"_user_id":"7"}`, time.Now())
	const read = `import sys
from flask import Flask
from flask.sessions import SecureCookieSessionInterface
app = Flask(__name__)
app.secret_key = sys.argv[1]
print(SecureCookieSessionInterface().get_signing_serializer(app).loads(sys.argv[2], max_age=60)["_user_id"])`
	out, err := exec.Command(python(t), "-c", read, key, v).CombinedOutput()
	if err != nil || strings.TrimSpace(string(out)) != "7" {
		t.Fatalf("%v: %s", err, out)
	}
}

func TestNotASession(t *testing.T) {
	for _, v := range []string{
		"", ".", "..", "a.b.c", "b7d2c0f1e8a94c3d", "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk",
		"e30." + strings.Repeat("A", 12) + "." + strings.Repeat("A", 27), strings.Repeat("A", 20000) + ".aLx." + strings.Repeat("A", 27),
		"!!!.aLxx." + strings.Repeat("A", 27),
	} {
		if tok, ok := flasksession.Parse(v); ok {
			t.Errorf("%q is understood: %+v", v, tok)
		}
	}
	for _, v := range []string{"", "|", "7|zz", "7|" + strings.Repeat("a", 127), strings.Repeat("a", 128), "7|" + strings.Repeat("g", 128)} {
		if id, ok := flasksession.Remembered(v); ok {
			t.Errorf("%q remembers %q", v, id)
		}
	}
}

// A compressed payload may unpack to anything: it is bounded (CWE-409).
func TestBomb(t *testing.T) {
	const make = `import base64, zlib; print("." + base64.urlsafe_b64encode(zlib.compress(b'"' + b"a" * 50_000_000 + b'"', 9)).rstrip(b"=").decode()[:12000])`
	out, err := exec.Command(python(t), "-c", make).Output()
	if err != nil {
		t.Fatal(err)
	}
	v := strings.TrimSpace(string(out)) + ".aLxx." + strings.Repeat("A", 27)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if _, ok := flasksession.Parse(v); ok {
		t.Error("a bomb is a session")
	}
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > 1<<20 {
		t.Errorf("%d bytes for a bomb", n)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(flasksessiontest.Session("dev", `{"_user_id":{" u":"7"}}`, time.Unix(1764000000, 0)))
	f.Add(".eJwljjkOAjEMAP-SmsJ2HB_7mVV8RNDustWiPRuo0oxmcKi..")
	f.Add("a.b.c")
	f.Add(flasksessiontest.Remember("dev", "7"))
	f.Fuzz(func(t *testing.T, v string) {
		flasksession.RememberedWith(v, "dev")
		tok, ok := flasksession.Parse(v)
		if !ok {
			return
		}
		if !strings.HasPrefix(v, tok.Payload+".") {
			t.Errorf("%q has the payload %q", v, tok.Payload)
		}
		tok.SignedWith("dev", flasksession.Salt)
		if s, err := tok.Session(); err == nil {
			for k := range s {
				s.Text(k)
			}
		}
	})
}

func BenchmarkVerify(b *testing.B) {
	tok, _ := flasksession.Parse(flasksessiontest.Session(key, `{"_user_id":"7","_fresh":true}`, time.Unix(1764000000, 0)))
	b.ReportAllocs()
	for b.Loop() {
		if !tok.VerifiedBy(flasksession.Signer{}, key) {
			b.Fatal()
		}
	}
}
