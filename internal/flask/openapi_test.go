package flask

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestParseOpenAPI(t *testing.T) {
	ignore := cmpopts.IgnoreUnexported(Operation{})
	for name, c := range map[string]struct {
		doc  string
		want []*Operation
	}{
		"three": {`
openapi: 3.0.1
servers:
  - url: https://boxes.example/v1/
paths:
  /boxes/{box-id}:
    parameters:
      - {name: box-id, in: path, schema: {type: integer}}
    get:
      operationId: boxes.views.show
      parameters:
        - {name: with-lid, in: query}
        - {name: X-Trace, in: header}
    put:
      x-openapi-router-controller: boxes.views
      operationId: change
      requestBody:
        content: {application/json: {schema: {type: object}}}
    delete:
      summary: nobody answers
`, []*Operation{
			{Rule: "/v1/boxes/<int:box_id>", Methods: []string{"GET"}, Function: "boxes.views.show", Handed: map[string]string{"with_lid": "query", "X_Trace": "header"}},
			{Rule: "/v1/boxes/<int:box_id>", Methods: []string{"PUT"}, Function: "boxes.views.change", Handed: map[string]string{"body": "json"}},
		}},
		"two": {`{"swagger": "2.0", "basePath": "/api", "paths": {"/files/{name}": {"post": {"operationId": "put", "x-swagger-router-controller": "files",
			"parameters": [{"name": "name", "in": "path", "type": "string", "format": "x"}, {"name": "content", "in": "body"}, {"name": "note", "in": "formData"}]}}}}`,
			[]*Operation{{Rule: "/api/files/<name>", Methods: []string{"POST"}, Function: "files.put", Handed: map[string]string{"content": "json", "note": "form"}}}},
		"other": {"paths: {/x: {get: {operationId: a.b}}}", nil},
	} {
		got, err := ParseOpenAPI([]byte(c.doc))
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if d := cmp.Diff(c.want, got, ignore); d != "" {
			t.Errorf("%s: %s", name, d)
		}
	}
	if _, err := ParseOpenAPI([]byte("openapi: [")); err == nil {
		t.Error("a broken document is understood")
	}
}

func FuzzParseOpenAPI(f *testing.F) {
	f.Add([]byte("openapi: 3.0.0\nservers: [{url: /v1}]\npaths: {'/a/{b}': {get: {operationId: c.d, parameters: [{name: b, in: path}]}}}"))
	f.Add([]byte(`{"swagger":"2.0","paths":{"/{":{"get":{"operationId":"x"}}}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		ops, _ := ParseOpenAPI(data)
		for _, o := range ops {
			if len(o.Methods) != 1 || o.Function == "" && !strings.Contains(string(data), "-controller") {
				t.Errorf("%+v", o)
			}
		}
	})
}
