package probe

import (
	"bytes"
	"context"
	"fmt"
	"net/url"
	"strings"

	"golang.org/x/net/html"
)

// Page is what the checks read in an HTML document.
type Page struct {
	Forms   []Form
	Links   []string // href of a, as written
	Scripts []Script
	Styles  []string // href of link rel=stylesheet
	Meta    []Meta   // http-equiv
	Title   string
}

// Form is one form of a page.
type Form struct {
	Method string // "GET" or "POST"
	Action string // as written; "" is the page itself
	Fields []Field
}

// Field is one control of a form that has a name.
type Field struct{ Name, Type, Value string }

// Script is one script element.
type Script struct {
	Src, Integrity string // as written
	Inline         bool
}

// Meta is a meta element that stands for a header.
type Meta struct{ Name, Content string }

// Password reports whether the form asks for a password.
func (f Form) Password() bool {
	for _, x := range f.Fields {
		if x.Type == "password" {
			return true
		}
	}
	return false
}

// Token returns the field that carries a CSRF token, by the names that
// Flask-WTF, Flask-SeaSurf, Django and others use.
func (f Form) Token() (Field, bool) {
	for _, x := range f.Fields {
		n := strings.ToLower(x.Name)
		if x.Value != "" && (strings.Contains(n, "csrf") || strings.Contains(n, "xsrf") || n == "_token" || n == "authenticity_token") {
			return x, true
		}
	}
	return Field{}, false
}

// ParsePage reads HTML as browsers do; it has no errors.
func ParsePage(body []byte) *Page {
	p := &Page{}
	z := html.NewTokenizer(bytes.NewReader(body))
	z.SetMaxBuf(1 << 20)
	var form *Form
	done := func() {
		if form != nil {
			p.Forms = append(p.Forms, *form)
			form = nil
		}
	}
	title := false
	for {
		switch z.Next() {
		case html.ErrorToken:
			done()
			return p
		case html.TextToken:
			if title {
				p.Title = strings.TrimSpace(string(z.Text()))
				title = false
			}
		case html.EndTagToken:
			if n, _ := z.TagName(); string(n) == "form" {
				done()
			}
			title = false
		case html.StartTagToken, html.SelfClosingTagToken:
			t := z.Token()
			a := map[string]string{}
			for _, x := range t.Attr {
				if _, twice := a[x.Key]; !twice { // browsers take the first
					a[x.Key] = x.Val
				}
			}
			switch t.Data {
			case "title":
				title = p.Title == ""
			case "form":
				done()
				form = &Form{Method: "GET", Action: strings.TrimSpace(a["action"])}
				if strings.EqualFold(strings.TrimSpace(a["method"]), "post") {
					form.Method = "POST"
				}
			case "input", "select", "textarea", "button":
				if form != nil && a["name"] != "" {
					kind := strings.ToLower(strings.TrimSpace(a["type"]))
					if kind == "" {
						kind = map[string]string{"input": "text"}[t.Data]
					}
					form.Fields = append(form.Fields, Field{Name: a["name"], Type: kind, Value: a["value"]})
				}
			case "a":
				if h := strings.TrimSpace(a["href"]); h != "" {
					p.Links = append(p.Links, h)
				}
			case "link":
				if strings.Contains(strings.ToLower(a["rel"]), "stylesheet") && a["href"] != "" {
					p.Styles = append(p.Styles, strings.TrimSpace(a["href"]))
				}
			case "script":
				src, has := a["src"]
				p.Scripts = append(p.Scripts, Script{Src: strings.TrimSpace(src), Integrity: a["integrity"], Inline: !has})
			case "meta":
				if e := a["http-equiv"]; e != "" {
					p.Meta = append(p.Meta, Meta{strings.ToLower(strings.TrimSpace(e)), a["content"]})
				}
			}
		}
	}
}

// Visit gets a page and follows up to three redirects within the site. All
// checks of a run share what was got, so a page costs its requests once.
func (c *Client) Visit(ctx context.Context, path string) (*Response, error) {
	for range 4 {
		r, err := c.page(ctx, path)
		if err != nil {
			return nil, err
		}
		next, ok := c.Own(r.Location())
		if !ok || next == path {
			return r, nil
		}
		path = next
	}
	return nil, fmt.Errorf("%s redirects more than three times", c.URL(path))
}

func (c *Client) page(ctx context.Context, path string) (*Response, error) {
	c.mu.Lock()
	r, ok := c.pages[path]
	c.mu.Unlock()
	if ok {
		return r, nil
	}
	r, err := c.Get(ctx, path)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	c.pages[path] = r
	c.mu.Unlock()
	return r, nil
}

// Target resolves a link of the page r and returns its request target, if it
// lies on the site.
func (c *Client) Target(r *Response, link string) (string, bool) {
	base, err := url.Parse(r.URL)
	if err != nil {
		return "", false
	}
	u, err := base.Parse(link)
	if err != nil {
		return "", false
	}
	return c.Own(u)
}

// loginWords stand in the paths of pages where people prove who they are.
var loginWords = []string{"login", "log-in", "log_in", "signin", "sign-in", "sign_in", "logon", "auth"}

// Login finds a page with a form that asks for a password: the front page,
// what its links call login, or /login. Four requests at most on top of the
// front page's. ok is false when there is none.
func (c *Client) Login(ctx context.Context) (r *Response, f Form, ok bool) {
	find := func(r *Response) bool {
		if r.Status != 200 || !r.HTML() {
			return false
		}
		// A page may ask for two passwords (registration beside login): the
		// form with one is the login.
		best := -1
		forms := ParsePage(r.Body).Forms
		for i, x := range forms {
			if x.Method != "POST" || !x.Password() {
				continue
			}
			if t, on := c.Target(r, x.Action); !on || strings.Contains(strings.ToLower(t), "regist") || strings.Contains(strings.ToLower(t), "signup") {
				continue
			}
			if best < 0 || len(x.Fields) < len(forms[best].Fields) {
				best = i
			}
		}
		if best >= 0 {
			f, ok = forms[best], true
		}
		return best >= 0
	}
	home, err := c.Visit(ctx, "/")
	if err != nil {
		return nil, Form{}, false
	}
	if find(home) {
		return home, f, true
	}
	var tries []string
	for _, l := range ParsePage(home.Body).Links {
		t, on := c.Target(home, l)
		if !on || strings.Contains(strings.ToLower(t), "logout") {
			continue
		}
		for _, w := range loginWords {
			if strings.Contains(strings.ToLower(t), w) {
				tries = append(tries, t)
				break
			}
		}
	}
	tries = append(tries, "/login")
	for i, t := range tries {
		if i == 2 && len(tries) > 2 {
			break
		}
		r, err := c.Visit(ctx, t)
		if err == nil && find(r) {
			return r, f, true
		}
	}
	return nil, Form{}, false
}

// Cookie is a cookie that the site has set, taken apart no further than name
// and value.
type Cookie struct{ Name, Value, Line, URL string }

// Cookies collects what the site sets on its front page, its login page and
// on the given paths, for visitors without cookies.
func (c *Client) Cookies(ctx context.Context, paths ...string) (all []Cookie, err error) {
	seen := map[string]bool{}
	add := func(r *Response) {
		for _, line := range r.Header["Set-Cookie"] {
			pair, _, _ := strings.Cut(line, ";")
			name, value, _ := strings.Cut(pair, "=")
			name = strings.TrimSpace(name)
			if name == "" || seen[name+"\x00"+r.URL] {
				continue
			}
			seen[name+"\x00"+r.URL] = true
			all = append(all, Cookie{name, strings.TrimSpace(value), line, r.URL})
		}
	}
	for _, p := range append([]string{"/"}, paths...) {
		// The redirects on the way may set some, too.
		for range 4 {
			r, e := c.page(ctx, p)
			if e != nil {
				err = e
				break
			}
			add(r)
			next, ok := c.Own(r.Location())
			if !ok || next == p {
				break
			}
			p = next
		}
	}
	if r, _, ok := c.Login(ctx); ok {
		add(r)
	}
	if len(all) > 0 {
		err = nil
	}
	return all, err
}

// Sent turns cookies into the value of a Cookie field, each name once. Those
// that page set go before: a CSRF token of the page belongs to its session.
func Sent(cookies []Cookie, page *Response) string {
	var pairs []string
	seen := map[string]bool{}
	for _, own := range []bool{true, false} {
		for _, k := range cookies {
			if own == (page != nil && k.URL == page.URL) && !seen[k.Name] {
				seen[k.Name] = true
				pairs = append(pairs, k.Name+"="+k.Value)
			}
		}
	}
	return strings.Join(pairs, "; ")
}
