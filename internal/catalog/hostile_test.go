package catalog_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dewar-security/dewar/internal/audit"
	"github.com/dewar-security/dewar/internal/catalog"
)

// TestHostileFiles audits, with every rule, an app that imports a file made to
// exhaust whatever reads it: the audit ends, and the hole in the app is found
// all the same (CWE-400, CWE-674).
func TestHostileFiles(t *testing.T) {
	const app = `import sqlite3
from flask import Flask, request
import bad
app = Flask(__name__)

@app.route("/q")
def q():
    return str(sqlite3.connect("a").execute("select * from t where x='" + request.args["x"] + "'").fetchall())
`
	rep := strings.Repeat
	var classes strings.Builder
	for range 10_000 {
		classes.WriteString("class C(C): pass\n")
	}
	for name, bad := range map[string]string{
		"attributes":     "x = a" + rep(".b", 1_000_000) + "\n",
		"request fields": "from flask import request\n" + rep("x = request"+rep(".b", 9000)+"\n", 20),
		"request calls":  "from flask import request\n" + rep("x = request"+rep(".b", 9000)+"()\n", 20),
		"calls":          "x = f" + rep("()", 200_000) + "\n",
		"sum":            "x = a" + rep(" + a", 1_000_000) + "\n",
		"elif":           "if x: pass\n" + rep("elif x: pass\n", 100_000),
		"brackets":       "x = " + rep("[", 1_000_000) + rep("]", 1_000_000) + "\n",
		"lambdas":        "x = " + rep("lambda: ", 1400) + "0\n",
		"classes":        "class C: pass\n" + classes.String(),
		"suppressions":   rep("# dewar: ignore[X] y\n", 50_000),
		"nosec":          rep("x = 1 # nosec\n", 50_000),
		"number":         "x = " + rep("9", 1_000_000) + "\ny = x * x\nz = 9 ** 9 ** 9 ** 9\n",
		"string":         "x = '" + rep("a", 4_000_000) + "'\ny = x * 10 ** 12\n",
		"pairs":          "from flask import request\nx = request.args['a']\n" + rep("x = (x, x)\n", 3000) + "print(x, str(x), [x], {x: x})\n",
		"pairs of parts": "x = ['a']\nx = tuple(x)\n" + rep("x = (x[:], x[:])\n", 3000) + "print(x)\n",
		"replacements":   "import re\ns = 'a'\n" + rep("s = s.replace('a', 'a' * 60000)\n", 20) + "s = re.sub('a', 'a' * 60000, 'a' * 60000)\n",
		"widths":         "s = '%900000000d' % 3 + f'{3:>900000000}' + 'a'.zfill(10 ** 9) + 'b'.center(10 ** 9) + ','.join(['a' * 60000] * 60000)\n",
		"not UTF-8":      rep("x = '\xff'\n", 20_000),
		"NULs":           "import os\n" + rep("\x00", 1_000_000),
		"no encoding":    "# coding: utf-7\n" + rep("x = '+AGE-'\n", 1000),
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			for file, data := range map[string]string{"app.py": app, "bad.py": bad} {
				if err := os.WriteFile(filepath.Join(dir, file), []byte(data), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			defer cancel()
			p, err := audit.Load(ctx, dir, audit.Options{Flow: true})
			if err != nil {
				t.Fatal(err)
			}
			found := false
			for _, f := range audit.Run(ctx, p, catalog.Rules(), audit.Options{}).Findings {
				found = found || f.Span.File == "app.py" && f.Span.Line == 8
			}
			if !found {
				t.Error("the hole beside the hostile file is not found")
			}
			if ctx.Err() != nil {
				t.Error("the audit did not end")
			}
		})
	}
}
