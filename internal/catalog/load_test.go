package catalog

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pelletier/go-toml/v2"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/dewar-security/dewar/internal/guard"
	"github.com/dewar-security/dewar/internal/store"
)

func write(t *testing.T, name, text string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestNoFileIsFine(t *testing.T) {
	l, err := Load(Source{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	if l.Config.Profile != guard.Production || l.Config.CSRF.Mode != guard.Enforce || l.File != "" {
		t.Errorf("%+v", l.Config)
	}
	if got := l.Config.Deployment.Timeout; time.Duration(got) != 30*time.Second {
		t.Errorf("timeout %v: the defaults were not applied", got)
	}
}

func TestOrderOfOrigins(t *testing.T) {
	dir := write(t, "dewar.toml", `profile = "staging"

[csrf]
mode = "observe"
[monitoring]
keep = 3
[profiles.staging.monitoring]
keep = 4
[profiles.production.monitoring]
keep = 5

[[route]]
path = "/hooks/**"
reason = "signed"
modes = { csrf = "off" }
rate = "5/m burst 2"
max-body = "1 MB"
`)
	l, err := Load(Source{Dir: dir, Environ: []string{"DEWAR_DEPLOYMENT_WORKERS=7", "DEWAR_DEPLOYMENT_THREADS=2", "PATH=/bin"},
		Flags: []Flag{{Key: "deployment.threads", Value: "9", Name: "--set deployment.threads"}}})
	if err != nil {
		t.Fatal(err)
	}
	c := l.Config
	file := filepath.Join(dir, "dewar.toml")
	for key, want := range map[string]string{
		"profile": file + ":1", "csrf.mode": file + ":4", "monitoring.keep": file + ":8",
		"deployment.workers": "$DEWAR_DEPLOYMENT_WORKERS", "deployment.threads": "--set deployment.threads",
		"deployment.timeout": "default", "route": file + ":12",
	} {
		if got := l.Origin(key).String(); got != want {
			t.Errorf("%s comes from %q, want %q", key, got, want)
		}
	}
	if c.Profile != guard.Staging || c.CSRF.Mode != guard.Observe || c.Monitoring.Keep != 4 || c.Deployment.Workers != 7 || c.Deployment.Threads != 9 {
		t.Errorf("%+v", c)
	}
	if len(c.Routes) != 1 || c.Routes[0].Modes["csrf"] != guard.Off || *c.Routes[0].Rate != (store.Rate{Requests: 5, Per: time.Minute, Burst: 2}) || *c.Routes[0].MaxBody != 1<<20 {
		t.Errorf("%+v", c.Routes)
	}
	// Another profile by flag wins over the file and brings its own part.
	l, err = Load(Source{Dir: dir, Flags: []Flag{{Key: "profile", Value: "production", Name: "--profile"}}})
	if err != nil {
		t.Fatal(err)
	}
	if l.Config.Monitoring.Keep != 5 || l.Origin("profile").String() != "--profile" {
		t.Errorf("keep %d, profile from %v", l.Config.Monitoring.Keep, l.Origin("profile"))
	}
}

func TestDevelopmentHasItsOwnDefaults(t *testing.T) {
	l, err := Load(Source{Dir: t.TempDir(), Flags: []Flag{{Key: "profile", Value: "development", Name: "--profile"}}})
	if err != nil {
		t.Fatal(err)
	}
	if l.Config.Deployment.TLS != "local" || l.Config.Deployment.Listen[0] != "127.0.0.1:8443" {
		t.Errorf("%+v", l.Config.Deployment)
	}
	if got := l.Origin("deployment.tls").String(); got != "default of profile development" {
		t.Errorf("tls comes from %q", got)
	}
}

func TestPyproject(t *testing.T) {
	dir := write(t, "pyproject.toml", "[project]\nname = \"shop\"\nversion = 3\n\n[tool.other]\nx = 1\n\n[tool.dewar.csrf]\nmode = \"off\"\n")
	l, err := Load(Source{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	if l.Config.CSRF.Mode != guard.Off || !strings.HasSuffix(l.Origin("csrf.mode").String(), "pyproject.toml:9") {
		t.Errorf("%v from %v", l.Config.CSRF.Mode, l.Origin("csrf.mode"))
	}
	// One without our section is none of our business.
	l, err = Load(Source{Dir: write(t, "pyproject.toml", "[project]\nname = 'x'\n")})
	if err != nil || l.File != "" {
		t.Errorf("%v, file %q", err, l.File)
	}
	// dewar.toml wins over pyproject.toml.
	if err := os.WriteFile(filepath.Join(dir, "dewar.toml"), []byte("[csrf]\nmode = \"observe\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if l, err = Load(Source{Dir: dir}); err != nil || l.Config.CSRF.Mode != guard.Observe {
		t.Errorf("%v %+v", err, l)
	}
}

// TestBadSettings: every mistake names the place, the key and the way out.
func TestBadSettings(t *testing.T) {
	tests := []struct {
		name, file, text string
		env              []string
		flags            []Flag
		want             []string
	}{
		{"unknown key", "dewar.toml", "[csrf]\n\nmod = \"off\"\n", nil, nil, []string{"dewar.toml:3", `"csrf.mod"`, `did you mean "csrf.mode"?`}},
		{"unknown section", "dewar.toml", "[crsf]\nmode = \"off\"\n", nil, nil, []string{"dewar.toml:", `crsf`, `did you mean "csrf`}},
		{"key in the wrong section", "dewar.toml", "[csrf]\nmax-body = \"1 MB\"\n", nil, nil, []string{"dewar.toml:2", `"csrf.max-body"`, "uploads.max-body"}},
		{"wrong type", "dewar.toml", "[deployment]\nworkers = \"many\"\n", nil, nil, []string{"dewar.toml:2", "deployment.workers"}},
		{"no mode", "dewar.toml", "[csrf]\nmode = \"on\"\n", nil, nil, []string{"dewar.toml:2", "csrf.mode", `"on" is not a mode`, `"enforce"`}},
		{"out of range", "dewar.toml", "[deployment]\n\nthreads = 0\n", nil, nil, []string{"dewar.toml:3", "deployment.threads", "minimum is 1"}},
		{"not in the list", "dewar.toml", "[deployment]\ntls = \"lokal\"\n", nil, nil, []string{"dewar.toml:2", "deployment.tls", `did you mean "local"?`}},
		{"no profile", "dewar.toml", "profile = \"prod\"\n", nil, nil, []string{"dewar.toml:1", "profile", "production, staging, development"}},
		{"unknown in a profile", "dewar.toml", "[profiles.staging.csrf]\nmod = \"off\"\n", nil, nil, []string{"dewar.toml:2", "profiles.staging.csrf.mod"}},
		{"syntax", "dewar.toml", "[csrf\nmode = 1\n", nil, nil, []string{"dewar.toml:1"}},
		{"twice", "dewar.toml", "[csrf]\nmode = \"off\"\nmode = \"off\"\n", nil, nil, []string{"dewar.toml:3"}},
		{"exception without reason", "dewar.toml", "\n[[route]]\npath = \"/x\"\n", nil, nil, []string{"dewar.toml:2", "route", "/x", "reason"}},
		{"in pyproject", "pyproject.toml", "[tool.dewar.csrf]\nmod = \"off\"\n", nil, nil, []string{"pyproject.toml:2", `"csrf.mod"`}},
		{"environment value", "dewar.toml", "", []string{"DEWAR_DEPLOYMENT_WORKERS=x"}, nil, []string{"$DEWAR_DEPLOYMENT_WORKERS", "not a whole number"}},
		{"environment name", "dewar.toml", "", []string{"DEWAR_CSRF_MOED=off"}, nil, []string{"$DEWAR_CSRF_MOED", "DEWAR_CSRF_MODE"}},
		{"flag", "dewar.toml", "", nil, []Flag{{Key: "csrf.moed", Value: "off", Name: "--set csrf.moed"}}, []string{"--set csrf.moed", "csrf.mode"}},
		{"upstream and target", "dewar.toml", "[app]\ntarget = \"a:b\"\nupstream = \"http://127.0.0.1:1\"\n", nil, nil, []string{"dewar.toml:3", "app.upstream"}},
		{"no upstream", "dewar.toml", "[app]\nupstream = \"ftp://x\"\n", nil, nil, []string{"dewar.toml:2", "app.upstream", "ftp://x"}},
		{"redis without a place", "dewar.toml", "[store]\nkind = \"redis\"\n", nil, nil, []string{"store.url", "redis://"}},
		{"redis without a secret", "dewar.toml", "[store]\nurl = \"redis://h\"\n", nil, nil, []string{"store.secret", "env:NAME"}},
		{"a password in the URL", "dewar.toml", "[store]\nurl = \"redis://:x@h\"\nsecret = \"env:S\"\n", nil, nil, []string{"dewar.toml:2", "store.url", "settings for them"}},
		{"a secret in the settings", "dewar.toml", "[store]\nurl = \"redis://h\"\nsecret = \"0123456789abcdef\"\n", nil, nil, []string{"dewar.toml:3", "store.secret", "env:NAME"}},
		{"redis settings without redis", "dewar.toml", "[store]\nkind = \"file\"\npassword = \"env:P\"\n", nil, nil, []string{"dewar.toml:3", "store.password", "store.url is not set"}},
		{"two stores", "dewar.toml", "[store]\nkind = \"memory\"\nurl = \"redis://h\"\nsecret = \"env:S\"\n", nil, nil, []string{"dewar.toml:2", "store.kind", "leave one of them out"}},
		{"nodes that share nothing", "dewar.toml", "[store]\nnodes = 3\n", nil, nil, []string{"dewar.toml:2", "store.nodes", "3 nodes share nothing"}},
		{"a prefix that is a pattern", "dewar.toml", "[store]\nprefix = \"{a}\"\n", nil, nil, []string{"dewar.toml:2", "store.prefix"}},
		{"half a certificate", "dewar.toml", "[store]\nurl = \"rediss://h\"\nsecret = \"env:S\"\ncertificate = \"c.pem\"\n", nil, nil, []string{"store.certificate", "belong together"}},
		{"a wait of a minute", "dewar.toml", "[store]\ntimeout = \"1m\"\n", nil, nil, []string{"dewar.toml:2", "store.timeout"}},
		{"no word for a store that is gone", "dewar.toml", "[abuse]\nstore-gone = \"open\"\n", nil, nil, []string{"dewar.toml:2", "abuse.store-gone", "share"}},
		{"binary", "dewar.toml", "\x00\x01\xff", nil, nil, []string{"dewar.toml"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Load(Source{Dir: write(t, tt.file, tt.text), Environ: tt.env, Flags: tt.flags})
			var bad *ConfigError
			if !errors.As(err, &bad) {
				t.Fatalf("got %v, want a ConfigError", err)
			}
			for _, w := range tt.want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("no %q in:\n%v", w, err)
				}
			}
		})
	}
}

func TestEveryProblemIsReportedAtOnce(t *testing.T) {
	_, err := Load(Source{Dir: write(t, "dewar.toml", "[csrf]\nmod = 1\n[headers]\nnope = 1\n")})
	if err == nil || strings.Count(err.Error(), "unknown key") != 2 {
		t.Errorf("%v", err)
	}
}

func TestUnreadableFiles(t *testing.T) {
	if _, err := Load(Source{File: filepath.Join(t.TempDir(), "gone.toml")}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a named file that is missing: %v", err)
	}
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "dewar.toml"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(Source{Dir: dir}); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("a folder: %v", err)
	}
	if _, err := Load(Source{Dir: write(t, "dewar.toml", "#"+strings.Repeat("x", 2<<20))}); err == nil || !strings.Contains(err.Error(), "at most") {
		t.Errorf("a huge file: %v", err)
	}
}

// TestSchemaAgreesWithTheLoader: what one accepts or refuses, so does the
// other.
func TestSchemaAgreesWithTheLoader(t *testing.T) {
	raw, err := Schema()
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(strings.NewReader(string(raw)))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("dewar.json", doc); err != nil {
		t.Fatal(err)
	}
	schema, err := c.Compile("dewar.json")
	if err != nil {
		t.Fatal(err)
	}
	for text, ok := range map[string]bool{
		"":                                        true,
		"profile = \"staging\"":                   true,
		"profile = \"prod\"":                      false,
		"[csrf]\nmode = \"observe\"":              true,
		"[csrf]\nmode = \"on\"":                   false,
		"[csrf]\nmod = \"off\"":                   false,
		"[deployment]\nthreads = 0":               false,
		"[deployment]\ntimeout = \"1m30s\"":       true,
		"[deployment]\ntimeout = \"soon\"":        false,
		"[deployment]\nmax-header = \"64 KB\"":    true,
		"[audit]\nfail-on = \"high/likely\"":      true,
		"[audit]\nfail-on = \"awful\"":            false,
		"[probe]\nrate = \"5/s\"":                 true,
		"[profiles.staging.csrf]\nmode = \"off\"": true,
		"[profiles.staging.csrf]\nmod = \"off\"":  false,
		"[[route]]\npath = \"/x\"\nreason = \"r\"\nrate = \"5/m\"\nmodes = { csrf = \"off\" }": true,
	} {
		var v map[string]any
		if err := toml.Unmarshal([]byte(text), &v); err != nil {
			t.Fatal(err)
		}
		j, _ := json.Marshal(v)
		doc, _ := jsonschema.UnmarshalJSON(strings.NewReader(string(j)))
		schemaErr := schema.Validate(doc)
		_, loadErr := Load(Source{Dir: write(t, "dewar.toml", text)})
		if (schemaErr == nil) != ok || (loadErr == nil) != ok {
			t.Errorf("%q: want ok=%v, schema says %v, loader says %v", text, ok, schemaErr, loadErr)
		}
	}
}

func TestEverySettingIsDocumented(t *testing.T) {
	seen := map[string]bool{}
	for _, s := range Reference() {
		if s.Doc == "" {
			t.Errorf("section %s says nothing about itself", s.Name)
		}
		for _, f := range s.Fields {
			if len(f.Doc) < 10 {
				t.Errorf("%s is not documented", f.Key)
			}
			if seen[f.Environment] {
				t.Errorf("two settings share $%s", f.Environment)
			}
			seen[f.Environment] = true
			if strings.ToLower(f.Key) != f.Key || strings.Contains(f.Key, "_") {
				t.Errorf("%s is not kebab-case", f.Key)
			}
		}
	}
	if len(seen) < 40 {
		t.Errorf("only %d settings found", len(seen))
	}
}

func TestCatalogue(t *testing.T) {
	if err := Validate(); err != nil {
		t.Error(err)
	}
	if len(All) != 14 {
		t.Errorf("%d controls, want 14", len(All))
	}
	for _, l := range Layers {
		if l.Reason == "" || l.Spec.Does == "" {
			t.Errorf("layer %s does not say why it stands where it stands, or what it does", l.Spec.Name)
		}
		for _, r := range l.Spec.Reasons {
			if r.Why == "" || r.Fix == "" {
				t.Errorf("reason %s of layer %s is not explained", r.Name, l.Spec.Name)
			}
		}
	}
	for _, name := range []string{"csrf", "CSRF", "settings"} {
		if len(Find(name)) == 0 {
			t.Errorf("nothing is called %s", name)
		}
	}
	if got := Suggest("crsf"); !strings.Contains(got, "csrf") {
		t.Errorf("no suggestion for crsf: %q", got)
	}
}

// TestBind: a layer that is off is not made, unless a route switches it on.
func TestBind(t *testing.T) {
	made := func(text string) bool {
		t.Helper()
		l, err := Load(Source{Dir: write(t, "dewar.toml", text), Flags: []Flag{{Key: "profile", Value: "development", Name: "--profile"}}})
		if err != nil {
			t.Fatal(err)
		}
		bound, err := Bind(l.Config, guard.Env{Profile: guard.Development, Store: store.NewMemory(store.MemoryOptions{Buckets: 1024}), Now: time.Now,
			CertificateNames: func() []string { return []string{"localhost"} }, Facts: func() guard.Facts { return guard.Facts{} }})
		if err != nil {
			t.Fatal(err)
		}
		if len(bound) != len(Layers) {
			t.Errorf("%d layers bound, want %d", len(bound), len(Layers))
		}
		for _, b := range bound {
			if b.Spec.Name == "waf" {
				_, missing := b.Layer.(absent)
				return !missing
			}
		}
		t.Fatal("no waf")
		return false
	}
	for text, want := range map[string]bool{
		"":                              true,
		"[injection]\nmode = \"off\"\n": false,
		"[injection]\nmode = \"off\"\n[[route]]\npath = \"/x\"\nreason = \"r\"\nmodes = { waf = \"observe\" }\n":                                true,
		"[injection]\nmode = \"off\"\n[[route]]\npath = \"/x\"\nreason = \"r\"\nmodes = { csrf = \"observe\" }\nwaf = { exclude = [942100] }\n": false,
	} {
		if got := made(text); got != want {
			t.Errorf("%q: the WAF is made: %v, want %v", text, got, want)
		}
	}
}

func FuzzLoad(f *testing.F) {
	f.Add("[csrf]\nmode = \"off\"\n")
	f.Add("[[route]]\npath=\"/x\"\nreason=\"r\"\nmodes={csrf=\"off\"}\n")
	f.Add("a.b.c = { d = [1, {e = 2}] }\n")
	f.Fuzz(func(t *testing.T, text string) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "dewar.toml"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		l, err := Load(Source{Dir: dir})
		if (l == nil) == (err == nil) {
			t.Fatalf("settings %v and error %v", l, err)
		}
	})
}

// TestReadmeLogin: the settings that README.md shows for a login at a provider
// are settings.
func TestReadmeLogin(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(readme), "## Log in at a provider")
	section, _, _ = strings.Cut(section, "\n## ")
	var file strings.Builder
	for rest := section; ; {
		_, after, ok := strings.Cut(rest, "```toml\n")
		if !ok {
			break
		}
		block, after, _ := strings.Cut(after, "```")
		file.WriteString(block)
		rest = after
	}
	name := filepath.Join(t.TempDir(), "dewar.toml")
	if err := os.WriteFile(name, []byte(file.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := Load(Source{File: name})
	if err != nil {
		t.Fatal(err)
	}
	if c := l.Config.Authn; len(c.Rules) != 3 || c.Provider.Issuer == "" || c.Bearer.Audience == "" || c.LayerMode() != guard.Enforce {
		t.Errorf("%+v", c)
	}
}
