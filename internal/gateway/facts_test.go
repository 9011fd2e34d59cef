package gateway

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
)

func frame(pid int, more bool, data string) string {
	mark := "."
	if more {
		mark = "+"
	}
	return fmt.Sprintf("%d %s %s\n", pid, mark, data)
}

func encode(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

func TestReadReports(t *testing.T) {
	a := encode(`{"kind":"facts","pid":7,"known":true,"found":true,"secret":"` + encode("top secret") + `"}`)
	b := encode(`{"kind":"failed","pid":8,"phase":"import"}`)
	in := frame(7, true, a[:20]) + frame(8, true, b[:8]) + frame(7, false, a[20:]) + // two at once
		"garbage\n" + strings.Repeat("x", 3*maxFrame) + "\n" + frame(0, false, b) + frame(9, false, "!!!") +
		frame(9, false, encode("{")) + frame(9, false, encode(`{"kind":"other"}`)) + frame(8, false, b[8:]) + "7 . cut off"
	var good []report
	var bad []error
	readReports(strings.NewReader(in), func(r report) { good = append(good, r) }, func(e error) { bad = append(bad, e) })
	if len(good) != 2 || good[0].Kind != "facts" || string(good[0].Secret) != "top secret" || good[1].Phase != "import" {
		t.Errorf("%+v", good)
	}
	if len(bad) != 6 {
		t.Errorf("%d bad: %v", len(bad), bad)
	}
	f := good[0].facts()
	if f.SecretKey.Reveal() != "top secret" || strings.Contains(fmt.Sprintf("%v %+v %#v", f, f, f), "top") {
		t.Error("the secret shows when facts are printed")
	}
}

// TestReportsAreBounded: a worker that never ends its report, and one that
// opens many, cannot take our memory.
func TestReportsAreBounded(t *testing.T) {
	chunk := strings.Repeat("A", 3072)
	var in bytes.Buffer
	for range maxReport/3072 + 3 {
		in.WriteString(frame(5, true, chunk))
	}
	for pid := 1; pid < 3*maxSenders; pid++ {
		in.WriteString(frame(pid, true, chunk))
	}
	var bad []error
	readReports(&in, func(report) { t.Error("a report") }, func(e error) { bad = append(bad, e) })
	if len(bad) < 2 || !strings.Contains(bad[0].Error(), "longer than") {
		t.Errorf("%v", bad)
	}
}

func FuzzReadReports(f *testing.F) {
	f.Add([]byte(frame(7, false, encode(`{"kind":"facts","routes":[{"rule":"/","methods":["GET"]}]}`))))
	f.Add([]byte("1 + QQ==\n1 . \n\n9 . !\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		readReports(bytes.NewReader(b), func(r report) { _ = r.facts() }, func(e error) {
			if e == nil {
				t.Error("nil error")
			}
		})
	})
}

func TestOutput(t *testing.T) {
	in := "one\r\ntwo \x1b[2Jgone\x00 \u202e\xff\n" + strings.Repeat("y", 3*maxLine) + "\nlast"
	var got []string
	readLines(strings.NewReader(in), func(s string) { got = append(got, s) })
	if len(got) != 4 || got[0] != "one" || got[1] != "two \ufffd[2Jgone\ufffd \ufffd\ufffd" || len(got[2]) > maxLine+8 || got[3] != "last" {
		t.Errorf("%q", got)
	}
	var tl tail
	for i := range tailLines + 50 {
		tl.add(fmt.Sprint(i))
	}
	if s := tl.text(2); s != "248\n249" {
		t.Errorf("%q", s)
	}
	if n := strings.Count(tl.text(1000), "\n"); n != tailLines-1 {
		t.Errorf("%d lines", n)
	}
}
