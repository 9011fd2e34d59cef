package csp

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/html"
)

// tokenized is what [scan] finds, by the tokenizer of x/net.
func tokenized(page string) []string {
	var out []string
	z := html.NewTokenizer(strings.NewReader(page))
	element := ""
	for {
		switch z.Next() {
		case html.ErrorToken:
			return out
		case html.StartTagToken, html.SelfClosingTagToken:
			name, more := z.TagName()
			element = string(name)
			for more {
				var k, v []byte
				k, v, more = z.TagAttr()
				switch {
				case len(k) > 2 && k[0] == 'o' && k[1] == 'n':
					out = append(out, fmt.Sprintf("%d %s", handlers, v))
				case string(k) == "style":
					out = append(out, fmt.Sprintf("%d %s", styleAttributes, v))
				case string(k) == "src" && element == "script":
					element = ""
				}
			}
		case html.TextToken:
			switch element {
			case "script":
				out = append(out, fmt.Sprintf("%d %s", scripts, z.Text()))
			case "style":
				out = append(out, fmt.Sprintf("%d %s", styles, z.Text()))
			}
			element = ""
		default:
			element = ""
		}
	}
}

func scanned(page string) []string {
	var out []string
	scan([]byte(page), func(at class, text []byte) { out = append(out, fmt.Sprintf("%d %s", at, text)) })
	return out
}

var pages = []string{
	"<script>a()</script><p onclick=\"b('&#39;')\" STYLE='x: y'>text<style>\np{}\n</style>",
	"<SCRIPT SRC=x>no</SCRIPT><script\ndefer>a < b && c</script ><script>x</scripty></script>",
	"<!-- <script>no</script> --><p data-x=\"<script>no</script>\" onload=y>",
	"<textarea><script>no</script></textarea><title><p style=x></title><script>yes</script>",
	"<p onclick='a\r\nb'><script>a\r\nb\rc</script>",
	"<p a=b/onx=y><p/onclick=z><p =onq=1><br/><script/>a</script>",
	"1 < 2 <3 </script><script></script><script>\n</script>",
	"<p onclick=unquoted&amp;x style>",
}

func TestScan(t *testing.T) {
	for _, page := range pages {
		if got, want := scanned(page), tokenized(page); !slices.Equal(got, want) {
			t.Errorf("%q\ngot  %q\nwant %q", page, got, want)
		}
	}
}

// FuzzScan: on pages without comments and the elements whose text is no HTML
// in odd ways, what is found is what a tokenizer finds.
func FuzzScan(f *testing.F) {
	for _, p := range pages {
		f.Add(p)
	}
	f.Fuzz(func(t *testing.T, page string) {
		got := scanned(page)
		lower := strings.ToLower(page)
		for _, odd := range []string{"<!", "<?", "</", "\x00", "plaintext", "noscript", "noembed", "noframes", "iframe", "xmp", "textarea", "title"} {
			if strings.Contains(strings.NewReplacer("</script>", "", "</style>", "").Replace(lower), odd) {
				return
			}
		}
		want := tokenized(page)
		if !slices.Equal(got, want) && strings.HasSuffix(lower, ">") && complete(page) {
			t.Errorf("%q\ngot  %q\nwant %q", page, got, want)
		}
	})
}

// complete reports whether a tokenizer comes to the end of a page in text, and
// every script and style sheet has its end tag.
func complete(page string) bool {
	lower := strings.ToLower(page)
	for _, e := range []string{"script", "style"} {
		if strings.Count(lower, "<"+e) != strings.Count(lower, "</"+e+">") {
			return false
		}
	}
	return strings.Count(lower, "<")-strings.Count(lower, "</") <= strings.Count(lower, ">") && !strings.ContainsAny(page, "`") && strings.Count(page, `"`)%2 == 0 && strings.Count(page, "'")%2 == 0
}
