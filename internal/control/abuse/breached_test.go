package abuse

import (
	"bytes"
	"crypto/sha1"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/dewar-security/dewar/internal/guard"
	"github.com/dewar-security/dewar/internal/store"
)

// counted counts reads.
type counted struct {
	io.ReaderAt
	n int
}

func (c *counted) ReadAt(p []byte, at int64) (int, error) {
	c.n++
	return c.ReaderAt.ReadAt(p, at)
}

func hashFile(t testing.TB, n int, end string) string {
	t.Helper()
	var lines []string
	for i := range n {
		lines = append(lines, fmt.Sprintf("%X:%d", sha1.Sum(fmt.Appendf(nil, "known-%d", i)), 1+i*i%100000))
	}
	slices.Sort(lines)
	name := filepath.Join(t.TempDir(), "pwned.txt")
	if err := os.WriteFile(name, []byte(strings.Join(lines, end)+end), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestBreached(t *testing.T) {
	for _, end := range []string{"\r\n", "\n"} {
		for _, n := range []int{1, 2, 3, 17, 5000} {
			b, c, err := openBreached(hashFile(t, n, end))
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			reads := &counted{ReaderAt: b.file}
			b.file = reads
			for i := range min(n, 500) {
				if ok, err := b.has(fmt.Sprintf("known-%d", i)); !ok || err != nil {
					t.Fatalf("%d of %d: %v %v", i, n, ok, err)
				}
				if ok, err := b.has(fmt.Sprintf("unknown-%d", i)); ok || err != nil {
					t.Fatalf("unknown %d of %d: %v %v", i, n, ok, err)
				}
			}
			if per := float64(reads.n) / float64(2*min(n, 500)); per > 25 {
				t.Errorf("%d hashes: %.1f reads each", n, per)
			}
		}
	}
	b := &breached{}
	for p, want := range map[string]bool{"123456": true, "Password": true, "qwertyuiop": true, "": false, "a-Long-and-rare-1": false} {
		if ok, _ := b.has(p); ok != want {
			t.Errorf("%q: %v", p, ok)
		}
	}
	if n := len(commonPasswords()); n != 3000 {
		t.Errorf("%d common passwords", n)
	}
	for name, text := range map[string]string{
		"passwords":    "hunter2\nsecret\n",
		"by frequency": "FFF00000AD76BD555C1D6D771DE417A4B87E4B4A:9\n00000000AD76BD555C1D6D771DE417A4B87E4B4A:1\n",
		"NTLM":         "00000011059407D743D40689940F858C:1\n",
		"one line":     strings.Repeat("A", 5000),
		"empty":        "",
	} {
		file := filepath.Join(t.TempDir(), "x")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, _, err := openBreached(file); err == nil {
			t.Errorf("%s: taken for a list", name)
		}
	}
}

func FuzzBreached(f *testing.F) {
	f.Add([]byte("000000005AD76BD555C1D6D771DE417A4B87E4B4:10\r\n"), "x")
	f.Fuzz(func(t *testing.T, text []byte, password string) {
		b := &breached{file: bytes.NewReader(text), size: int64(len(text))}
		_ = b.check()
		_, _ = b.has(password)
	})
}

// TestBreachedAtTheApp: chosen passwords are refused where the operator wants
// that, reported where they log in, and shown nowhere.
func TestBreachedAtTheApp(t *testing.T) {
	cfg := loginDefaults(t)
	cfg.Breached = hashFile(t, 100, "\n")
	w := newSite(t, cfg, nil, styles["200 re-render"], map[string]string{"kim": "known-7", "max": "rare"})
	w.try("203.0.113.7", "kim", "known-8", nil)
	if len(w.log.named("dewar_password_breached")) != 0 {
		t.Error("a failed login is reported")
	}
	w.try("203.0.113.7", "max", "rare", nil)
	w.try("203.0.113.7", "kim", "known-7", nil)
	e := w.log.named("dewar_password_breached")
	if len(e) != 1 || strings.Contains(fmt.Sprint(e), "known-7") || strings.Contains(fmt.Sprint(e), "kim") {
		t.Errorf("%+v", e)
	}
	for refuse, want := range map[bool]int{true: 422, false: 200} {
		cfg.BreachedRefuse = refuse
		st := store.NewMemory(store.MemoryOptions{Buckets: 8})
		defer st.Close()
		l, err := NewLogin(cfg, guard.Env{Store: st})
		if err != nil {
			t.Fatal(err)
		}
		j := &journal{}
		chain, err := guard.NewChain(guard.Options{Layers: []guard.Bound{{Spec: loginSpec, Layer: l}}, Publish: j.publish, Forward: forwarder(func(*guard.Exchange) *http.Response {
			return &http.Response{StatusCode: 200, Header: http.Header{}, Body: http.NoBody}
		})})
		if err != nil {
			t.Fatal(err)
		}
		ask := func(password string) int {
			r := httptest.NewRequest("POST", "/register", strings.NewReader("email=a&password="+password+"&repeat_password="+password))
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			rec := httptest.NewRecorder()
			chain.ServeHTTP(rec, r)
			return rec.Code
		}
		if got := ask("known-9"); got != want {
			t.Errorf("refuse %v: %d", refuse, got)
		}
		if got := ask("rare-and-long"); got != 200 {
			t.Errorf("a good password: %d", got)
		}
		if len(j.named("dewar_password_breached")) != 1 {
			t.Errorf("refuse %v: no event", refuse)
		}
	}
}
