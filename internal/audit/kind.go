package audit

import (
	"bytes"
	"path"
	"regexp"
	"strings"
)

// Kind is what a file is, judged by its name, its place and, where these do
// not tell, its first bytes.
type Kind uint8

// The kinds. A gunicorn configuration is Python as well: its File.Python is
// set.
const (
	Text Kind = iota // text of no other kind
	Python
	Template // a Jinja template
	HTML     // HTML that is no template
	JS       // JavaScript or TypeScript
	Env      // KEY=value lines: .env, .flaskenv
	TOML
	YAML
	JSON
	INI
	Dockerfile
	Compose      // docker compose
	Requirements // pip requirements or constraints
	Lock         // a lock file of any packager
	GunicornConf
	NginxConf
	Shell
	Procfile // Procfile: one command a line
	Systemd  // a systemd unit
)

var kindNames = [...]string{"text", "python", "template", "html", "javascript", "env", "toml", "yaml", "json",
	"ini", "dockerfile", "compose", "requirements", "lock", "gunicorn", "nginx", "shell", "procfile", "systemd"}

// String returns the kind's name in lower case.
func (k Kind) String() string { return word(kindNames[:], uint8(k)) }

// MarshalText implements [encoding.TextMarshaler].
func (k Kind) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

var kindByName = map[string]Kind{
	".flaskenv": Env, ".env": Env, ".envrc": Shell,
	"poetry.lock": Lock, "pipfile.lock": Lock, "uv.lock": Lock, "pdm.lock": Lock, "pylock.toml": Lock,
	"package-lock.json": Lock, "npm-shrinkwrap.json": Lock, "yarn.lock": Lock, "pnpm-lock.yaml": Lock,
	"pipfile": TOML, "procfile": Procfile, "dockerfile": Dockerfile, "containerfile": Dockerfile,
	"gunicorn.conf.py": GunicornConf, "nginx.conf": NginxConf, "setup.cfg": INI, "makefile": Shell,
	"compose.yml": Compose, "compose.yaml": Compose, "docker-compose.yml": Compose, "docker-compose.yaml": Compose,
}

var kindByExt = map[string]Kind{
	".py": Python, ".pyw": Python, ".wsgi": Python,
	".jinja": Template, ".jinja2": Template, ".j2": Template,
	".html": HTML, ".htm": HTML, ".xhtml": HTML,
	".js": JS, ".mjs": JS, ".cjs": JS, ".ts": JS, ".jsx": JS, ".tsx": JS,
	".env": Env, ".toml": TOML, ".yml": YAML, ".yaml": YAML, ".json": JSON,
	".ini": INI, ".cfg": INI, ".sh": Shell, ".bash": Shell, ".service": Systemd, ".dockerfile": Dockerfile,
	".nginx": NginxConf,
}

// notText lists the extensions that are never opened: no rule reads pixels.
var notText = set(`.png .jpg .jpeg .gif .webp .avif .ico .bmp .tif .tiff .psd .svgz
	.woff .woff2 .ttf .otf .eot .mp3 .mp4 .m4a .ogg .ogv .webm .mov .avi .wav .flac .pdf .doc .docx .xls .xlsx
	.ppt .pptx .odt .zip .gz .bz2 .xz .zst .7z .rar .tar .tgz .whl .egg .jar .pyc .pyo .pyd .so .dll .dylib .exe
	.o .a .class .wasm .mo .parquet .npy .npz .pkl .pickle .h5 .pt .onnx .map`)

func set(words string) map[string]bool {
	m := map[string]bool{}
	for _, w := range strings.Fields(words) {
		m[w] = true
	}
	return m
}

// classify names the kind of a file. head is its beginning and may be empty
// when only the name is known.
func classify(name string, head []byte) Kind {
	base := strings.ToLower(path.Base(name))
	ext := path.Ext(base)
	if k, ok := kindByName[base]; ok {
		return k
	}
	dir := "/" + strings.ToLower(path.Dir(name)) + "/"
	switch {
	case strings.HasPrefix(base, ".env.") || strings.HasPrefix(base, ".flaskenv."):
		return Env
	case strings.HasPrefix(base, "dockerfile.") || strings.HasPrefix(base, "containerfile."):
		return Dockerfile
	case (strings.HasPrefix(base, "docker-compose") || strings.HasPrefix(base, "compose.")) && (ext == ".yml" || ext == ".yaml"):
		return Compose
	case strings.Contains(base, "gunicorn") && (ext == ".py" || ext == ".conf"):
		return GunicornConf
	case strings.Contains(base, "requirements") && (ext == ".txt" || ext == ".in"),
		strings.Contains(base, "constraints") && ext == ".txt",
		strings.Contains(dir, "/requirements/") && (ext == ".txt" || ext == ".in"):
		return Requirements
	case strings.Contains(base, "nginx") && ext != ".py" && ext != ".yml" && ext != ".yaml" && ext != ".sh" && ext != ".md" && ext != ".html",
		strings.Contains(dir, "/nginx/") && ext == ".conf", strings.Contains(dir, "/sites-enabled/"), strings.Contains(dir, "/sites-available/"):
		return NginxConf
	case strings.Contains(dir, "/templates/") && (ext == ".html" || ext == ".htm" || ext == ".xml" || ext == ".txt" || ext == ".xhtml"):
		return Template
	}
	if k, ok := kindByExt[ext]; ok {
		return k
	}
	if bytes.HasPrefix(head, []byte("#!")) {
		line, _, _ := bytes.Cut(head, []byte("\n"))
		switch {
		case bytes.Contains(line, []byte("python")):
			return Python
		case bytes.Contains(line, []byte("sh")):
			return Shell
		}
	}
	if ext == ".conf" && bytes.Contains(head, []byte("server {")) {
		return NginxConf
	}
	return Text
}

// testFile matches test files by the conventions of Go's, JavaScript's and
// TypeScript's tools, of which a project holds some as well.
var testFile = regexp.MustCompile(`_test\.go$|\.(?:test|spec)\.[cm]?[jt]sx?$`)

// isTest reports whether name is test code, or what tests are given, by the
// conventions of pytest, unittest, Go, Jest and Molecule.
func isTest(name string) bool {
	dir, base := path.Split(name)
	if base == "conftest.py" || strings.HasPrefix(base, "test_") && strings.HasSuffix(base, ".py") || strings.HasSuffix(base, "_test.py") || testFile.MatchString(base) {
		return true
	}
	for d := range strings.SplitSeq(dir, "/") {
		switch d {
		case "tests", "test", "testdata", "__tests__", "test-infrastructure", "molecule":
			return true
		}
	}
	return false
}

// isExample reports whether a settings file is a pattern to be copied, such
// as .env.example, and not the settings themselves.
func isExample(name string) bool {
	base := strings.ToLower(path.Base(name))
	for _, w := range [...]string{"example", "sample", "template", ".dist", "skeleton"} {
		if strings.Contains(base, w) {
			return true
		}
	}
	return false
}

// looksBinary is git's test: a NUL byte near the beginning. UTF-16 text has
// them too, and is not read as source by Python either.
func looksBinary(head []byte) bool {
	return bytes.IndexByte(head[:min(len(head), 8000)], 0) >= 0
}
