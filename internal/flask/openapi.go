package flask

import (
	"bytes"
	"path"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Operation is what an OpenAPI document (or one of Swagger 2.0) says of one
// method of one path: the function that answers it and what it is called
// with, as Connexion does.
type Operation struct {
	Rule    string   // as a URL rule, with the path of the server before it
	Methods []string // upper case, sorted
	// Function is the dotted name of the view.
	Function string
	// Handed are the parameters of the function that do not come from the
	// rule, each with where it is read from: query, header, cookie, form, json.
	Handed map[string]string

	document string
	fn       *scope
}

// FunctionAt returns the file and the offset in bytes of the definition of
// the function; ok is false if the project has none of the name.
func (o *Operation) FunctionAt() (file string, start uint32, ok bool) {
	if o.fn == nil {
		return "", 0, false
	}
	return o.fn.unit.path, o.fn.start, true
}

// maxDocument bounds the size of a document in bytes that is read.
const maxDocument = 4 << 20

// IsOpenAPI reports whether a file looks like a document that names the
// functions for its operations.
func IsOpenAPI(name string, data []byte) bool {
	switch path.Ext(name) {
	case ".yml", ".yaml", ".json":
	default:
		return false
	}
	return len(data) <= maxDocument && bytes.Contains(data, []byte("paths")) && (bytes.Contains(data, []byte("operationId")) || bytes.Contains(data, []byte("-controller")))
}

type openAPI struct {
	OpenAPI  string                          `yaml:"openapi"`
	Swagger  string                          `yaml:"swagger"`
	BasePath string                          `yaml:"basePath"`
	Servers  []struct{ URL string }          `yaml:"servers"`
	Paths    map[string]map[string]yaml.Node `yaml:"paths"`
}

type openAPIOperation struct {
	ID          string             `yaml:"operationId"`
	Router      string             `yaml:"x-openapi-router-controller"`
	Old         string             `yaml:"x-swagger-router-controller"`
	Parameters  []openAPIParameter `yaml:"parameters"`
	RequestBody *struct {
		Name    string               `yaml:"x-body-name"`
		Content map[string]yaml.Node `yaml:"content"`
	} `yaml:"requestBody"`
}

type openAPIParameter struct {
	Name   string `yaml:"name"`
	In     string `yaml:"in"`
	Type   string `yaml:"type"`
	Schema struct {
		Type   string `yaml:"type"`
		Format string `yaml:"format"`
	} `yaml:"schema"`
}

// ParseOpenAPI reads the operations of a document that name a function. They
// are in the order of their paths; the error is that of the YAML.
func ParseOpenAPI(data []byte) ([]*Operation, error) {
	var doc openAPI
	if err := yaml.Unmarshal(data, &doc); err != nil {
		return nil, err
	}
	if doc.OpenAPI == "" && doc.Swagger == "" {
		return nil, nil
	}
	base := doc.BasePath
	if len(doc.Servers) > 0 {
		base = doc.Servers[0].URL
		if _, rest, ok := strings.Cut(base, "://"); ok { // only its path counts
			_, base, _ = strings.Cut(rest, "/")
		}
	}
	if base = strings.Trim(base, "/"); base != "" {
		base = "/" + base
	}
	if strings.ContainsAny(base, "{}<>") {
		base = ""
	}
	var out []*Operation
	for rule, methods := range doc.Paths {
		var shared []openAPIParameter
		if n, ok := methods["parameters"]; ok {
			_ = n.Decode(&shared) // what is no list names no parameter
		}
		for method, n := range methods {
			if !slices.Contains(httpMethods[:], strings.ToLower(method)) {
				continue
			}
			var op openAPIOperation
			if n.Decode(&op) != nil || op.ID == "" && op.Router == "" && op.Old == "" {
				continue
			}
			o := &Operation{Methods: []string{strings.ToUpper(method)}, Handed: map[string]string{}, Function: op.ID}
			if router := op.Router + op.Old; router != "" && (op.Router == "" || op.Old == "") {
				o.Function = strings.Trim(router+"."+op.ID, ".")
			}
			types := map[string]string{}
			for _, p := range slices.Concat(shared, op.Parameters) {
				switch p.In {
				case "path":
					types[p.Name] = p.Type + p.Schema.Type
					if p.Schema.Format == "path" || p.Schema.Format == "uuid" {
						types[p.Name] = p.Schema.Format
					}
				case "query", "header", "cookie":
					o.Handed[python(p.Name)] = p.In
				case "formData":
					o.Handed[python(p.Name)] = "form"
				case "body":
					o.Handed[python(p.Name)] = "json"
				}
			}
			if op.RequestBody != nil {
				name := op.RequestBody.Name
				if name == "" {
					name = "body"
				}
				o.Handed[python(name)] = "json"
			}
			o.Rule = base + flaskRule(rule, types)
			out = append(out, o)
		}
	}
	slices.SortFunc(out, func(x, y *Operation) int {
		return strings.Compare(x.Rule+"\x00"+x.Methods[0], y.Rule+"\x00"+y.Methods[0])
	})
	return out, nil
}

// python makes a name of a parameter one of Python's, as Connexion does.
func python(name string) string {
	return strings.Map(func(r rune) rune {
		if r == '_' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' {
			return r
		}
		return '_'
	}, name)
}

// flaskRule turns /pets/{id} into /pets/<int:id>.
func flaskRule(rule string, types map[string]string) string {
	var b strings.Builder
	for {
		before, rest, ok := strings.Cut(rule, "{")
		b.WriteString(before)
		if !ok {
			return b.String()
		}
		name, after, closed := strings.Cut(rest, "}")
		if !closed {
			return b.String()
		}
		switch types[name] {
		case "integer":
			b.WriteString("<int:")
		case "number":
			b.WriteString("<float:")
		case "path":
			b.WriteString("<path:")
		case "uuid":
			b.WriteString("<uuid:")
		default:
			b.WriteString("<")
		}
		b.WriteString(python(name) + ">")
		rule = after
	}
}

// readOperations finds the functions that documents name.
func (a *analyzer) readOperations(f Source) {
	ops, err := ParseOpenAPI(f.Data)
	if err != nil {
		a.m.Unknown = append(a.m.Unknown, Unknown{Position: Position{File: f.Path, Line: 1}, What: "the API's document is not understood: " + err.Error()})
		return
	}
	for _, o := range ops {
		o.document = f.Path
		a.m.Operations = append(a.m.Operations, o)
	}
}

// operationRoutes adds the routes of operations whose functions there are.
func (a *analyzer) operationRoutes(add func(*obj, *rawRoute)) {
	for _, o := range a.m.Operations {
		if o.fn = a.byQual[o.Function]; o.fn == nil {
			for qual, s := range a.byQual { // in a folder below the project's
				if strings.HasSuffix(qual, "."+o.Function) && (o.fn == nil || qual < o.fn.qual) {
					o.fn = s
				}
			}
		}
		if o.fn == nil {
			a.m.Unknown = append(a.m.Unknown, Unknown{Position: Position{File: o.document, Line: 1}, What: "no function is called " + o.Function + ", which an operation names"})
			continue
		}
		for _, app := range a.appObjs {
			r := &rawRoute{unit: o.fn.unit, id: o.fn.id, rule: o.Rule, methods: o.Methods, endpoint: o.Function, autoOpt: true, fn: o.fn}
			add(app, r)
			break
		}
	}
}
