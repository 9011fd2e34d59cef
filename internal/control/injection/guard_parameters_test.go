package injection

import (
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/pelletier/go-toml/v2"

	"github.com/dewar-security/dewar/internal/guard"
	"github.com/dewar-security/dewar/internal/policy"
	"github.com/dewar-security/dewar/internal/store"
)

const typedMap = `{"version":1,"routes":[
	{"rule":"/find","methods":["GET"],"answers":["GET","HEAD"],"endpoint":"find","fields":[{"in":"query","name":"page","type":"int"},{"in":"query","name":"q"},{"in":"query","name":"tag","type":"list"},{"in":"query","name":"on","type":"bool"}]},
	{"rule":"/put","methods":["POST"],"answers":["POST"],"endpoint":"put","reads_body":true,"csrf":"checked","fields":[{"in":"form","name":"n","type":"int"},{"in":"form","name":"price","type":"float"},{"in":"form","name":"id","type":"UUID"},{"in":"form","name":"text"},{"in":"json","name":"n","type":"int"}]},
	{"rule":"/any","methods":["POST"],"answers":["POST"],"endpoint":"any","other_fields":true,"fields":[{"in":"form","name":"n","type":"int"}]},
	{"rule":"/own/<int:id>","methods":["POST"],"answers":["POST"],"endpoint":"own","reads_body":true,"fields":[{"in":"form","name":"n","type":"int"}]}]}`

func parametersLayer(t testing.TB, cfg Config, s store.Store) *Parameters {
	t.Helper()
	p, err := policy.Decode(strings.NewReader(typedMap))
	if err != nil {
		t.Fatal(err)
	}
	l, err := NewParameters(cfg, guard.Env{Policy: func() *policy.Policy { return p }, Store: s, Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	return l.(*Parameters)
}

func TestParameters(t *testing.T) {
	l := parametersLayer(t, Config{Fields: []FieldRule{
		{Route: "/own/<int:id>", In: "form", Name: "n", MaxLength: 4, Repeated: true, Reason: "x"}, {Route: "/own/<int:id>", In: "form", Name: "extra", Type: "int", Reason: "x"}, {Route: "/own/<int:id>", In: "file", Name: "f", Reason: "x"},
	}}, nil)
	part := func(disposition, value string) string {
		return "--x\r\nContent-Disposition: form-data; " + disposition + "\r\n\r\n" + value + "\r\n--x--\r\n"
	}
	const multi, js = "multipart/form-data; boundary=x", "application/json"
	for _, c := range []struct{ method, target, kind, body, want string }{
		{"GET", "/find?page=2&q=x", "", "", ""}, {"GET", "/find?page=+3_0%20", "", "", ""}, {"GET", "/find?page=%D9%A3", "", "", ""}, {"GET", "/find?page=", "", "", ""}, {"GET", "/find?page=two", "", "", "parameter-type"}, {"GET", "/find?page=1_", "", "", "parameter-type"}, {"GET", "/find?page=1'", "", "", "parameter-type"},
		{"GET", "/find?q=a&q=b", "", "", "parameter-repeated"}, {"GET", "/find?tag=a&tag=b", "", "", ""}, {"GET", "/find?on=0&on=1", "", "", ""}, {"GET", "/find?utm_source=x&utm_source=y&fbclid=1", "", "", ""}, {"HEAD", "/find?page=x", "", "", "parameter-type"},
		{"POST", "/put", form, "n=1&price=1.5&id=c0ffee00-1234-4abc-8def-0123456789ab&csrf_token=x", ""}, {"POST", "/put", form, "price=1,50", ""}, {"POST", "/put", form, "price=-.5e-3", ""}, {"POST", "/put", form, "price=x", "parameter-type"}, {"POST", "/put", form, "id=7", "parameter-type"}, {"POST", "/put", form, "admin=1", "parameter-unknown"}, {"POST", "/put", form, "n=1&_dewar_csrf=x", ""},
		{"POST", "/put", js, `{"n":1}`, ""}, {"POST", "/put", js, `{"n":"7"}`, ""}, {"POST", "/put", js, `{"n":null}`, ""}, {"POST", "/put", js, `{"n":{"$gt":0}}`, ""}, {"POST", "/put", js, `{"n":"x"}`, "parameter-type"}, {"POST", "/put", js, `{"role":1}`, "parameter-unknown"}, {"POST", "/put", js, `{"n":`, "parameter-unreadable"},
		{"POST", "/put", multi, part(`name="f"; filename="x.png"`, "x"), "parameter-file"}, {"POST", "/put", multi, part(`name="f"; filename=""`, ""), ""}, {"POST", "/any", form, "n=x&m=1", ""}, {"POST", "/none", form, "n=x", ""},
		{"POST", "/own/7", form, "n=1&n=2&extra=7", ""}, {"POST", "/own/7", form, "n=12345", "parameter-length"}, {"POST", "/own/7", form, "extra=x", "parameter-type"}, {"POST", "/own/7", multi, part(`name="f"; filename="x.png"`, "x"), ""},
	} {
		d := l.Request(exchange(c.method, c.target, c.kind, c.body))
		if d.Reason != c.want {
			t.Errorf("%+v: %+v", c, d)
		}
	}
	x := exchange("GET", "/find?page=x", "", "")
	x.Request.Header.Set("X-Http-Method-Override", "POST")
	if d := l.Request(x); d.Verdict != guard.Allow {
		t.Errorf("with another method: %+v", d)
	}
	for _, f := range []FieldRule{{}, {Route: "x", In: "form", Name: "a", Reason: "x"}, {Route: "/", In: "body", Name: "a", Reason: "x"}, {Route: "/", In: "form", Reason: "x"}, {Route: "/", In: "form", Name: "a", Type: "email", Reason: "x"}, {Route: "/", In: "form", Name: "a", MaxLength: -1, Reason: "x"}, {Route: "/", In: "form", Name: "a"}} {
		if (&Config{Fields: []FieldRule{f}}).Problems() == nil {
			t.Errorf("%+v is taken", f)
		}
	}
}

// Traffic that the app took and that the source does not show is proposed, in
// settings that can be read back and that then let it pass.
func TestLearning(t *testing.T) {
	s := store.NewMemory(store.MemoryOptions{})
	defer s.Close()
	l := parametersLayer(t, Config{Learn: true}, s)
	visit := func(l *Parameters, client int, method, target, body string, status int, decisions ...guard.Decision) {
		x := exchange(method, target, form, body)
		x.Client.Addr = netip.MustParseAddr(fmt.Sprintf("192.0.2.%d", client))
		if d := l.Request(x); d.Verdict != guard.Allow {
			d.Verdict, d.Layer = guard.Observed, parametersSpec.Name
			x.Decisions = append(x.Decisions, d)
		}
		x.Decisions = append(x.Decisions, decisions...)
		l.Response(x, &http.Response{StatusCode: status})
	}
	odd := "odd\"\\\n\x01\u202ename"
	for i := range 8 {
		visit(l, i, "POST", "/put", "n=1&note=hello&"+"text=a&text=bb", 302)
		visit(l, i, "POST", "/put", "amount=7&"+strings.NewReplacer("\"", "%22", "\\", "%5C", "\n", "%0A", "\x01", "%01", "\u202e", "%E2%80%AE").Replace(odd)+"=x", 200)
	}
	visit(l, 1, "POST", "/put", "rare=1", 200)
	visit(l, 1, "POST", "/put", "failed=1", 400)
	visit(l, 1, "POST", "/put", "attack=1", 200, guard.Decision{Layer: "waf", Verdict: guard.Observed})
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	// A reload, or another start: what was learnt is there.
	l = parametersLayer(t, Config{Learn: true}, s)
	answer, err := l.Operate(t.Context(), "policy propose", map[string]string{"lengths": "yes"})
	if err != nil {
		t.Fatal(err)
	}
	var out struct {
		Injection struct{ Field []FieldRule }
	}
	if err := toml.Unmarshal([]byte(answer.(string)), &out); err != nil {
		t.Fatalf("%v in\n%s", err, answer)
	}
	got := map[string]FieldRule{}
	for _, f := range out.Injection.Field {
		got[f.Name] = f
	}
	if f := got["note"]; f.Route != "/put" || f.In != "form" || f.Type != "" || f.MaxLength != 64 || !strings.Contains(f.Reason, "8 requests of about ") {
		t.Errorf("note: %+v", f)
	}
	if f := got["amount"]; f.Type != "int" {
		t.Errorf("amount: %+v", f)
	}
	if f := got["text"]; !f.Repeated {
		t.Errorf("text: %+v", f)
	}
	if _, ok := got[odd]; !ok {
		t.Errorf("a name with odd characters is not among %v", got)
	}
	for _, name := range []string{"rare", "failed", "attack"} {
		if _, ok := got[name]; ok {
			t.Errorf("%s is proposed", name)
		}
	}
	if strings.Contains(answer.(string), "hello") {
		t.Error("a value was kept")
	}
	rows, err := l.Operate(t.Context(), "policy report", nil)
	if err != nil || len(rows.([]reported)) != 5 {
		t.Errorf("report: %+v %v", rows, err)
	}
	strict := parametersLayer(t, Config{Fields: out.Injection.Field}, nil)
	if d := strict.Request(exchange("POST", "/put", form, "n=1&note=hello&text=a&text=b&amount=3")); d.Verdict != guard.Allow {
		t.Errorf("with what was proposed: %+v", d)
	}
	if d := strict.Request(exchange("POST", "/put", form, "amount=x")); d.Reason != "parameter-type" {
		t.Errorf("with what was proposed: %+v", d)
	}
	if _, err := l.Operate(t.Context(), "policy forget", nil); err != nil {
		t.Fatal(err)
	}
	if rows, _ := l.Operate(t.Context(), "policy report", map[string]string{"all": "yes"}); len(rows.([]reported)) != 0 {
		t.Errorf("forgotten, and there is %+v", rows)
	}
	if _, err := parametersLayer(t, Config{}, s).Operate(t.Context(), "policy report", nil); err == nil {
		t.Error("nothing is learnt, and it reports")
	}
}

// What a hostile client invents is bounded.
func TestLearningIsBounded(t *testing.T) {
	l := parametersLayer(t, Config{Learn: true}, nil)
	for i := range 3 * maxLearnt {
		l.learnt.note("/put", "POST", netip.MustParseAddr("192.0.2.1"), guard.Fields{{In: policy.Form, Name: fmt.Sprint("name", i), Value: "x"}})
	}
	if n := len(l.learnt.fields); n > maxLearnt || l.learnt.dropped == 0 {
		t.Errorf("%d fields are kept", n)
	}
	l.learnt.note("/put", "POST", netip.Addr{}, guard.Fields{{In: policy.Form, Name: strings.Repeat("x", 1000)}})
	answer, err := l.Operate(t.Context(), "policy propose", nil)
	if err != nil || strings.Contains(answer.(string), "[[") {
		t.Errorf("what one client sent is proposed: %v", err)
	}
}

func BenchmarkParameters(b *testing.B) {
	l := parametersLayer(b, Config{}, nil)
	x := exchange("GET", "/find?page=2&q=blue+chair", "", "")
	b.ReportAllocs()
	for b.Loop() {
		l.Request(x)
	}
}
