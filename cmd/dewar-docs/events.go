package main

import (
	"fmt"
	"reflect"
	"strings"

	"github.com/dewar-security/dewar/internal/event"
)

// events writes the page and the schema of the security log.
func events(out map[string][]byte) error {
	b := page("Security events", "One JSON object per line. Field names follow the OpenTelemetry semantic conventions where these are stable; `event.name` follows the OWASP Logging Vocabulary. Secrets and personal data are taken out before anything is written. [events.schema.json](events.schema.json) is the same as a JSON schema.")
	b.WriteString("\n## Fields\n\n| field | meaning |\n|---|---|\n")
	t := reflect.TypeFor[event.Event]()
	for i := range t.NumField() {
		name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		fmt.Fprintf(b, "| `%s` | %s |\n", name, cell(t.Field(i).Tag.Get("jsonschema_description")))
	}
	b.WriteString("\n## Names\n\n| event.name | written when | severity |\n|---|---|---|\n")
	for _, n := range event.Names {
		fmt.Fprintf(b, "| `%s` | %s | %s |\n", n.Name, cell(n.Means), n.Level)
	}
	out["events.md"] = b.Bytes()
	var err error
	out["events.schema.json"], err = event.Schema()
	return err
}
