package pysyntax

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"
)

// python returns the Python to compare with and its version.
func python(t testing.TB) (path, version string) {
	t.Helper()
	name := "python3"
	if p := os.Getenv("DEWAR_PYTHON"); p != "" {
		name = p
	}
	path, err := exec.LookPath(name)
	if err != nil {
		if os.Getenv("DEWAR_REQUIRE_REAL") != "" {
			t.Fatalf("no %s to compare with: %v", name, err)
		}
		t.Skipf("SKIPPED, NOTHING WAS COMPARED WITH CPYTHON: %v", err)
	}
	out, err := exec.Command(path, "-c", "import sys; print('%d.%d' % sys.version_info[:2])").Output()
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	version = strings.TrimSpace(string(out))
	if minor, ok := strings.CutPrefix(version, "3."); ok {
		if n, _ := strconv.Atoi(minor); n < 10 {
			t.Skipf("SKIPPED, NOTHING WAS COMPARED WITH CPYTHON: Python %s gives no places of imported names", version)
		}
	}
	return path, version
}

// stdlib returns the Python files of the standard library of python, or below
// the directory DEWAR_CORPUS.
func stdlib(t testing.TB, python string) []string {
	t.Helper()
	out, err := exec.Command(python, "-c", "import sysconfig; print(sysconfig.get_paths()['stdlib'])").Output()
	if err != nil {
		t.Fatal(err)
	}
	root := strings.TrimSpace(string(out))
	if dir := os.Getenv("DEWAR_CORPUS"); dir != "" {
		root = dir
	}
	var files []string
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && d.Name() == "site-packages" && path != root:
			return fs.SkipDir
		case d.Type().IsRegular() && strings.HasSuffix(path, ".py"):
			files = append(files, path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < 100 {
		t.Fatalf("only %d files below %s: nothing to compare with", len(files), root)
	}
	return files
}

// oracle is a running testdata/pdump.py.
type oracle struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

func startOracle(t testing.TB, python string) *oracle {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), python, "testdata/pdump.py")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close(); cmd.Wait() })
	return &oracle{cmd, in, bufio.NewReaderSize(out, 1<<20)}
}

// dump returns CPython's tree, or why it refuses the file.
func (o *oracle) dump(t testing.TB, path string) (tree []byte, refused string) {
	t.Helper()
	if _, err := fmt.Fprintln(o.in, path); err != nil {
		t.Fatal(err)
	}
	line, err := o.out.ReadString('\n')
	if err != nil {
		t.Fatalf("the oracle died on %s: %v", path, err)
	}
	if refused, ok := strings.CutPrefix(line, "!"); ok {
		return nil, strings.TrimSpace(refused)
	}
	n, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		t.Fatal(err)
	}
	tree = make([]byte, n)
	if _, err := io.ReadFull(o.out, tree); err != nil {
		t.Fatal(err)
	}
	return tree, ""
}

// firstDifference shows two dumps where they part.
func firstDifference(got, want []byte) string {
	i := 0
	for i < len(got) && i < len(want) && got[i] == want[i] {
		i++
	}
	cut := func(b []byte) []byte { return b[max(0, min(i-100, len(b))):min(len(b), i+60)] }
	return fmt.Sprintf("got  %s\nwant %s", cut(got), cut(want))
}

// TestCPython compares the tree of every file of the standard library with
// CPython's, node for node and offset for offset. No difference is known.
// Before Python 3.12 the places inside of f-strings are not compared, because
// CPython gave none that were right.
func TestCPython(t *testing.T) {
	python, version := python(t)
	o := startOracle(t, python)
	parser := NewParser()
	compared, refused, size := 0, 0, 0
	for _, path := range stdlib(t, python) {
		want, why := o.dump(t, path)
		src, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		f := parser.Parse(path, src)
		if why != "" {
			refused++
			if len(f.Errors) == 0 && !newer(f, version, why) {
				t.Errorf("%s: no error, but CPython says %s", path, why)
			}
			continue
		}
		bare := bytes.HasPrefix(want, []byte("bare\n"))
		compared++
		size += len(src)
		got := dump(f, bare)
		if !bytes.Equal(got, want) {
			t.Errorf("%s\n%s", path, firstDifference(got, want))
		}
		if len(f.Errors) > 0 {
			t.Errorf("%s: %v, but CPython has no objection", path, f.Errors[0])
		}
	}
	t.Logf("Python %s: %d files compared, %.1f MB; %d files that CPython refuses", version, compared, float64(size)/1e6, refused)
	if compared < 100 {
		t.Errorf("only %d files compared", compared)
	}
}

// TestTreesCPython compares the sources in testdata/new.txtar with CPython as
// far as the machine's is new enough for them.
func TestTreesCPython(t *testing.T) {
	python, version := python(t)
	o := startOracle(t, python)
	a, err := txtar.ParseFile("testdata/new.txtar")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	compared := 0
	for _, file := range a.Files {
		if !strings.HasSuffix(file.Name, ".py") {
			continue
		}
		path := filepath.Join(dir, file.Name)
		if err := os.WriteFile(path, file.Data, 0o600); err != nil {
			t.Fatal(err)
		}
		want, why := o.dump(t, path)
		if why != "" {
			t.Logf("Python %s refuses %s: %s", version, file.Name, why)
			continue
		}
		compared++
		if got := dump(Parse(path, file.Data), bytes.HasPrefix(want, []byte("bare\n"))); !bytes.Equal(got, want) {
			t.Errorf("%s\n%s", file.Name, firstDifference(got, want))
		}
	}
	if compared < 8 {
		t.Errorf("only %d sources compared", compared)
	}
}
