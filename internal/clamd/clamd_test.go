package clamd_test

import (
	"archive/zip"
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/dewar-security/dewar/internal/clamd"
	"github.com/dewar-security/dewar/internal/clamd/clamdtest"
)

func client(t testing.TB, address string) *clamd.Client {
	t.Helper()
	c, err := clamd.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func zipOf(name, text string) string {
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	w, _ := z.Create(name)
	_, _ = io.WriteString(w, text)
	z.Close()
	return b.String()
}

func TestScan(t *testing.T) {
	c := client(t, clamdtest.Start(t, "StreamMaxLength 2M"))
	nested := clamdtest.Eicar()
	for range 5 {
		nested = zipOf("n.zip", nested)
	}
	for _, f := range []struct{ name, text, want string }{
		{"nothing", "", ""},
		{"text", "hello", ""},
		{"more than a chunk", strings.Repeat("hello\n", 100_000), ""},
		{"test file", clamdtest.Eicar(), clamdtest.Signature},
		{"test file in a ZIP archive", zipOf("a", clamdtest.Eicar()), clamdtest.Signature},
		{"test file five archives deep", nested, clamdtest.Signature},
		{"test file behind much else", strings.Repeat("x", 1<<20) + clamdtest.Eicar(), clamdtest.Signature},
	} {
		got, err := c.Scan(context.Background(), strings.NewReader(f.text))
		if err != nil || !strings.HasPrefix(got, f.want) || (got == "") != (f.want == "") {
			t.Errorf("%s: %q, %v", f.name, got, err)
		}
	}
	if _, err := c.Scan(context.Background(), bytes.NewReader(make([]byte, 8<<20))); !errors.Is(err, clamd.ErrTooLarge) {
		t.Errorf("over StreamMaxLength: %v", err)
	}
	if _, err := c.Scan(context.Background(), iotest.ErrReader(io.ErrNoProgress)); !errors.Is(err, io.ErrNoProgress) {
		t.Errorf("a file that cannot be read: %v", err)
	}
	if v, err := c.Version(context.Background()); err != nil || !strings.Contains(v, "ClamAV") {
		t.Errorf("%q, %v", v, err)
	}
}

// TestFaults: whatever the other end does, it is an error and never a clean
// file, and it ends.
func TestFaults(t *testing.T) {
	for _, f := range []struct {
		name  string
		serve func(net.Conn)
	}{
		{"hangs up at once", func(c net.Conn) {}},
		{"hangs up in the middle", func(c net.Conn) { _, _ = io.ReadFull(c, make([]byte, 1000)) }},
		{"says something else", func(c net.Conn) { drain(c); _, _ = io.WriteString(c, "UNKNOWN COMMAND\x00") }},
		{"says nothing", func(c net.Conn) { drain(c); time.Sleep(2 * time.Second) }},
		{"does not stop", func(c net.Conn) {
			drain(c)
			for {
				if _, err := io.WriteString(c, strings.Repeat("stream: OK ", 1000)); err != nil {
					return
				}
			}
		}},
		{"an error of its own", func(c net.Conn) { drain(c); _, _ = io.WriteString(c, "stream: Can't allocate memory ERROR\x00") }},
		{"a cut answer", func(c net.Conn) { drain(c); _, _ = io.WriteString(c, "stream: O") }},
		{"OK somewhere in it", func(c net.Conn) { drain(c); _, _ = io.WriteString(c, "stream: OK or not\x00") }},
	} {
		t.Run(f.name, func(t *testing.T) {
			l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			go func() {
				for {
					c, err := l.Accept()
					if err != nil {
						return
					}
					go func() { f.serve(c); c.Close() }()
				}
			}()
			c := client(t, "unix:"+l.Addr().String())
			c.Timeout = 500 * time.Millisecond
			if sig, err := c.Scan(context.Background(), bytes.NewReader(make([]byte, 300<<10))); err == nil {
				t.Errorf("no error, %q", sig)
			}
		})
	}
	c := client(t, "unix:"+filepath.Join(t.TempDir(), "nobody"))
	if _, err := c.Scan(context.Background(), strings.NewReader("x")); err == nil {
		t.Error("nobody listens, and the file is clean")
	}
	if _, err := c.Version(context.Background()); err == nil {
		t.Error("nobody listens, and there is a version")
	}
}

func drain(c net.Conn) {
	var size [4]byte
	_, _ = io.ReadFull(c, make([]byte, len("zINSTREAM\x00")))
	for {
		if _, err := io.ReadFull(c, size[:]); err != nil || size == [4]byte{} {
			return
		}
		n := int64(size[0])<<24 | int64(size[1])<<16 | int64(size[2])<<8 | int64(size[3])
		_, _ = io.CopyN(io.Discard, c, n)
	}
}

func TestCancel(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c := client(t, l.Addr().String())
	ctx, cancel := context.WithCancel(context.Background())
	time.AfterFunc(50*time.Millisecond, cancel)
	if _, err := c.Scan(ctx, strings.NewReader("x")); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

func TestParse(t *testing.T) {
	for in, want := range map[string]string{
		"unix:/run/clamav/clamd.ctl": "unix:/run/clamav/clamd.ctl", "/run/clamav/clamd.ctl": "unix:/run/clamav/clamd.ctl", "localhost:3310": "tcp:localhost:3310",
		"tcp://[::1]:3310": "tcp:[::1]:3310", "tcp:scanner:3310": "tcp:scanner:3310", "": "", "localhost": "", "unix:clamd": "", ":3310": "", "http://x": "",
	} {
		c, err := clamd.Parse(in)
		if (err == nil) != (want != "") || err == nil && c.String() != want {
			t.Errorf("%q: %v, %v", in, c, err)
		}
	}
}

func BenchmarkScan(b *testing.B) {
	c := client(b, clamdtest.Start(b))
	data := make([]byte, 8<<20)
	r := rand.New(rand.NewPCG(1, 2))
	for i := range data {
		data[i] = byte(r.Uint32())
	}
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		data[0]++ // the daemon remembers clean files
		if _, err := c.Scan(context.Background(), bytes.NewReader(data)); err != nil {
			b.Fatal(err)
		}
	}
}
