package markup_test

import (
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/html"

	"github.com/dewar-security/dewar/internal/markup"
)

// tokenized is what scanned finds, by the tokenizer of x/net.
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
					out = append(out, "handler "+string(v))
				case string(k) == "style":
					out = append(out, "style "+string(v))
				case string(k) == "src" && element == "script":
					element = ""
				}
			}
		case html.TextToken:
			switch element {
			case "script":
				out = append(out, "script "+string(z.Text()))
			case "style":
				out = append(out, "sheet "+string(z.Text()))
			}
			element = ""
		default:
			element = ""
		}
	}
}

func scanned(page string) []string {
	var out []string
	markup.Each([]byte(page), func(t *markup.Tag) {
		src := false
		for _, a := range t.Attrs {
			switch name := strings.ToLower(string(a.Name)); {
			case len(name) > 2 && strings.HasPrefix(name, "on"):
				out = append(out, "handler "+string(markup.Value(a.Value)))
			case name == "style":
				out = append(out, "style "+string(markup.Value(a.Value)))
			case name == "src":
				src = true
			}
		}
		switch {
		case len(t.Text) == 0:
		case t.Is("style"):
			out = append(out, "sheet "+string(markup.Text(t.Text)))
		case !src:
			out = append(out, "script "+string(markup.Text(t.Text)))
		}
	})
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

func TestEach(t *testing.T) {
	for _, page := range pages {
		if got, want := scanned(page), tokenized(page); !slices.Equal(got, want) {
			t.Errorf("%q\ngot  %q\nwant %q", page, got, want)
		}
	}
}

// FuzzEach: on pages without comments and the elements whose text is no HTML
// in odd ways, what is found is what a tokenizer finds.
func FuzzEach(f *testing.F) {
	for _, p := range pages {
		f.Add(p)
	}
	f.Fuzz(func(t *testing.T, page string) {
		// Whatever is open ends here, in every reading.
		page += `"'></script></style>"'></script></style>`
		got := scanned(page)
		lower := strings.ToLower(page)
		for _, odd := range []string{"<!", "<?", "</", "\x00", "plaintext", "noscript", "noembed", "noframes", "iframe", "xmp", "textarea", "title"} {
			if strings.Contains(strings.NewReplacer("</script>", "", "</style>", "").Replace(lower), odd) {
				return
			}
		}
		want := tokenized(page)
		if !slices.Equal(got, want) {
			t.Errorf("%q\ngot  %q\nwant %q", page, got, want)
		}
	})
}

// TestPlaces: a tag is told by its place and its attributes by theirs.
func TestPlaces(t *testing.T) {
	const page = "a <P\tid=x CLASS='y z'  hidden>b"
	markup.Each([]byte(page), func(tag *markup.Tag) {
		if got := page[tag.Start:tag.End]; got != "<P\tid=x CLASS='y z'  hidden>" || !tag.Is("p") || tag.Text != nil {
			t.Errorf("%q %+v", got, tag)
		}
		for _, a := range tag.Attrs {
			if !strings.HasPrefix(page[a.At:], string(a.Name)) {
				t.Errorf("%s is not at %d", a.Name, a.At)
			}
		}
		if v, ok := tag.Get("class"); v != "y z" || !ok {
			t.Errorf("class %q %v", v, ok)
		}
		if v, ok := tag.Get("hidden"); v != "" || !ok {
			t.Errorf("hidden %q %v", v, ok)
		}
		if _, ok := tag.Get("title"); ok {
			t.Error("title is there")
		}
	})
}

func BenchmarkEach(b *testing.B) {
	page := []byte(strings.Repeat("<p class=\"row\">some text of a page</p>\n<script>var x = 1</script>", 1000))
	b.SetBytes(int64(len(page)))
	b.ReportAllocs()
	for b.Loop() {
		markup.Each(page, func(*markup.Tag) {})
	}
}
