package audit_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dewar-security/dewar/internal/audit"
	"github.com/dewar-security/dewar/internal/pysyntax"
)

// builder is one of the Fix functions.
type builder func(p *audit.Pass, f *audit.File, id pysyntax.ID) []audit.Edit

// repair is one case of a builder. want is empty where it must refuse. check
// is Python that runs behind both texts and has to print the same: it may use
// show(expression text), which prints a value or the type of an exception.
type repair struct {
	name, in, want, check string
}

// standIns are modules that the programs of the tests import and that say
// what was asked of them. They are not the libraries: what is tested is the
// program around.
var standIns = map[string]string{
	"yaml.py": `
class Loader: pass
class FullLoader: pass
class UnsafeLoader: pass
class SafeLoader: pass
class CLoader: pass
class CSafeLoader: pass
def load(text, Loader): return ("one", text)
def safe_load(text): return ("one", text)
full_load = unsafe_load = safe_load
def load_all(text, Loader): return ("all", text)
def safe_load_all(text): return ("all", text)
`,
	"flask.py": `
class request:
    args = {"a": "1"}
    form = {}
    headers = {"X-Sig": "5d41402abc4b2a76b9719d911017c592"}
    cookies = {}
`,
	"requests.py": `
def get(url, **kw):
    kw.pop("timeout", None)
    return (url, kw)
`,
	"sqlalchemy.py": "def text(q): return q\n",
	"driver.py": `
def show(f):
    try:
        print(repr(f()))
    except Exception as e:
        print(type(e).__name__)
`,
}

// said runs a program with the stand-ins and returns what it prints.
func said(t *testing.T, program string) string {
	t.Helper()
	python, err := exec.LookPath("python3")
	if err != nil {
		if os.Getenv("DEWAR_REQUIRE_REAL") != "" {
			t.Fatal("python3 is missing")
		}
		t.Skip("SKIPPED: python3 is missing: that repairs keep the meaning is not tested")
	}
	dir := t.TempDir()
	for name, text := range standIns {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "app.py"), []byte(program), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(python, "-W", "ignore", "app.py")
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("the program fails: %v\n%s\n%s", err, program, out)
	}
	return string(out)
}

// TestRepairsAgree keeps the comparison itself honest.
func TestRepairsAgree(t *testing.T) {
	if a, b := said(t, "print(1)\n"), said(t, "print(2)\n"); a == b {
		t.Fatalf("two programs that differ are taken for equal: %q", a)
	}
}

func testRepairs(t *testing.T, fn string, build builder, cases []repair) {
	t.Helper()
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			got := built(t, c.in, fn, build)
			want := c.want
			if want == "" {
				want = "refused"
			}
			if got != want {
				t.Fatalf("got\n%s\nwant\n%s", got, want)
			}
			if c.want == "" || c.check == "" {
				return
			}
			check := "\nfrom driver import show\n" + c.check + "\n"
			if before, after := said(t, c.in+check), said(t, got+check); before != after || before == "" {
				t.Errorf("before it prints\n%s\nafterwards\n%s", before, after)
			}
		})
	}
}

func TestFixYAMLLoad(t *testing.T) {
	b := func(p *audit.Pass, f *audit.File, id pysyntax.ID) []audit.Edit { return p.FixYAMLLoad(f, id) }
	testRepairs(t, "yaml.load", b, []repair{
		{"loader by name", "import yaml\nx = yaml.load('a', Loader=yaml.Loader)\n", "import yaml\nx = yaml.safe_load('a')\n", "show(lambda: x)"},
		{"alone", "import yaml\ndef f(t):\n    return yaml.load(t)\n", "import yaml\ndef f(t):\n    return yaml.safe_load(t)\n", ""},
		{"loader by place", "import yaml\nx = yaml.load('a', yaml.FullLoader)\n", "import yaml\nx = yaml.load('a', yaml.SafeLoader)\n", "show(lambda: x)"},
		{"loader in C", "import yaml\nx = yaml.load('a', Loader=yaml.CLoader)\n", "import yaml\nx = yaml.load('a', Loader=yaml.CSafeLoader)\n", "show(lambda: x)"},
		{"loader in C by its own name", "import yaml\nfrom yaml import CLoader as L\nx = yaml.load('a', L)\n", "import yaml\nfrom yaml import CLoader as L\nx = yaml.load('a', yaml.CSafeLoader)\n", "show(lambda: x)"},
		{"own loader", "import yaml\nclass L(yaml.Loader): pass\nx = yaml.load('a', Loader=L)\n", "", ""},
		{"not the library", "yaml = make()\nx = yaml.load('a')\n", "", ""},
		{"two modules by turns", "try:\n    import ruamel.yaml as yaml\nexcept ImportError:\n    import yaml\nx = yaml.load('a')\n", "", ""},
		{"keywords in a mapping", "import yaml\nx = yaml.load('a', **kw)\n", "", ""},
	})
	testRepairs(t, "load", b, []repair{
		{"from", "from yaml import load, Loader\nx = load('a', Loader=Loader)\n", "import yaml\nfrom yaml import load, Loader\nx = yaml.safe_load('a')\n", "show(lambda: x)"},
	})
	testRepairs(t, "y.load_all", b, []repair{
		{"all", "import yaml as y\nx = y.load_all('a', Loader=y.Loader)\n", "import yaml as y\nx = y.safe_load_all('a')\n", "show(lambda: x)"},
	})
}

func TestFixRandom(t *testing.T) {
	b := func(p *audit.Pass, f *audit.File, id pysyntax.ID) []audit.Edit { return p.FixRandom(f, id) }
	for fn, c := range map[string]repair{
		"random.choice":      {"", "import random\nx = random.choice('ab')\n", "import random\nimport secrets\nx = secrets.choice('ab')\n", "show(lambda: x in 'ab')"},
		"random.randrange":   {"", "import random\nx = random.randrange(10)\n", "import random\nimport secrets\nx = secrets.randbelow(10)\n", "show(lambda: x in range(10))"},
		"random.randint":     {"", "import random\nx = random.randint(1, 6)\n", "import random\nimport secrets\nx = secrets.SystemRandom().randint(1, 6)\n", "show(lambda: x in range(1, 7))"},
		"random.getrandbits": {"", "import random\nx = random.getrandbits(8)\n", "import random\nimport secrets\nx = secrets.randbits(8)\n", "show(lambda: x in range(256))"},
		"random.randbytes":   {"", "import random\nx = random.randbytes(8)\n", "import random\nimport secrets\nx = secrets.token_bytes(8)\n", "show(lambda: len(x))"},
		"random.sample":      {"", "import random\nx = random.sample('abc', k=3)\n", "import random\nimport secrets\nx = secrets.SystemRandom().sample('abc', k=3)\n", "show(lambda: sorted(x))"},
		"random.random":      {"", "import random\nx = random.random()\n", "import random\nimport secrets\nx = secrets.SystemRandom().random()\n", "show(lambda: 0 <= x < 1)"},
		"choice":             {"", "from random import choice\nx = ''.join(choice('ab') for _ in range(8))\n", "import secrets\nfrom random import choice\nx = ''.join(secrets.choice('ab') for _ in range(8))\n", "show(lambda: len(x) == 8 and set(x) <= set('ab'))"},
		"r.choice":           {"", "import random as r\nr.seed(1)\nx = r.choice('ab')\n", "", ""},
		"rng.choice":         {"", "import random\nrng = random.Random()\nx = rng.choice('ab')\n", "", ""},
		"random.getstate":    {"", "import random\nx = random.getstate()\n", "", ""},
	} {
		c.name = fn
		testRepairs(t, fn, b, []repair{c})
	}
	testRepairs(t, "random.randrange", b, []repair{
		{"two bounds", "import random\nx = random.randrange(10, 20)\n", "import random\nimport secrets\nx = secrets.SystemRandom().randrange(10, 20)\n", "show(lambda: x in range(10, 20))"},
		{"name taken", "import random\nfrom app import secrets\nx = random.randrange(10)\n", "", ""},
	})
}

func TestFixHash(t *testing.T) {
	call := func(p *audit.Pass, f *audit.File, id pysyntax.ID) []audit.Edit { return p.FixHash(f, id) }
	testRepairs(t, "hashlib.md5", call, []repair{
		{"call", "import hashlib\nx = hashlib.md5(b'a').hexdigest()\n", "import hashlib\nx = hashlib.sha256(b'a').hexdigest()\n", "show(lambda: type(x))"},
		{"purpose", "import hashlib\nx = hashlib.md5(b'a', usedforsecurity=True).digest()\n", "import hashlib\nx = hashlib.sha256(b'a', usedforsecurity=True).digest()\n", "show(lambda: type(x))"},
		{"on its way", "import hashlib\nh = hashlib.md5()\nh.update(b'a')\n", "", ""},
		{"of a password", "import hashlib\nx = hashlib.md5(password).hexdigest()\n", "", ""},
		{"a name of it", "import hashlib\nmd5sum = hashlib.md5(b'a').hexdigest()\n", "", ""},
		{"for somebody else", "import hashlib\ndef gravatar(mail):\n    return hashlib.md5(mail).hexdigest()\n", "", ""},
		{"in a function", "import hashlib\ndef key(x):\n    return hashlib.md5(x).hexdigest()\ny = key(b'a')\n", "import hashlib\ndef key(x):\n    return hashlib.sha256(x).hexdigest()\ny = key(b'a')\n", "show(lambda: type(y))"},
		{"a digest is written down", "import hashlib\nx = hashlib.md5(b'a').hexdigest() == '0cc175b9c0f1b6a831c399e269772661'\n", "", ""},
	})
	testRepairs(t, "hashlib.new", call, []repair{
		{"new", "import hashlib\nx = hashlib.new('SHA-1', b'a').hexdigest()\n", "import hashlib\nx = hashlib.new('sha256', b'a').hexdigest()\n", ""},
		{"new by name", "import hashlib\nx = hashlib.new(name=\"md5\").hexdigest()\n", "import hashlib\nx = hashlib.new(name=\"sha256\").hexdigest()\n", "show(lambda: type(x))"},
		{"new, on its way", "import hashlib\nx = hashlib.new('md5')\n", "", ""},
		{"new, strong", "import hashlib\nx = hashlib.new('sha512').digest()\n", "", ""},
	})
	testRepairs(t, "sha1", call, []repair{
		{"from", "from hashlib import sha1\nx = sha1(b'a').digest()\n", "import hashlib\nfrom hashlib import sha1\nx = hashlib.sha256(b'a').digest()\n", "show(lambda: type(x))"},
	})
	testRepairs(t, "hmac.new", func(p *audit.Pass, f *audit.File, id pysyntax.ID) []audit.Edit {
		_, args, _ := f.Python.Call(id)
		return p.FixHash(f, args[2])
	}, []repair{
		{"reference", "import hashlib, hmac\nx = hmac.new(b'k', b'm', hashlib.sha1).digest()\n", "import hashlib, hmac\nx = hmac.new(b'k', b'm', hashlib.sha256).digest()\n", "show(lambda: type(x))"},
		{"name", "import hmac\nx = hmac.new(b'k', b'm', \"md5\").digest()\n", "import hmac\nx = hmac.new(b'k', b'm', \"sha256\").digest()\n", "show(lambda: type(x))"},
	})
}

func TestFixTimeout(t *testing.T) {
	b := func(p *audit.Pass, f *audit.File, id pysyntax.ID) []audit.Edit { return p.FixTimeout(f, id) }
	testRepairs(t, "requests.get", b, []repair{
		{"none", "import requests\nx = requests.get('http://h/')\n", "import requests\nx = requests.get('http://h/', timeout=10)\n", "show(lambda: x)"},
		{"for ever", "import requests\nx = requests.get('http://h/', timeout=None, verify=True)\n", "import requests\nx = requests.get('http://h/', timeout=10, verify=True)\n", "show(lambda: x)"},
		{"mapping", "import requests\nx = requests.get('http://h/', **kw)\n", "", ""},
	})
	testRepairs(t, "urlopen", b, []repair{
		{"none", "from urllib.request import urlopen\ndef f(u): return urlopen(u)\n", "from urllib.request import urlopen\ndef f(u): return urlopen(u, timeout=10)\n", ""},
		{"by place", "from urllib.request import urlopen\ndef f(u): return urlopen(u, None, None)\n", "from urllib.request import urlopen\ndef f(u): return urlopen(u, None, 10)\n", ""},
	})
}

func TestFixAutoescape(t *testing.T) {
	testRepairs(t, "jinja2.Environment", func(p *audit.Pass, f *audit.File, id pysyntax.ID) []audit.Edit { return p.FixAutoescape(f, id) }, []repair{
		{"none", "import jinja2\ne = jinja2.Environment(loader=l)\n", "import jinja2\ne = jinja2.Environment(loader=l, autoescape=True)\n", ""},
		{"off", "import jinja2\ne = jinja2.Environment(autoescape=False)\n", "import jinja2\ne = jinja2.Environment(autoescape=True)\n", ""},
		{"empty", "import jinja2\ne = jinja2.Environment()\n", "import jinja2\ne = jinja2.Environment(autoescape=True)\n", ""},
	})
}

func TestFixCookie(t *testing.T) {
	testRepairs(t, "r.set_cookie", func(p *audit.Pass, f *audit.File, id pysyntax.ID) []audit.Edit {
		return p.FixCookie(f, id, "secure", "httponly", "samesite")
	}, []repair{
		{"none", "r.set_cookie('a', 'b')\n", "r.set_cookie('a', 'b', secure=True, httponly=True, samesite=\"Lax\")\n", ""},
		{"some", "r.set_cookie('a', 'b', secure=False, samesite=None)\n", "r.set_cookie('a', 'b', secure=True, samesite=\"Lax\", httponly=True)\n", ""},
		{"by place", "r.set_cookie('a', 'b', None, None, '/', None, False)\n", "r.set_cookie('a', 'b', None, None, '/', None, True, httponly=True, samesite=\"Lax\")\n", ""},
		{"lines", "r.set_cookie(\n    'a',\n    'b',\n)\n", "r.set_cookie(\n    'a',\n    'b',\n    secure=True, httponly=True, samesite=\"Lax\",\n)\n", ""},
		{"computed", "r.set_cookie('a', 'b', secure=config.SECURE)\n", "", ""},
		{"sequence", "r.set_cookie(*a)\n", "", ""},
		{"mapping", "r.set_cookie('a', 'b', **kw)\n", "", ""},
	})
}

func TestFixMktemp(t *testing.T) {
	testRepairs(t, "tempfile.mktemp", func(p *audit.Pass, f *audit.File, id pysyntax.ID) []audit.Edit { return p.FixMktemp(f, id) }, []repair{
		{"open", "import tempfile\nwith open(tempfile.mktemp(), 'w') as f:\n    f.write('x')\n", "import tempfile\nwith tempfile.NamedTemporaryFile('w', delete=False) as f:\n    f.write('x')\n", "show(lambda: open(f.name).read())"},
		{"suffix by place and name", "import tempfile\nf = open(tempfile.mktemp('.txt', dir='.'), 'wb')\nf.close()\n", "import tempfile\nf = tempfile.NamedTemporaryFile('wb', suffix='.txt', dir='.', delete=False)\nf.close()\n", "show(lambda: f.name.endswith('.txt'))"},
		{"a name", "import tempfile\nname = tempfile.mktemp()\n", "", ""},
		{"to read", "import tempfile\nf = open(tempfile.mktemp())\n", "", ""},
		{"another open", "import tempfile\nfrom codecs import open\nf = open(tempfile.mktemp(), 'w')\n", "", ""},
	})
}

func TestFixCompareDigest(t *testing.T) {
	b := func(p *audit.Pass, f *audit.File, id pysyntax.ID) []audit.Edit {
		_, args, _ := f.Python.Call(id)
		return p.FixCompareDigest(f, args[0])
	}
	const head = "import hashlib\nfrom flask import request\ndef f(x): return x\nd = hashlib.md5(b'hello')\n"
	after := strings.Replace(head, "import hashlib\n", "import hashlib\nimport hmac\n", 1)
	testRepairs(t, "f", b, []repair{
		{"digests", head + "y = f(d.digest() == b'x')\n", after + "y = f(hmac.compare_digest(d.digest(), b'x'))\n", "show(lambda: y)"},
		{"a header that may be missing", head + "y = f(request.headers.get('X-Sig') == d.hexdigest())\n", after + "y = f(hmac.compare_digest((request.headers.get('X-Sig') or \"\").encode(), d.hexdigest().encode()))\n", "show(lambda: y)"},
		{"a header that is missing", head + "y = f(request.headers.get('X-No') == d.hexdigest())\n", after + "y = f(hmac.compare_digest((request.headers.get('X-No') or \"\").encode(), d.hexdigest().encode()))\n", "show(lambda: y)"},
		{"a field", head + "y = f(d.hexdigest() == request.args['a'])\n", after + "y = f(hmac.compare_digest(d.hexdigest().encode(), request.args['a'].encode()))\n", "show(lambda: y)"},
		{"a prefix", head + "y = f('md5=' + d.hexdigest() == request.args.get('a', ''))\n", after + "y = f(hmac.compare_digest(('md5=' + d.hexdigest()).encode(), request.args.get('a', '').encode()))\n", "show(lambda: y)"},
		{"both in ASCII", head + "y = f(d.hexdigest() == d.hexdigest())\n", after + "y = f(hmac.compare_digest(d.hexdigest(), d.hexdigest()))\n", "show(lambda: y)"},
		{"through names", head + "want = d.hexdigest()\ngot = request.args['a']\ny = f(got == want)\n", after + "want = d.hexdigest()\ngot = request.args['a']\ny = f(hmac.compare_digest(got.encode(), want.encode()))\n", "show(lambda: y)"},
		{"may be None on both sides", head + "y = f(request.args.get('a') == request.args.get('b'))\n", "", ""},
		{"None may equal empty", head + "y = f(request.args.get('a') == request.args['b'])\n", "", ""},
		{"text and bytes", head + "y = f(d.hexdigest() == b'x')\n", "", ""},
		{"unknown", head + "y = f(token == d.hexdigest())\n", "", ""},
		{"a name with two values", head + "want = None\nif d:\n    want = d.hexdigest()\ny = f(want == d.hexdigest())\n", "", ""},
		{"JSON is of any type", head + "y = f(request.json['a'] == d.hexdigest())\n", "", ""},
		{"order", head + "y = f(d.digest() < b'x')\n", "", ""},
		{"chain", head + "y = f(d.digest() == b'x' == b'y')\n", "", ""},
		{"not equal as an argument", head + "y = f(d.digest() != b'x')\n", "", ""},
		{"not equal in parentheses", head + "y = f((d.digest() != b'x'))\n", after + "y = f((not hmac.compare_digest(d.digest(), b'x')))\n", "show(lambda: y)"},
	})
	testRepairs(t, "abort", func(p *audit.Pass, f *audit.File, id pysyntax.ID) []audit.Edit {
		var cmp pysyntax.ID
		for i := range f.Python.Nodes {
			if f.Python.Kind(pysyntax.ID(i)) == pysyntax.Compare {
				cmp = pysyntax.ID(i)
			}
		}
		return p.FixCompareDigest(f, cmp)
	}, []repair{
		{"not equal", "import hashlib\nif hashlib.md5(b'').digest() != b'x':\n    abort()\n", "import hashlib\nimport hmac\nif not hmac.compare_digest(hashlib.md5(b'').digest(), b'x'):\n    abort()\n", ""},
	})
}
