package payload

import "testing"

// sinkCases are values at a known place: those that leave it, and those that
// an honest visitor sends.
var sinkCases = []struct {
	Sink
	breaks, plain []string
}{
	{Sink{Language: "sql", Spot: "'"}, []string{"' OR 1=1 --", "x'", `x\`, "%27", "%2527 OR 1=1", "%zz%27", "a\x00"}, []string{"chair", `5" screen; black -- new`, "50% off", "a, b (c)", "-1", ""}},
	{Sink{Language: "sql", Spot: "bare"}, []string{"1 OR 1=1", "1;drop", "(select 1)", "1--", "name,(select 2)", "1/**/", "name desc limit", "'", "0x1 or"}, []string{"7", "-3", "name", "product.name", "name DESC", "price asc, name", "1,2,3"}},
	{Sink{Language: "sql"}, []string{"' or ''='", "1; drop table x", "x -- y", "x/*", `x\`, "1 union select 2,3"}, []string{"blue chair", "7", "name", "a-b"}},
	{Sink{Language: "shell"}, []string{"a;id", "$(id)", "`id`", "a b", "-oProxy", "a|b", "a\nb", "a&", "a>b", "*"}, []string{"www.example.com", "192.0.2.1", "file_1.txt", "a@b"}},
	{Sink{Language: "shell", Spot: "'"}, []string{"a'; id"}, []string{"a b; c", "$x"}},
	{Sink{Language: "shell", Spot: `"`}, []string{`a"; id`, "$(id)", "`id`", `a\`}, []string{"a b, c"}},
	{Sink{Language: "option"}, []string{"--upload-pack=x", "-o"}, []string{"a-b", "https://x"}},
	{Sink{Language: "code"}, []string{"__import__('os')", "a", "1,2", "[1]", "9**open"}, []string{"1+2", "(3.5 * 2) / 7 % 2"}},
	{Sink{Language: "template"}, []string{"{{7*7}}", "{% x %}", "${7}", "%7B%7B7%7D%7D", "<%= 1 %>"}, []string{"hello {you}", "5 % 3", "a#b", "100%"}},
	{Sink{Language: "template", Spot: "code"}, []string{"x.y()", "x|y", "a b"}, []string{"name", "7"}},
	{Sink{Language: "html", Spot: "text"}, []string{"<b>", "<svg/onload=x>", "</p", "<!--", "a<"}, []string{"a < b", `Tom's "shop" & more`, "1 <3 you", "x > y"}},
	{Sink{Language: "html", Spot: "rich"}, []string{"<script>x</script>", "<img src=x onerror=a()>", "<a href=javascript:a()>x</a>"}, []string{"<b>bold</b> and <a href=\"https://example.com/\">a link</a>", "<p>O'Neill</p>"}},
	{Sink{Language: "html", Spot: "unquoted"}, []string{"javascript:x", "&#106;avascript:x", "x onclick=a", "a b", "x>", "a=b"}, []string{"chair", "a-b"}},
	{Sink{Language: "html", Spot: "text|unquoted"}, []string{"<b>", "a b"}, []string{"chair"}},
	{Sink{Language: "html"}, []string{`"x`, "'x", "&#106;avascript:x", "javascript:alert(1)", "JaVa\tscript:x", "data:text/html,x", "${x}", "x onmouseover=alert(1)", "x/onclick =a"}, []string{"blue chair", "https://example.com/a?b=c", "a & b"}},
	{Sink{Language: "html", Spot: "code"}, []string{"1;alert(1)", "a b", "'"}, []string{"7", "name", "-1.5"}},
	{Sink{Language: "path", Spot: "whole"}, []string{"../x", "/srv/../etc", "a\x00"}, []string{"/srv/library", "/tmp/x", "C:/books", "~/x"}},
	{Sink{Language: "path", Spot: "below"}, []string{"../x", "a/../../b", "/etc/passwd", `..\x`, "..", "C:/x", "~root/x", "a\x00.png", "%2e%2e/x", "%252e%252e%252fx", "..;/x"}, []string{"manual.pdf", "a/b.txt", "..hidden", "a..b/c", "report 2.txt", "v1.2/x"}},
	{Sink{Language: "redirect", Host: "shop.example:8443"}, []string{"https://evil.example/", "//evil.example", `\\evil.example`, `/\evil.example`, "/\t/evil.example", " //evil.example", "javascript:alert(1)", "https:evil.example", "https:/evil.example", "https://shop.example:8443@evil.example/", "http://shop.example:8443.evil.example", "data:x", "https://shop.example", "%2f%2fevil.example"},
		[]string{"/account", "account?next=/a:b", "?page=2", "#top", "", "https://shop.example:8443/cart", "HTTPS://SHOP.example:8443", "/a//b", "/search?q=a://b"}},
	{Sink{Language: "url"}, []string{"http://127.0.0.1/", "http://127.1/", "http://2130706433/", "http://0x7f.1/", "http://0177.0.0.1/", "http://[::1]/", "http://[::ffff:10.0.0.1]/", "http://169.254.169.254/latest", "http://localhost:8080/", "http://redis:6379/", "http://metadata.google.internal/", "file:///etc/passwd", "gopher://x.example/", "http://10.0.0.1.nip.example/", "http://x@10.0.0.1/", "http://example.com\\@10.0.0.1/", "127.0.0.1:80/x", "//10.0.0.1/x", "http://[64:ff9b::a00:1]/", "http://[2002:7f00:1::]/", "http://100.100.1.1/", "http://0/", "dict:x", "http://127.0.0.1./", "http://a.local/", "http://①②⑦.0.0.1/", "http://１２７.0.0.1/", "http://127。0.0.1/", "http://metadata.google.inter\u00adnal/"},
		[]string{"https://example.com/a?b=http://c", "http://192.0.2.9/", "example.com/x", "example.com:8080", "cat.png", "a/b", "https://[2001:db8::1]/", "http://93.184.216.34:8000/", "https://10.example.com/", "https://bücher.example/", "https://例え.テスト/"}},
	{Sink{Language: "ldap", Spot: "filter"}, []string{"*", "a)(uid=*", `\2a`}, []string{"Smith, John", "a=b"}},
	{Sink{Language: "ldap", Spot: "name"}, []string{"a,dc=x", "#x", "a+b"}, []string{"john (sales)", "smith"}},
	{Sink{Language: "ldap"}, []string{"*", "a,b"}, []string{"john.smith"}},
	{Sink{Language: "xpath", Spot: "'"}, []string{"' or '1'='1"}, []string{`5" disk`}},
	{Sink{Language: "nosql", Spot: "'"}, []string{"'; return true; '"}, []string{"x y"}},
	{Sink{Language: "mail"}, []string{"a\nBcc: x", "a\rb", "a\u2028b", "%0aBcc: x", "a\vb"}, []string{"An order: number 5", "Grüße & more, 50%"}},
	{Sink{Language: "header"}, []string{"a\r\nBcc: x", "a\nb", "%0d%0aSet-Cookie: x"}, []string{"Hello, world: yes"}},
}

func TestSinks(t *testing.T) {
	seen := map[string]bool{}
	for _, c := range sinkCases {
		seen[c.Language] = true
		for _, v := range c.breaks {
			if c.Breaks(v) == "" {
				t.Errorf("%+v: %q is taken", c.Sink, v)
			}
		}
		for _, v := range c.plain {
			if why := c.Breaks(v); why != "" {
				t.Errorf("%+v: %q is refused: %s", c.Sink, v, why)
			}
		}
	}
	for _, l := range Languages {
		if !seen[l] && documentJudges[l] == nil { // see TestDocuments
			t.Errorf("no case for %s", l)
		}
	}
}

func FuzzSink(f *testing.F) {
	for i, c := range sinkCases {
		for _, v := range append(c.breaks, c.plain...) {
			f.Add(uint8(i), v)
		}
	}
	f.Fuzz(func(t *testing.T, i uint8, v string) {
		s := sinkCases[int(i)%len(sinkCases)].Sink
		why := s.Breaks(v)
		// Where the place is not known nothing passes that some place does
		// not take.
		if why == "" && s.Spot == "" && s.Language == "sql" && (Sink{Language: "sql", Spot: "'"}).Breaks(v) != "" {
			t.Fatalf("%q leaves quotes and passes where the place is not known", v)
		}
	})
}

func BenchmarkSink(b *testing.B) {
	s := Sink{Language: "sql", Spot: "'"}
	b.ReportAllocs()
	for b.Loop() {
		s.Breaks("a comfortable blue chair")
	}
}
