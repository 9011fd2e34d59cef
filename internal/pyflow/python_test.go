package pyflow_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/dewar-security/dewar/internal/pyflow"
)

// expressions are computed by Python and by the interpreter, which must know
// each result.
var expressions = strings.Split(strings.TrimSpace(`
7 * 42 - 106 > 200
-7 // 2
-7 % 3
7 % -3
2 ** 10
7 / 2
1 << 10 | 3
5 & 6 ^ 1
~5
round(2.5)
abs(-3)
int(' 42 ')
int('ff', 16)
float('1.5')
1e16
0.1
True + 1
'abc'[1]
'abc'[-1]
'abcdef'[1:4]
'abcdef'[::-1]
'abcdef'[::2]
'abcdef'[-3:]
'abcdef'[10:]
'a' * 3
'a' 'b' + 'c'
'%s-%d-%r' % ('a', 3, 'b')
'%(a)s %%' % {'a': 1}
'%05d|%x|%5s|%-5s|' % (42, 255, 'a', 'b')
'{} {}'.format(1, 'a')
'{1} {0}'.format(1, 'a')
'{a} {b!r}'.format(a=1, b='x')
'{0[1]} {0[0]}'.format(['a', 'b'])
'{:>5}|{:<5}|{:^5}|{:05d}'.format('a', 'b', 'c', 42)
'{:.2f} {:x} {:b}'.format(3.14159, 255, 5)
'{{}}'.format()
f'{1 + 1} {"a"!r} {3:03d}'
'Hello World'.lower()
'Hello World'.upper()
'hello world'.title()
'hello world'.capitalize()
'Hello'.swapcase()
'  a b '.strip()
'xxaxx'.strip('x')
'xxaxx'.lstrip('x')
'xxaxx'.rstrip('x')
'a,b,,c'.split(',')
'a,b,,c'.split(',', 1)
' a  b c '.split()
'a b c'.split(None)[1]
'a-b-c'.partition('-')
'a-b-c'.rpartition('-')
'-'.join(['a', 'b'])
'-'.join('abc')
'aXbX'.replace('X', 'yy')
'prefix-x'.removeprefix('prefix-')
'x.txt'.removesuffix('.txt')
'abc'.startswith('ab')
'abc'.startswith(('x', 'a'))
'abc'.endswith('bc')
'abcabc'.find('c')
'123'.isdigit()
'12a'.isdigit()
'abc'.isalpha()
'ab1'.isalnum()
'abc'.encode().decode()
'b' in 'abc'
'x' not in 'abc'
'a' < 'b'
'a' in ['a', 'b']
3 in (1, 2)
'k' in {'k': 1}
[1, 2] + [3]
(1, 2) + (3,)
[1] * 3
[3, 1, 2][1:]
sorted([3, 1, 2])
sorted(['b', 'a'], reverse=True)
list(reversed([1, 2, 3]))
list(range(5))
list(range(5, 0, -2))
list(enumerate(['a', 'b']))
list(zip([1, 2], 'ab'))
dict(a=1)['a']
{'a': 1, **{'b': 2}}['b']
{'a': 1}.get('b', 'd')
list({'a': 1, 'b': 2})
list({'a': 1}.items())
len('abc')
len([1, 2, 3])
sum([1, 2, 3])
any([0, 1])
all([])
bool('')
[x * 2 for x in (1, 2, 3) if x > 1]
{k: v for k, v in [('a', 1)]}['a']
''.join(c for c in 'a1b2' if c.isalpha())
(lambda x, y=2: x + y)(1)
'a' if 1 > 2 else 'b'
None or 'a'
'' and 'a'
not 'a'
1 < 2 < 3
1 == 1.0
ord('a')
chr(97)
str(None)
repr('a\'b')
repr("it's")
str(True)
max(3, 3)
__import__('base64').b64encode(b'hello').decode()
__import__('base64').b64decode('aGVsbG8=').decode()
__import__('json').loads('{"a": [1, "b"]}')['a'][1]
__import__('urllib.parse').parse.quote('a b/c?d')
__import__('urllib.parse').parse.quote_plus('a b/c')
__import__('urllib.parse').parse.unquote('a%20b')
__import__('urllib.parse').parse.urlparse('https://u@h.example:8080/p?q=1#f').netloc
__import__('urllib.parse').parse.urlparse('https://h.example/p?q=1#f').path
__import__('urllib.parse').parse.urljoin('https://h.example/a/b', '/c')
__import__('html').escape('<a href="x">&\'')
__import__('shlex').quote("a b'c")
__import__('posixpath').join('/a', 'b', '/c')
__import__('posixpath').join('a', 'b')
__import__('posixpath').basename('/a/b.txt')
__import__('posixpath').dirname('/a/b.txt')
__import__('posixpath').splitext('/a/b.txt')[1]
__import__('posixpath').normpath('/a/../b//c')
str(__import__('pathlib').PurePosixPath('/a') / 'b')
__import__('re').sub('[^a-z]', '', 'a1b2')
__import__('re').sub(r'\d+', '-', 'a12b')
bool(__import__('re').match('[a-z]+', 'abc'))
bool(__import__('re').fullmatch('[a-z]+', 'abc1'))
__import__('string').ascii_lowercase[:3]
`), "\n")

// TestAsPython compares the interpreter with Python on constants.
func TestAsPython(t *testing.T) {
	python, err := exec.LookPath("python3")
	if err != nil {
		if os.Getenv("DEWAR_REQUIRE_REAL") != "" {
			t.Fatal("python3 is not there")
		}
		t.Skip("SKIPPED: python3 is not there")
	}
	in, _ := json.Marshal(expressions)
	cmd := exec.Command(python, "-c", "import json, sys\ndef n(v):\n    return [n(x) for x in v] if isinstance(v, (list, tuple)) else v\nprint(json.dumps([str(n(eval(e))) for e in json.load(sys.stdin)]))")
	cmd.Stdin = strings.NewReader(string(in))
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	if err := json.Unmarshal(out, &want); err != nil {
		t.Fatal(err)
	}
	var src strings.Builder
	src.WriteString("from t import source, sink\n")
	for i, e := range expressions {
		fmt.Fprintf(&src, "def f%d():\n    sink((source(), %s))\n", i, e)
	}
	r := runSources(t, map[string]string{"case.py": src.String()}, pyflow.Config{})
	got := map[string]string{}
	for _, h := range r.Hits {
		if v := h.Focus[0]; len(v.Items) == 2 {
			got[h.Function] = asPython(v.Items[1])
		}
	}
	for i, e := range expressions {
		if have := got[fmt.Sprintf("case.f%d", i)]; have != want[i] {
			t.Errorf("%s: Python says %s, we say %s", e, want[i], have)
		}
	}
}

// asPython is str of a value, "?" if it is not known.
func asPython(v pyflow.Value) string {
	inner := func(v pyflow.Value) string {
		if s, ok := v.Const(); ok {
			q := "'"
			if strings.Contains(s, "'") && !strings.Contains(s, `"`) {
				q = `"`
			}
			return q + strings.ReplaceAll(s, "\\", `\\`) + q
		}
		return asPython(v)
	}
	switch v.Kind {
	case pyflow.None:
		return "None"
	case pyflow.Bool:
		if !v.Known {
			return "?"
		}
		if v.Bool {
			return "True"
		}
		return "False"
	case pyflow.Number:
		if !v.Known {
			return "?"
		}
		return fmt.Sprint(v.Number)
	case pyflow.Text:
		if s, ok := v.Const(); ok {
			return s
		}
	case pyflow.List:
		if v.Rest != nil {
			return "?"
		}
		var parts []string
		for _, i := range v.Items {
			parts = append(parts, inner(i))
		}
		return "[" + strings.Join(parts, ", ") + "]"
	}
	return "?"
}
