package injection

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/net/html"

	"github.com/dewar-security/dewar/internal/evidence"
	"github.com/dewar-security/dewar/internal/probe"
)

var checks = []*probe.Check{
	{
		ID:       "reflected-markup",
		Partial:  true,
		Control:  "injection",
		Asks:     "Does text from the query come back as markup?",
		Why:      "A page that repeats < and \" unescaped runs the script in a link that somebody sends (CWE-79).",
		Fix:      "Leave Jinja's autoescaping on, drop |safe and Markup() around input, and return text from views as text/plain.",
		CWE:      []int{79},
		Requests: 36,
		Run:      askMarkup,
	},
	{
		ID:       "template-arithmetic",
		Partial:  true,
		Control:  "injection",
		Asks:     "Does the server calculate {{ 1337 * 7 }} in text from the query?",
		Why:      "A template made from a visitor's text runs Python on the server (CWE-1336).",
		Fix:      "Pass values to render_template as variables; never format input into render_template_string.",
		CWE:      []int{1336, 94},
		Requests: 36,
		Run:      askTemplate,
	},
	{
		ID:       "sql-error",
		Partial:  true,
		Control:  "injection",
		Asks:     "Does a single quote in the query break the answer, and a pair of them not?",
		Why:      "A quote that reaches the database as part of the query is SQL injection: whoever sends the right one reads everything (CWE-89).",
		Fix:      "Bind parameters: text(\"… WHERE name LIKE :q\").bindparams(q=…), or build the query with SQLAlchemy's expressions.",
		CWE:      []int{89},
		Requests: 36,
		Run:      askSQL,
	},
}

// place is one parameter that a page repeats.
type place struct {
	path  string // with a trailing ? or &
	name  string
	other string // the form's other fields, encoded
}

func (p place) with(value string) string {
	s := p.path + p.name + "=" + url.QueryEscape(value)
	if p.other != "" {
		s += "&" + p.other
	}
	return s
}

// maxPlaces bounds how many parameters are tried.
const maxPlaces = 8

// places lists the query parameters of the site's search and filter forms and
// links, and a few that views commonly repeat.
func places(ctx context.Context, c *probe.Client) ([]place, string) {
	home, why := c.Welcome(ctx)
	if why != "" {
		return nil, why
	}
	var out []place
	seen := map[string]bool{}
	add := func(p place) {
		if key := p.path + p.name; !seen[key] && len(out) < maxPlaces {
			seen[key] = true
			out = append(out, p)
		}
	}
	read := func(r *probe.Response) {
		page := probe.ParsePage(r.Body)
		for _, f := range page.Forms {
			t, ok := c.Target(r, f.Action)
			if !ok || f.Method != http.MethodGet {
				continue
			}
			t, _, _ = strings.Cut(t, "?")
			for i, x := range f.Fields {
				if x.Type == "submit" || x.Type == "button" || x.Type == "hidden" || x.Type == "checkbox" || x.Type == "radio" {
					continue
				}
				rest := url.Values{}
				for j, y := range f.Fields {
					if j != i {
						rest.Set(y.Name, y.Value)
					}
				}
				add(place{t + "?", x.Name, rest.Encode()})
			}
		}
		for _, l := range page.Links {
			t, ok := c.Target(r, l)
			path, query, has := strings.Cut(t, "?")
			if !ok || !has {
				continue
			}
			q, err := url.ParseQuery(query)
			if err != nil {
				continue
			}
			for _, name := range slices.Sorted(maps.Keys(q)) {
				rest := url.Values{}
				for n, v := range q {
					if n != name {
						rest[n] = v
					}
				}
				add(place{path + "?", name, rest.Encode()})
			}
		}
	}
	read(home)
	if r, _, ok := c.Login(ctx); ok {
		read(r)
	}
	at := strings.TrimPrefix(home.URL, c.Origin())
	at, _, _ = strings.Cut(at, "?")
	for _, n := range []string{"q", "name", "next", "search"} {
		add(place{at + "?", n, ""})
	}
	return out, ""
}

// try sends first a word, to see whether the page repeats the parameter at
// all, and then the payload made of the word. repeated counts the parameters
// that came back.
func try(ctx context.Context, c *probe.Client, payload func(word string) string, bad func(r *probe.Response, word string) string) []probe.Answer {
	all, why := places(ctx, c)
	if why != "" {
		return []probe.Answer{{Summary: why}}
	}
	var (
		out      []probe.Answer
		asked    int
		repeated int
		refused  int
		last     error
	)
	for _, p := range all {
		word := probe.Nonce()
		r, err := c.Get(ctx, p.with(word))
		if err != nil {
			last = err
			continue
		}
		if r.Refused() {
			continue
		}
		asked++
		if !bytes.Contains(r.Body, []byte(word)) {
			continue
		}
		repeated++
		text := payload(word)
		r2, err := c.Get(ctx, p.with(text))
		switch {
		case err != nil:
			last = err
			asked--
		case r2.Refused():
			asked--
		case (r2.Status == http.StatusForbidden || r2.Status == http.StatusBadRequest) && r.Status != r2.Status && !bytes.Contains(r2.Body, []byte(word)):
			refused++
		default:
			if seen := bad(r2, word); seen != "" {
				out = append(out, probe.Answer{
					Outcome: evidence.Fail, URL: r2.URL,
					Summary: fmt.Sprintf("the parameter %s of %s comes back as code", p.name, strings.TrimRight(p.path, "?")),
					Seen:    "sent " + p.name + "=" + text + "\ngot " + seen,
				})
			}
		}
	}
	switch {
	case len(out) > 0:
	case asked == 0:
		s := "could not tell: no request was answered"
		if last != nil {
			s = "could not tell: " + last.Error()
		}
		out = append(out, probe.Answer{Summary: s})
	case repeated == 0:
		out = append(out, probe.Answer{Summary: fmt.Sprintf("could not tell: none of %d parameters tried comes back in the page", asked)})
	default:
		s := fmt.Sprintf("%d parameters come back, none as code", repeated)
		if refused > 0 {
			s = fmt.Sprintf("%d parameters come back, none as code; %d were refused before the app", repeated, refused)
		}
		out = append(out, probe.Answer{Outcome: evidence.Pass, Summary: s, URL: c.URL("/")})
	}
	return out
}

// askMarkup sends markup that does nothing: an element that no browser knows,
// after what ends an attribute. Only an element that a browser would make of
// it counts, not the same text in a comment or a script.
func askMarkup(ctx context.Context, c *probe.Client) []probe.Answer {
	return try(ctx, c, func(word string) string { return word + `"><` + word + `>` }, func(r *probe.Response, word string) string {
		if !scriptable(r) || !hasElement(r.Body, word) {
			return ""
		}
		i := bytes.Index(r.Body, []byte("<"+word+">"))
		return r.Header.Get("Content-Type") + ": " + around(r.Body, max(i, 0), len(word)+2)
	})
}

// hasElement reports whether a document has an element of that name.
func hasElement(body []byte, name string) bool {
	z := html.NewTokenizer(bytes.NewReader(body))
	for {
		switch z.Next() {
		case html.ErrorToken:
			return false
		case html.StartTagToken, html.SelfClosingTagToken:
			if n, _ := z.TagName(); string(n) == name {
				return true
			}
		}
	}
}

// scriptable reports whether a browser would run scripts in the answer.
func scriptable(r *probe.Response) bool {
	if r.HTML() {
		return true
	}
	kind, _, _ := strings.Cut(strings.ToLower(r.Header.Get("Content-Type")), ";")
	switch strings.TrimSpace(kind) {
	case "":
		return !strings.EqualFold(r.Header.Get("X-Content-Type-Options"), "nosniff")
	case "image/svg+xml", "text/xml", "application/xml":
		return true
	}
	return false
}

func askTemplate(ctx context.Context, c *probe.Client) []probe.Answer {
	return try(ctx, c, func(word string) string { return word + "{{1337*7}}" + word }, func(r *probe.Response, word string) string {
		if i := bytes.Index(r.Body, []byte(word+"9359"+word)); i >= 0 {
			return around(r.Body, i, 2*len(word)+4)
		}
		return ""
	})
}

func around(b []byte, at, n int) string {
	return string(b[max(0, at-30):min(len(b), at+n+30)])
}

// databaseError matches what database drivers of Python say about a query
// that does not parse.
var databaseError = regexp.MustCompile(`(?:sqlite3|psycopg2?|pymysql|MySQLdb|mysql\.connector|asyncpg|cx_Oracle|oracledb|pyodbc)(?:\.\w+)*\.(?:OperationalError|ProgrammingError|SyntaxError|DatabaseError)|You have an error in your SQL syntax|unterminated quoted string|unrecognized token: |ORA-0(?:0933|1756)|Unclosed quotation mark`)

// askSQL compares three requests: a word, the word with one quote, and with
// two, which SQL reads as a quote inside the text. A single quote changes
// nothing in the database: the query that it breaks does not run.
func askSQL(ctx context.Context, c *probe.Client) []probe.Answer {
	all, why := places(ctx, c)
	if why != "" {
		return []probe.Answer{{Summary: why}}
	}
	var (
		out     []probe.Answer
		asked   int
		unclear []string // broken with or without quotes
		last    error
	)
	for _, p := range all {
		word := probe.Nonce()
		one, err := c.Get(ctx, p.with(word+"'"))
		if err != nil {
			last = err
			continue
		}
		if one.Refused() {
			continue
		}
		m := databaseError.Find(one.Body)
		if one.Status < 500 && m == nil {
			asked++
			continue
		}
		plain, err := c.Get(ctx, p.with(word))
		if err != nil || plain.Refused() {
			last = err
			continue
		}
		two, err := c.Get(ctx, p.with(word+"''"))
		if err != nil || two.Refused() {
			last = err
			continue
		}
		broken := one.Status >= 500 && plain.Status < 500 && two.Status < 500
		shown := m != nil && !databaseError.Match(plain.Body) && !databaseError.Match(two.Body)
		if broken || shown {
			out = append(out, probe.Answer{
				Outcome: evidence.Fail, URL: one.URL,
				Summary: fmt.Sprintf("a quote in the parameter %s of %s reaches the database's parser", p.name, strings.TrimRight(p.path, "?")),
				Seen:    fmt.Sprintf("no quote: %d, one: %d, two: %d\n%s", plain.Status, one.Status, two.Status, m),
			})
			continue
		}
		unclear = append(unclear, p.name)
	}
	switch {
	case len(out) > 0:
	case len(unclear) > 0:
		out = append(out, probe.Answer{Summary: "could not tell: the answers break in another way for " + strings.Join(unclear, ", ")})
	case asked == 0 && last != nil:
		out = append(out, probe.Answer{Summary: "could not tell: " + last.Error()})
	case asked == 0:
		out = append(out, probe.Answer{Summary: "could not tell: no request was answered"})
	default:
		out = append(out, probe.Answer{Outcome: evidence.Pass, Summary: fmt.Sprintf("a quote breaks none of %d parameters tried", asked), URL: c.URL("/")})
	}
	return out
}
