// Package crssuite reads the Core Rule Set's own regression tests, which the
// coraza-coreruleset module carries, as requests to judge. Only tests use it.
package crssuite

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"text/template"

	"github.com/corazawaf/coraza-coreruleset/v4/tests"
	"go.yaml.in/yaml/v3"
)

// Case is one stage of a test: a request, and what it must do.
type Case struct {
	// Name is "932100-3", with "/2" behind it for the second stage.
	Name string
	// Raw is the request as it goes over the wire. Request is what net/http
	// reads from it, with its body in Body; nil if net/http refuses it.
	Raw     []byte
	Request *http.Request
	Body    []byte
	// Response is the body of the response, for tests of responses.
	Response string
	// Expect are rules that must match, NoExpect those that must not. Status
	// is the answer that the test expects instead, 0 for any.
	Expect, NoExpect []int
	Status           int
}

// Passed reports whether the rules that matched are those that c expects.
func (c *Case) Passed(ids []int) bool {
	for _, id := range c.Expect {
		if !slices.Contains(ids, id) {
			return false
		}
	}
	for _, id := range c.NoExpect {
		if slices.Contains(ids, id) {
			return false
		}
	}
	return true
}

type file struct {
	RuleID int `yaml:"rule_id"`
	Tests  []struct {
		ID     int `yaml:"test_id"`
		Stages []struct {
			Input  input `yaml:"input"`
			Output struct {
				Status int `yaml:"status"`
				Log    struct {
					Expect   []int `yaml:"expect_ids"`
					NoExpect []int `yaml:"no_expect_ids"`
				} `yaml:"log"`
			} `yaml:"output"`
		} `yaml:"stages"`
	} `yaml:"tests"`
}

type input struct {
	Method         *string   `yaml:"method"`
	URI            *string   `yaml:"uri"`
	Version        *string   `yaml:"version"`
	Headers        yaml.Node `yaml:"headers"`
	OrderedHeaders []struct {
		Name  string `yaml:"name"`
		Value string `yaml:"value"`
	} `yaml:"ordered_headers"`
	Data           *string `yaml:"data"`
	EncodedData    *string `yaml:"encoded_data"`
	EncodedRequest string  `yaml:"encoded_request"`
	Autocomplete   *bool   `yaml:"autocomplete_headers"`
}

// Load reads all tests.
func Load() ([]Case, error) {
	var out []Case
	err := fs.WalkDir(tests.FS, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".yaml") {
			return err
		}
		data, err := fs.ReadFile(tests.FS, path)
		if err != nil {
			return err
		}
		var f file
		if err := yaml.Unmarshal(data, &f); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		for _, t := range f.Tests {
			for i, s := range t.Stages {
				c := Case{Name: fmt.Sprintf("%d-%d", f.RuleID, t.ID), Expect: s.Output.Log.Expect, NoExpect: s.Output.Log.NoExpect, Status: s.Output.Status}
				if i > 0 {
					c.Name += "/" + strconv.Itoa(i+1)
				}
				if c.Raw, err = s.Input.raw(); err != nil {
					return fmt.Errorf("%s: %w", c.Name, err)
				}
				c.read()
				out = append(out, c)
			}
		}
		return nil
	})
	if err == nil && len(out) == 0 {
		err = errors.New("crssuite: there are no tests")
	}
	return out, err
}

// read has net/http parse c.Raw.
func (c *Case) read() {
	r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(c.Raw)))
	if err != nil {
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		return
	}
	r.Body = nil
	r.RemoteAddr = "127.0.0.1:40000"
	c.Request, c.Body = r, body
	if r.URL.Path == "/reflect" {
		// The tests' server answers what the request says.
		var answer struct {
			Body        string `json:"body"`
			EncodedBody string `json:"encodedBody"`
		}
		if json.Unmarshal(body, &answer) == nil {
			c.Response = answer.Body
			if b, err := base64.StdEncoding.DecodeString(answer.EncodedBody); err == nil && len(b) > 0 {
				c.Response = string(b)
			}
		}
	}
}

func or[T any](p *T, v T) T {
	if p == nil {
		return v
	}
	return *p
}

var bodyMethod = regexp.MustCompile(`^(?:POST|PUT|PATCH)$`)

// raw writes a request as the suite's own runner does: a Content-Type and
// Content-Length where they are missing, forms escaped if they are not, and
// multipart lines ended in CRLF.
func (in *input) raw() ([]byte, error) {
	if in.EncodedRequest != "" {
		return base64.StdEncoding.DecodeString(strings.ReplaceAll(in.EncodedRequest, "\n", ""))
	}
	type header struct{ name, value string }
	var headers []header
	for i := 0; i+1 < len(in.Headers.Content); i += 2 {
		headers = append(headers, header{in.Headers.Content[i].Value, in.Headers.Content[i+1].Value})
	}
	for _, h := range in.OrderedHeaders {
		headers = append(headers, header{h.Name, h.Value})
	}
	value := func(name string) (string, bool) {
		for _, h := range headers {
			if strings.EqualFold(h.name, name) {
				return h.value, true
			}
		}
		return "", false
	}
	var data []byte
	switch {
	case in.Data != nil:
		t, err := template.New("").Funcs(template.FuncMap{"repeat": func(n int, s string) string { return strings.Repeat(s, n) }}).Parse(*in.Data)
		var b bytes.Buffer
		if err == nil {
			err = t.Execute(&b, nil)
		}
		if err == nil {
			data = b.Bytes()
		}
	case in.EncodedData != nil:
		var err error
		if data, err = base64.StdEncoding.DecodeString(*in.EncodedData); err != nil {
			return nil, err
		}
	}
	complete := or(in.Autocomplete, true)
	if len(data) > 0 && complete {
		if _, ok := value("Content-Type"); !ok {
			headers = append(headers, header{"Content-Type", "application/x-www-form-urlencoded"})
		}
		if v, _ := value("Content-Type"); v == "application/x-www-form-urlencoded" {
			data = escapeForm(data)
		}
	}
	if v, _ := value("Content-Type"); strings.Contains(v, "multipart/form-data;") {
		data = bytes.ReplaceAll(data, []byte("\n"), []byte("\r\n"))
	}
	method := or(in.Method, "GET")
	if complete {
		if _, ok := value("Connection"); !ok {
			headers = append(headers, header{"Connection", "close"})
		}
		if _, ok := value("Content-Length"); !ok && (len(data) > 0 || bodyMethod.MatchString(method)) {
			headers = append(headers, header{"Content-Length", strconv.Itoa(len(data))})
		}
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %s %s\r\n", method, or(in.URI, "/"), or(in.Version, "HTTP/1.1"))
	for _, h := range headers {
		fmt.Fprintf(&b, "%s: %s\r\n", h.name, h.value)
	}
	b.WriteString("\r\n")
	b.Write(data)
	return b.Bytes(), nil
}

// escapeForm escapes a form that holds no escapes.
func escapeForm(data []byte) []byte {
	if s, err := url.QueryUnescape(string(data)); err != nil || s != string(data) {
		return data
	}
	var pairs []string
	for pair := range strings.SplitSeq(string(data), "&") {
		key, value, ok := strings.Cut(pair, "=")
		pair = url.QueryEscape(key)
		if ok {
			pair += "=" + url.QueryEscape(value)
		}
		pairs = append(pairs, pair)
	}
	return []byte(strings.Join(pairs, "&"))
}
