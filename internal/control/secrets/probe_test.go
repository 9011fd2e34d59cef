package secrets

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/dewar-security/dewar/internal/evidence"
	"github.com/dewar-security/dewar/internal/flasksession/flasksessiontest"
	"github.com/dewar-security/dewar/internal/probe/probetest"
)

func flaskSession(key, json string) string {
	return flasksessiontest.Session(key, json, time.Unix(0x6921498f, 0))
}

func cookie(value string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if value != "" {
			w.Header().Add("Set-Cookie", "session="+value+"; HttpOnly; Path=/")
		}
	})
}

func TestKeyProbe(t *testing.T) {
	k := probetest.Find(t, checks, "session-key-published")
	for _, x := range []struct {
		name, value string
		want        evidence.Outcome
	}{
		{"dev", flaskSession("dev", `{"a":1}`), evidence.Fail},
		{"capitals and an exclamation mark", flaskSession("CHANGE-ME!", `{"a":1}`), evidence.Fail},
		{"the tutorial's bytes", flaskSession("_5#y2L\"F4Q8z\n\xec]/", `{}`), evidence.Fail},
		{"random", flaskSession("8f42a73054b1749f8f58848be5e6502c", `{"a":1}`), evidence.Pass},
		{"quoted", `"` + flaskSession("dev", `{"a":1}`) + `"`, evidence.Fail},
		{"an opaque id", "b7d2c0f1e8a94c3d", evidence.Error},
		{"a JWT", "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk", evidence.Error},
		{"no cookie", "", evidence.Error},
	} {
		t.Run(x.name, func(t *testing.T) {
			all := probetest.Ask(t, k, cookie(x.value), false)
			probetest.Want(t, all, x.want)
			for _, e := range all {
				if x.value != "" && strings.Contains(e.Summary+e.Seen, x.value) {
					t.Errorf("the cookie's value is in the report: %+v", e)
				}
			}
		})
	}
}

func TestSecretFiles(t *testing.T) {
	k := probetest.Find(t, checks, "secret-file-served")
	for _, x := range []struct {
		path, text string
		want       evidence.Outcome
	}{
		{"/.env", "# production\nSECRET_KEY=geheim\n", evidence.Fail},
		{"/.env", "<!doctype html>\nSECRET_KEY=geheim", evidence.Pass},
		{"/.env", "not found\n", evidence.Pass},
		{"/.git/HEAD", "ref: refs/heads/main\n", evidence.Fail},
		{"/.git/HEAD", "5d41402abc4b2a76b9719d911017c592ae3f1c22\n", evidence.Fail},
		{"/app.db", "SQLite format 3\x00", evidence.Fail},
		{"/backup.sql", "-- MySQL dump 10.13\n", evidence.Fail},
		{"/backup.zip", "PK\x03\x04", evidence.Fail},
		{"/server.key", "-----BEGIN PRIVATE KEY-----\n", evidence.Fail},
		{"/config.json", `{"db_password": "hunter22"}`, evidence.Fail},
		{"/config.json", `{"password": "", "theme": "dark"}`, evidence.Pass},
		{"/nothing", "", evidence.Pass},
	} {
		all := probetest.Ask(t, k, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			switch r.URL.Path {
			case "/":
			case x.path:
				io.WriteString(w, x.text)
			default:
				http.NotFound(w, r)
			}
		}), false)
		probetest.Want(t, all, x.want)
		for _, e := range all {
			if strings.Contains(e.Summary+e.Seen, "geheim") || strings.Contains(e.Summary+e.Seen, "hunter22") {
				t.Errorf("the report holds the secret: %+v", e)
			}
		}
	}
}
