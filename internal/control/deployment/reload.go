package deployment

import (
	"reflect"

	"github.com/dewar-security/dewar/internal/guard"
)

// Effect says what it takes for a changed setting to be in force. It stands
// in the tag "reload"; a setting without it is in force with the next request
// after a reload.
type Effect string

// The effects.
const (
	// ByRestart settings hold until the guard is started again.
	ByRestart Effect = "restart"
	// ByNewApp settings start a second gunicorn that takes over from the first.
	ByNewApp Effect = "app"
	// ByNewConnection settings hold for connections that are opened later.
	ByNewConnection Effect = "connection"
)

// Describe says it for the reference page.
func (e Effect) Describe() string {
	switch e {
	case ByRestart:
		return "Needs a restart."
	case ByNewApp:
		return "A reload starts gunicorn anew, beside the old one until its requests have ended."
	case ByNewConnection:
		return "After a reload in force for new connections."
	}
	return ""
}

// Differs returns the settings with the effect e whose values differ between
// c and old, by their names in the section.
func (c Config) Differs(old Config, e Effect) []string {
	return differs(reflect.ValueOf(c), reflect.ValueOf(old), e, "")
}

func differs(a, b reflect.Value, e Effect, prefix string) []string {
	var out []string
	for i := range a.NumField() {
		f := a.Type().Field(i)
		key := prefix + f.Tag.Get("toml")
		switch {
		case f.Type.Kind() == reflect.Struct:
			out = append(out, differs(a.Field(i), b.Field(i), e, key+".")...)
		case Effect(f.Tag.Get("reload")) == e && !same(a.Field(i), b.Field(i)):
			out = append(out, key)
		}
	}
	return out
}

// same is reflect.DeepEqual with an empty list equal to none.
func same(a, b reflect.Value) bool {
	if a.Kind() == reflect.Slice && a.Len() == 0 && b.Len() == 0 {
		return true
	}
	return reflect.DeepEqual(a.Interface(), b.Interface())
}

var services = []*guard.Service{{
	Name:    "reload",
	Control: "deployment",
	Does:    "reads settings, certificates, rule files and the app's code again without dropping a request, and keeps what was in force when the new cannot be used",
	Why:     "A rule that waits for the next restart protects nobody, and a site that is down for a typing mistake in its settings is an outage made by its own guard.",
	Fix:     "Mend what the message names, with file, line and key; dewar reload tries again. What only a restart changes is listed there, too.",
}, {
	Name:    "tls",
	Control: "deployment",
	Does:    "ends TLS 1.2 and 1.3 with forward secrecy and post-quantum key exchange, and keeps the certificate valid",
	Why:     "In clear text, with a broken cipher or with an expired certificate everybody on the way reads and changes what visitors and app say.",
	Fix:     "deployment.tls says where the certificate comes from; what the message names is what the authority or the file wants.",
}}
