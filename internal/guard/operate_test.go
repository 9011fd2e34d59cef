package guard

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/dewar-security/dewar/internal/event"
	"github.com/dewar-security/dewar/internal/policy"
)

// operated is a layer with commands.
type operated struct {
	layerFunc
	command string
	args    map[string]string
}

func (l *operated) Operate(_ context.Context, command string, args map[string]string) (any, error) {
	l.command, l.args = command, args
	return "done", nil
}

func TestOperate(t *testing.T) {
	on := &operated{}
	spec := func(name, command string) *Spec {
		return &Spec{Name: name, Control: "abuse", Commands: []Command{{Name: command, Args: []Arg{{Name: "address", Does: "which one"}, {Name: "for", Optional: true}}}}}
	}
	c := newChain(t, Options{Layers: []Bound{
		{Spec: spec("bans", "ban add"), Layer: on},
		{Spec: spec("absent", "quarantine list"), Layer: layerFunc{}, Mode: Off},
	}})
	for _, k := range []struct {
		name, command string
		args          map[string]string
		err           string
	}{
		{"whole", "ban add", map[string]string{"address": "203.0.113.9", "for": "1h"}, ""},
		{"without what is optional", "ban add", map[string]string{"address": "203.0.113.9"}, ""},
		{"missing", "ban add", map[string]string{"for": "1h"}, "address is missing: which one"},
		{"empty", "ban add", map[string]string{"address": ""}, "address is missing"},
		{"too many", "ban add", map[string]string{"address": "x", "colour": "red"}, `no argument "colour"`},
		{"layer is off", "quarantine list", map[string]string{"address": "x"}, "layer absent is off"},
		{"unknown", "ban", nil, "no such command"},
	} {
		on.command = ""
		v, err := c.Operate(t.Context(), k.command, k.args)
		switch {
		case k.err == "":
			if err != nil || v != "done" || on.command != k.command || !maps.Equal(on.args, k.args) {
				t.Errorf("%s: %v, %v; the layer got %q %v", k.name, v, err, on.command, on.args)
			}
		case err == nil || !strings.Contains(err.Error(), k.err) || on.command != "":
			t.Errorf("%s: %v, want %q; the layer got %q", k.name, err, k.err, on.command)
		case errors.Is(err, ErrNoCommand) != (k.name == "unknown"):
			t.Errorf("%s: %v", k.name, err)
		}
	}
}

// TestNotes: what a layer notes is an event and a number, and ends nothing,
// whatever the mode; a refusal of the same layer stands beside it.
func TestNotes(t *testing.T) {
	j := &journal{}
	note := func(x *Exchange) Decision {
		x.Note(Note{Event: "authn_login_success", Detail: "one"})
		x.Note(Note{Event: "session_renewed", Severity: event.High, Reason: "rotated"})
		if x.Path == "/refused" {
			return Refuse(403, "no", "")
		}
		return Pass()
	}
	after := onResponse("after", Observe, func(x *Exchange, _ *http.Response) Decision {
		x.Note(Note{Event: "session_expired"})
		return Pass()
	})
	c := newChain(t, Options{Layers: []Bound{onRequest("first", Enforce, note), after}, Publish: j.publish})
	rec := httptest.NewRecorder()
	c.ServeHTTP(rec, httptest.NewRequest("GET", "/", nil))
	if rec.Code != 200 || rec.Body.String() != "hello" {
		t.Fatalf("%d %s", rec.Code, rec.Body)
	}
	ev := j.wait(t, 3)
	for i, want := range []event.Event{
		{Name: "authn_login_success", Severity: event.Info, Layer: "first", Detail: "one"},
		{Name: "session_renewed", Severity: event.High, Layer: "first", Reason: "rotated"},
		{Name: "session_expired", Severity: event.Info, Layer: "after"},
	} {
		if e := ev[i]; e.Name != want.Name || e.Severity != want.Severity || e.Layer != want.Layer || e.Detail != want.Detail || e.Reason != want.Reason || e.Verdict != "note" {
			t.Errorf("event %d: %+v, want %+v", i, e, want)
		}
	}
	if len(ev) != 3 {
		t.Errorf("%d events", len(ev))
	}

	j.events = nil
	rec = httptest.NewRecorder()
	c.ServeHTTP(rec, httptest.NewRequest("GET", "/refused", nil))
	if rec.Code != 403 {
		t.Fatalf("%d", rec.Code)
	}
	// The page of our own passes the responders, too.
	if ev = j.wait(t, 4); ev[2].Verdict != "deny" || ev[0].Verdict != "note" {
		t.Errorf("%+v", ev)
	}
}

// TestMatchIsRemembered: as long as what was asked for is the same.
func TestMatchIsRemembered(t *testing.T) {
	p, err := policy.Decode(strings.NewReader(`{"version": 1, "routes": [{"rule": "/a", "methods": ["GET"], "answers": ["GET"]}, {"rule": "/b", "methods": ["GET"], "answers": ["GET"]}]}`))
	if err != nil {
		t.Fatal(err)
	}
	x := &Exchange{Request: httptest.NewRequest("GET", "/a", nil), Path: "/a"}
	if m := x.Match(nil); m.Certain() || m.Path {
		t.Error("no policy is certain of something")
	}
	if m := x.Match(p); len(m.Routes) != 1 || m.Routes[0].Rule != "/a" {
		t.Errorf("%+v", m)
	}
	if n := testing.AllocsPerRun(100, func() { x.Match(p) }); n != 0 {
		t.Errorf("%v allocations to remember", n)
	}
	x.Path = "/b"
	if m := x.Match(p); len(m.Routes) != 1 || m.Routes[0].Rule != "/b" {
		t.Errorf("another path: %+v", m)
	}
	x.Request.Method = "POST"
	if m := x.Match(p); len(m.Routes) != 0 {
		t.Errorf("another method: %+v", m)
	}
}
