package rxset

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// cpu returns the CPU time of this thread: other work on the machine does not
// count.
func cpu(b *testing.B) time.Duration {
	b.Helper()
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t); err != nil {
		b.Fatal(err)
	}
	return time.Duration(t.Nano())
}

// report gives the CPU time since begin for each byte and value.
func report(b *testing.B, begin time.Duration, values []string) {
	b.Helper()
	ns := float64(cpu(b)-begin) / float64(b.N)
	b.ReportMetric(ns/float64(size(values)), "cpu-ns/byte")
	b.ReportMetric(ns/float64(len(values)), "cpu-ns/value")
}

// words in the order of their frequency, about.
var words = strings.Fields(`the of and to in is that it for as was with be by on not he his but at are this have from or had an they which one you were all her she there would their we him been has when who will no more if out so up said what its about than into them can only other time new some could these two may first then do any like my now over such our man me even most made after also did many off before must well back through years much where your way down should because long each just state those people too mr how little good world make very year still see own work men day get here old life both between being under three never know same last another while us might great go come since against right came take used himself few house use place during high without again home around small however found mrs part school thought went say general once upon war left every don't does got united number hand course water until always away public something fact less through put think almost enough took head yet government system better set told nothing night end why called eyes find going look asked later knew point next program city business give group toward young let room order select table update delete union database server password shell command system file image script function value price cart shipping payment account email address street phone delivery customer review product blue cotton shirt running shoes excellent quality arrived yesterday recommend friend perfect gift birthday coffee machine broken refund please contact support window door kitchen garden travel hotel flight weather sunday monday`)

func sentence(r *rand.Rand, n int) string {
	var b strings.Builder
	for i := range n {
		k := int(float64(len(words)) * r.Float64() * r.Float64() * r.Float64())
		w := words[k]
		if i == 0 {
			w = strings.ToUpper(w[:1]) + w[1:]
		}
		if i > 0 {
			if r.IntN(12) == 0 {
				b.WriteByte(',')
			}
			b.WriteByte(' ')
		}
		b.WriteString(w)
	}
	b.WriteString([]string{".", ".", ".", ".", "!", "?"}[r.IntN(6)])
	return b.String()
}

func prose(r *rand.Rand, size int) string {
	var b strings.Builder
	for b.Len() < size {
		b.WriteString(sentence(r, 4+r.IntN(16)))
		if r.IntN(6) == 0 {
			b.WriteString("\n\n")
		} else {
			b.WriteByte(' ')
		}
	}
	return b.String()[:size]
}

// corpora are the kinds of values that a shop's traffic is made of.
func corpora() map[string][]string {
	r := rand.New(rand.NewPCG(7, 8))
	headers := []string{
		"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36",
		"Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5 Mobile/15E148 Safari/604.1",
		"text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8",
		"en-US,en;q=0.5", "gzip, deflate, br, zstd", "keep-alive", "1", "document", "navigate", "same-origin", "?1", "u=0, i",
		"https://shop.example/products/running-shoes?colour=blue&size=42", "shop.example", "no-cache", `W/"5f3-18e1a2b"`,
		`"Not/A)Brand";v="8", "Chromium";v="126", "Google Chrome";v="126"`, `"Linux"`, "?0", "https://shop.example",
		"application/x-www-form-urlencoded", "application/json; charset=utf-8", "1532",
		"eyJjYXJ0IjpbMSwyLDNdLCJ1c2VyIjo3fQ.ZmVlZA.3q2-7wAAAAABAgMEBQYHCAkKCwwNDg8", "GA1.2.1405623561.1718000000", "Wed, 21 Oct 2026 07:28:00 GMT",
	}
	fields := []string{
		"Ada", "Lovelace", "ada.lovelace@example.org", "12 St James's Square", "London", "SW1Y 4JH", "GB", "+44 20 7946 0958", "1815-12-10", "on", "42", "blue",
		"csrf-2f9a61c04be74d0a8a3c", "Please leave the parcel with my neighbour (no. 14), thanks!", "running shoes", "4", "price-asc", "1", "20", "", "true", "Zürich, Größe 42", "日本語のテキスト",
	}
	var json []string
	for range 60 {
		json = append(json, fmt.Sprintf("sku-%05d", r.IntN(99999)), sentence(r, 3+r.IntN(5)), fmt.Sprintf("%d.%02d", r.IntN(500), r.IntN(100)), "EUR", words[r.IntN(len(words))], fmt.Sprintf("2026-%02d-%02dT%02d:00:00Z", 1+r.IntN(12), 1+r.IntN(28), r.IntN(24)), fmt.Sprintf("%08x-%04x-4%03x-a%03x-%012x", r.Uint32(), r.Uint32()&0xffff, r.Uint32()&0xfff, r.Uint32()&0xfff, r.Uint64()&0xffffffffffff))
	}
	for range 12 {
		fields = append(fields, sentence(r, 10+r.IntN(30)))
	}
	var html strings.Builder
	html.WriteString("<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>Shop</title><link rel=\"stylesheet\" href=\"/static/app.css?v=31\"></head>\n<body class=\"page\">\n")
	for i := 0; html.Len() < 100<<10; i++ {
		fmt.Fprintf(&html, "  <div class=\"card\" id=\"p%d\">\n    <a href=\"/products/%d?ref=list&amp;page=%d\"><img src=\"/img/%x.webp\" alt=\"%s\" width=\"320\" height=\"240\"></a>\n    <h2>%s</h2>\n    <p>%s</p>\n    <form method=\"post\" action=\"/cart\"><input type=\"hidden\" name=\"csrf\" value=\"%x\"><button type=\"submit\">Add to cart</button></form>\n  </div>\n",
			i, i, i/20, r.Uint64(), sentence(r, 3), sentence(r, 4), sentence(r, 20), r.Uint64())
	}
	return map[string][]string{
		"headers":  headers,
		"fields":   fields,
		"json":     json,
		"prose100": {prose(r, 100<<10)},
		"html100":  {html.String()},
	}
}

func size(values []string) int {
	n := 0
	for _, v := range values {
		n += len(v)
	}
	return n
}

// BenchmarkCRS reports the cost of asking for every pattern of the Core Rule
// Set, per byte and per value.
func BenchmarkCRS(b *testing.B) {
	s, _ := compile(b, crs(b))
	out := s.NewBits()
	for _, name := range []string{"headers", "fields", "json", "prose100", "html100"} {
		values := corpora()[name]
		b.Run(name, func(b *testing.B) {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			for _, v := range values {
				s.Match(v, nil, out)
			}
			b.ReportAllocs()
			b.ResetTimer()
			begin := cpu(b)
			for range b.N {
				for _, v := range values {
					s.Match(v, nil, out)
				}
			}
			report(b, begin, values)
		})
	}
}

// BenchmarkGo is the same by Go's regexp, one by one, without the lists of
// phrases.
func BenchmarkGo(b *testing.B) {
	patterns := slices.DeleteFunc(crs(b), func(p Pattern) bool { return p.Mode == Phrases })
	_, oracles := compile(b, patterns)
	for _, name := range []string{"headers", "fields", "json", "prose100", "html100"} {
		values := corpora()[name]
		b.Run(name, func(b *testing.B) {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			begin := cpu(b)
			for range b.N {
				for _, v := range values {
					for _, o := range oracles {
						o.match(v)
					}
				}
			}
			report(b, begin, values)
		})
	}
}

func BenchmarkCompile(b *testing.B) {
	patterns := crs(b)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	begin := cpu(b)
	defer func() { b.ReportMetric(float64(cpu(b)-begin)/1e6/float64(b.N), "cpu-ms/op") }()
	for range b.N {
		if _, err := Compile(patterns); err != nil {
			b.Fatal(err)
		}
	}
}

// hostile makes a value of pieces that patterns match or nearly match; of
// all patterns, or of one.
func hostile(tb testing.TB, r *rand.Rand, patterns []Pattern, one, size int) string {
	var b strings.Builder
	for b.Len() < size {
		i := one
		if i < 0 {
			i = r.IntN(len(patterns))
		}
		for _, v := range values(tb, r, patterns[i], 1) {
			b.WriteString(v[:min(len(v), 10+r.IntN(200))])
			b.WriteString(odd[r.IntN(len(odd))])
		}
	}
	return b.String()[:size]
}

// BenchmarkHostile asks for values that nobody has asked for before, made to
// need new states: each once.
func BenchmarkHostile(b *testing.B) {
	patterns := crs(b)
	s, _ := compile(b, patterns)
	out := s.NewBits()
	r := rand.New(rand.NewPCG(51, 52))
	run := func(b *testing.B, one, size int) (mean, worst float64) {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		var total time.Duration
		for range b.N {
			v := hostile(b, r, patterns, one, size)
			begin := cpu(b)
			s.Match(v, nil, out)
			d := cpu(b) - begin
			total += d
			worst = max(worst, float64(d)/float64(size))
		}
		return float64(total) / float64(b.N) / float64(size), worst
	}
	for _, size := range []int{100, 4000, 100000} {
		b.Run(fmt.Sprintf("mixed-%d", size), func(b *testing.B) {
			mean, worst := run(b, -1, size)
			b.ReportMetric(mean, "cpu-ns/byte")
			b.ReportMetric(worst, "worst-ns/byte")
		})
	}
	b.Run("each-4000", func(b *testing.B) {
		var most, sum float64
		at := 0
		for i := range patterns {
			mean, _ := run(b, i, 4000)
			sum += mean
			if mean > most {
				most, at = mean, i
			}
		}
		b.ReportMetric(sum/float64(len(patterns)), "cpu-ns/byte")
		b.ReportMetric(most, "worst-ns/byte")
		b.Logf("worst: pattern %d %.100q; %d groups", at, patterns[at].Expr, len(*s.groups.Load()))
	})
}
