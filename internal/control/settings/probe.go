package settings

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"regexp"
	"strings"

	"github.com/dewar-security/dewar/internal/evidence"
	"github.com/dewar-security/dewar/internal/probe"
)

var checks = []*probe.Check{
	{
		ID:       "debugger-reachable",
		Control:  "settings",
		Asks:     "Does Werkzeug's console or debugger answer?",
		Why:      "Werkzeug's debugger runs Python for whoever gets its PIN, and the PIN can be worked out from what the machine tells (CWE-489).",
		Fix:      "Set DEBUG to False, do not start the app with flask run --debug or app.run(debug=True), and let the guard's never-public layer enforce.",
		CWE:      []int{489, 94},
		Requests: 12,
		Run:      askDebugger,
	},
	{
		ID:       "traceback-shown",
		Control:  "settings",
		Asks:     "Do error pages show tracebacks or the debugger?",
		Why:      "A traceback hands out source lines, file paths, versions and often values: the map for the next attack (CWE-209).",
		Fix:      "Set DEBUG and PROPAGATE_EXCEPTIONS to False, give the app an error handler, and let the guard's mask layer enforce.",
		CWE:      []int{209, 215},
		Requests: 12,
		Run:      askTraceback,
	},
	{
		ID:       "source-served",
		Control:  "settings",
		Asks:     "Are the app's sources or project files served?",
		Why:      "Source code shows every weak spot at leisure; a dependency list shows which published holes fit (CWE-538, CWE-552).",
		Fix:      "Serve only a folder made for it, never the project's; let the guard's never-public layer enforce.",
		CWE:      []int{538, 552, 540},
		Requests: 18,
		Run:      func(ctx context.Context, c *probe.Client) []probe.Answer { return c.Exposed(ctx, sources) },
	},
	{
		ID:       "directory-listing",
		Control:  "settings",
		Asks:     "Does a folder of static files list its contents?",
		Why:      "A listing shows what nobody linked to: backups, uploads, drafts (CWE-548).",
		Fix:      "Switch autoindex (nginx) or directory listing off, or let Flask serve its static files.",
		CWE:      []int{548},
		Requests: 12,
		Run:      askListing,
	},
	{
		ID:       "source-map-served",
		Control:  "settings",
		Asks:     "Do scripts come with source maps that hold the original source?",
		Why:      "A source map with sourcesContent is the front end's source, comments included (CWE-540).",
		Fix:      "Build for production without source maps, or keep them off the server.",
		CWE:      []int{540},
		Requests: 14,
		Run:      askSourceMaps,
	},
	{
		ID:       "cors-reflects-origin",
		Control:  "settings",
		Asks:     "May any site read answers with the visitor's cookies?",
		Why:      "A site that repeats every Origin and allows credentials lets every page in the visitor's browser read his data (CWE-942).",
		Fix:      "List the origins that may read (flask-cors: origins=[...]), or allow none; never reflect Origin together with credentials.",
		CWE:      []int{942, 346},
		Requests: 16,
		Run:      askCORS,
	},
}

func askDebugger(ctx context.Context, c *probe.Client) []probe.Answer {
	if _, why := c.Welcome(ctx); why != "" {
		return []probe.Answer{{Summary: why}}
	}
	var (
		out   []probe.Answer
		asked int
	)
	for _, q := range []struct {
		path, what string
		looks      func(*probe.Response) bool
	}{
		{"/console", "Werkzeug's interactive console", isDebuggerPage},
		// The debugger's own stylesheet: reading it does nothing.
		{"/?__debugger__=yes&cmd=resource&f=style.css", "a file of Werkzeug's debugger", func(r *probe.Response) bool {
			return strings.HasPrefix(r.Header.Get("Content-Type"), "text/css") && bytes.Contains(r.Body, []byte("div.traceback"))
		}},
	} {
		r, err := c.Get(ctx, q.path)
		switch {
		case err != nil:
			out = append(out, probe.Answer{Summary: "could not tell: " + err.Error(), URL: c.URL(q.path)})
		case r.Refused():
			out = append(out, probe.Answer{Summary: fmt.Sprintf("could not tell: answered %d", r.Status), URL: c.URL(q.path)})
		case r.Status == http.StatusOK && q.looks(r):
			out = append(out, probe.Answer{Outcome: evidence.Fail, Summary: q.path + " answers with " + q.what, URL: c.URL(q.path), Seen: r.Line()})
		default:
			asked++
		}
	}
	if len(out) == 0 && asked == 2 {
		out = append(out, probe.Answer{Outcome: evidence.Pass, Summary: "neither Werkzeug's console nor its debugger answers", URL: c.URL("/console")})
	}
	return out
}

// isDebuggerPage knows Werkzeug's debugger pages by the script variables they
// all set, whatever the version says in words.
func isDebuggerPage(r *probe.Response) bool {
	return bytes.Contains(r.Body, []byte("EVALEX")) && (bytes.Contains(r.Body, []byte("__debugger__")) || bytes.Contains(r.Body, []byte("CONSOLE_MODE")))
}

// pythonTraceback matches a Python traceback, plain or as HTML.
var pythonTraceback = regexp.MustCompile(`Traceback \(most recent call last\)(?s:.{0,400}?)File (?:"|&quot;|&#34;|<cite class="filename">"?)`)

func askTraceback(ctx context.Context, c *probe.Client) []probe.Answer {
	if _, why := c.Welcome(ctx); why != "" {
		return []probe.Answer{{Summary: why}}
	}
	var (
		out   []probe.Answer
		asked int
	)
	// Odd, harmless, and known to fall into unhandled errors.
	for _, path := range []string{
		"/%ff",
		probe.Nowhere() + "?" + strings.Repeat("a", 3000) + "=1",
		"/?page=-1&id=dewar&sort=dewar&per_page=99999999999999999999&q=%00",
		probe.Nowhere() + "/%F0%9F",
	} {
		r, err := c.Get(ctx, path)
		switch {
		case err != nil || r.Refused():
		case pythonTraceback.Match(r.Body) || isDebuggerPage(r):
			at := path
			if len(at) > 60 {
				at = at[:60] + "…"
			}
			out = append(out, probe.Answer{Outcome: evidence.Fail, Summary: "the answer to " + at + " shows a traceback", URL: c.URL(at), Seen: r.Line() + "\nTraceback (most recent call last): …"})
		default:
			asked++
		}
	}
	if len(out) == 0 && asked > 0 {
		// Nothing broke, or what broke was hidden: the promise as seen from
		// outside, and no proof about errors that were not provoked.
		out = append(out, probe.Answer{Outcome: evidence.Pass, Summary: fmt.Sprintf("%d odd requests brought no traceback", asked), URL: c.URL("/%ff")})
	}
	return out
}

func matches(expr string) func([]byte) bool {
	re := regexp.MustCompile(expr)
	return func(b []byte) bool { return re.Match(b) && !looksLikePage(b) }
}

// looksLikePage reports an HTML document: no source file starts like one.
func looksLikePage(b []byte) bool {
	b = bytes.ToLower(bytes.TrimSpace(b[:min(len(b), 512)]))
	return bytes.HasPrefix(b, []byte("<!doctype")) || bytes.HasPrefix(b, []byte("<html"))
}

const (
	pythonSource = `(?m)^(?:from [\w.]+ import |import \w+|def \w+\(|class \w+[(:]|app\s*=\s*\w+)`
	requirement  = `(?mi)^[a-z0-9][a-z0-9._-]*(?:\[[a-z0-9,._ -]+\])?\s*(?:[=~<>!]=|[<>])\s*\d`
)

var sources = []probe.File{
	{Path: "/app.py", What: "the app's source", Looks: matches(pythonSource)},
	{Path: "/wsgi.py", What: "the app's source", Looks: matches(pythonSource)},
	{Path: "/config.py", What: "the app's settings", Looks: matches(`(?m)^(?:from [\w.]+ import |import \w+|class \w+[(:]|[A-Z_]+\s*=)`)},
	{Path: "/requirements.txt", What: "the list of dependencies", Looks: matches(requirement)},
	{Path: "/pyproject.toml", What: "the project file", Looks: matches(`(?m)^\[(?:project|build-system|tool\.[\w.-]+)\]`)},
	{Path: "/Dockerfile", What: "the image's build file", Looks: matches(`(?mi)^FROM\s+\S+`)},
	{Path: "/docker-compose.yml", What: "the services' file", Looks: matches(`(?m)^services:`)},
	{Path: "/static/..%2fapp.py", What: "the app's source through an encoded dot segment", Looks: matches(pythonSource)},
	{Path: "/__pycache__/app.cpython-312.pyc", What: "compiled source", Looks: func(b []byte) bool {
		return len(b) > 16 && b[2] == '\r' && b[3] == '\n' // importlib's magic number ends so
	}},
}

// listing matches the pages of nginx, Apache, Python's http.server and others.
var listing = regexp.MustCompile(`(?i)<title>\s*(?:index of /|directory listing for )|<h1>\s*(?:index of /|directory listing for )`)

func askListing(ctx context.Context, c *probe.Client) []probe.Answer {
	home, why := c.Welcome(ctx)
	if why != "" {
		return []probe.Answer{{Summary: why}}
	}
	dirs := []string{"/static/"}
	p := probe.ParsePage(home.Body)
	for _, l := range p.Styles {
		dirs = append(dirs, folder(c, home, l))
	}
	for _, s := range p.Scripts {
		dirs = append(dirs, folder(c, home, s.Src))
	}
	var (
		out   []probe.Answer
		asked []string
		seen  = map[string]bool{"": true, "/": true}
	)
	for _, d := range dirs {
		if seen[d] || len(seen) > 5 {
			continue
		}
		seen[d] = true
		r, err := c.Get(ctx, d)
		switch {
		case err != nil || r.Refused():
		case r.Status == http.StatusOK && listing.Match(r.Body):
			out = append(out, probe.Answer{Outcome: evidence.Fail, Summary: d + " lists its files", URL: c.URL(d), Seen: r.Line()})
		default:
			asked = append(asked, d)
		}
	}
	if len(out) == 0 && len(asked) > 0 {
		out = append(out, probe.Answer{Outcome: evidence.Pass, Summary: "no listing at " + strings.Join(asked, ", "), URL: c.URL(asked[0])})
	}
	return out
}

func folder(c *probe.Client, from *probe.Response, link string) string {
	t, ok := c.Target(from, link)
	if link == "" || !ok {
		return ""
	}
	t, _, _ = strings.Cut(t, "?")
	return t[:strings.LastIndexByte(t, '/')+1]
}

var mapComment = regexp.MustCompile(`(?m)^\s*(?://|/\*)[#@]\s*sourceMappingURL=(\S+?)(?:\s*\*/)?\s*$`)

func askSourceMaps(ctx context.Context, c *probe.Client) []probe.Answer {
	home, why := c.Welcome(ctx)
	if why != "" {
		return []probe.Answer{{Summary: why}}
	}
	var (
		out     []probe.Answer
		scripts int
		unclear int
	)
	for _, s := range probe.ParsePage(home.Body).Scripts {
		t, ok := c.Target(home, s.Src)
		if s.Src == "" || !ok || scripts+unclear >= 3 {
			continue
		}
		js, err := c.Get(ctx, t)
		if err != nil || js.Status != http.StatusOK {
			unclear++
			continue
		}
		scripts++
		ref := js.Header.Get("SourceMap")
		if ref == "" {
			ref = js.Header.Get("X-SourceMap")
		}
		if m := mapComment.FindAllSubmatch(js.Body, -1); ref == "" && m != nil {
			ref = string(m[len(m)-1][1])
		}
		if ref == "" {
			continue
		}
		body, where := []byte(ref), t
		if !strings.HasPrefix(ref, "data:") {
			mt, ok := c.Target(js, ref)
			if !ok {
				continue
			}
			where = mt
			m, err := c.Get(ctx, mt)
			if err != nil || m.Status != http.StatusOK {
				continue
			}
			body = m.Body
		} else if !strings.Contains(ref, "application/json") {
			continue
		}
		if strings.HasPrefix(ref, "data:") || bytes.Contains(body, []byte(`"mappings"`)) && bytes.Contains(body, []byte(`"sourcesContent"`)) {
			out = append(out, probe.Answer{Outcome: evidence.Fail, Summary: t + " comes with its source map", URL: c.URL(where), Seen: "sourceMappingURL of " + t})
		}
	}
	switch {
	case len(out) > 0:
	case scripts > 0:
		out = append(out, probe.Answer{Outcome: evidence.Pass, Summary: fmt.Sprintf("%d scripts of the front page come without source maps", scripts), URL: home.URL})
	case unclear == 0:
		out = append(out, probe.Answer{Outcome: evidence.NotApplicable, Summary: "the front page loads no scripts of its own", URL: home.URL})
	}
	return out
}

// stranger is the origin of a site that cannot exist (RFC 6761 section 6.4).
const stranger = "https://dewar-probe.invalid"

func askCORS(ctx context.Context, c *probe.Client) []probe.Answer {
	home, why := c.Welcome(ctx)
	if why != "" {
		return []probe.Answer{{Summary: why}}
	}
	paths := []string{"/"}
	if t, _, _ := strings.Cut(strings.TrimPrefix(home.URL, c.Origin()), "#"); t != "/" && strings.HasPrefix(t, "/") {
		paths = append(paths, t)
	}
	// APIs are where CORS is switched on.
	for _, l := range probe.ParsePage(home.Body).Links {
		if t, ok := c.Target(home, l); ok && strings.Contains(t, "/api") && len(paths) < 4 {
			paths = append(paths, t)
		}
	}
	if len(paths) < 4 {
		paths = append(paths, "/api/")
	}
	var (
		out   []probe.Answer
		asked int
	)
	for _, p := range paths {
		for _, origin := range []string{stranger, "null"} {
			r, err := c.Do(ctx, probe.Request{Path: p, Header: http.Header{"Origin": {origin}}})
			if err != nil || r.Refused() {
				continue
			}
			asked++
			allow, cred := r.Header.Get("Access-Control-Allow-Origin"), r.Header.Get("Access-Control-Allow-Credentials")
			if allow == origin && strings.EqualFold(strings.TrimSpace(cred), "true") {
				out = append(out, probe.Answer{
					Outcome: evidence.Fail, URL: c.URL(p),
					Summary: fmt.Sprintf("%s lets the foreign origin %s read answers with the visitor's cookies", p, origin),
					Seen:    "Origin: " + origin + "\nAccess-Control-Allow-Origin: " + allow + "\nAccess-Control-Allow-Credentials: " + cred,
				})
				break
			}
		}
	}
	if len(out) == 0 && asked > 0 {
		out = append(out, probe.Answer{Outcome: evidence.Pass, Summary: fmt.Sprintf("no foreign origin may read with the visitor's cookies (%d paths)", len(paths)), URL: c.URL("/")})
	}
	return out
}
