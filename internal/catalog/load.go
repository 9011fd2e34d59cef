package catalog

import (
	"bytes"
	"encoding"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"sort"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"

	"github.com/dewar-security/dewar/internal/guard"
)

// Origin says where a setting's value in force came from.
type Origin struct {
	// Kind is "default", "profile", "file", "environment" or "flag".
	Kind string `json:"kind"`
	// Where is file:line, the variable's or the flag's name, or the profile.
	Where string `json:"where,omitempty"`
}

// String returns the origin for a person.
func (o Origin) String() string {
	switch o.Kind {
	case "file":
		return o.Where
	case "environment":
		return "$" + o.Where
	case "flag":
		return o.Where
	case "profile":
		return "default of profile " + o.Where
	}
	return "default"
}

// Loaded is the settings in force and where each came from.
type Loaded struct {
	Config *Config
	// File is the settings file that was read, "" when there was none.
	File    string
	origins map[string]Origin
}

// Setting is one line of "dewar config".
type Setting struct {
	Key    string `json:"key"`
	Value  any    `json:"value"`
	Text   string `json:"-"`
	Origin Origin `json:"origin"`
}

// Source says what to read settings from.
type Source struct {
	// Dir is the project's folder. In it dewar.toml is read, or else
	// [tool.dewar] of pyproject.toml.
	Dir string
	// File is read instead of looking in Dir; it must exist.
	File string
	// Environ is the environment, as [os.Environ] gives it.
	Environ []string
	// Flags are settings from the command line: key to value, and the flag
	// to name in messages.
	Flags []Flag
}

// Flag is one setting given on the command line.
type Flag struct {
	Key, Value string
	// Name is what the user typed: "--profile" or "--set csrf.mode".
	Name string
}

// ConfigError is everything that is wrong with the settings, each problem a
// line that names the place, the key and the way out.
type ConfigError struct{ Problems []string }

// Error lists the problems, one per line.
func (e *ConfigError) Error() string { return strings.Join(e.Problems, "\n") }

// otherVariables are the DEWAR_ variables that are not settings.
var otherVariables = []string{"DEWAR_CONFIG", "DEWAR_REQUIRE_REAL", "DEWAR_HANDOVER"}

// Load reads the settings: defaults of the profile, then the file, then the
// file's section for the profile, then the environment, then flags. What is
// wrong anywhere is reported together, as a [*ConfigError].
func Load(src Source) (*Loaded, error) {
	l := &loader{leaves: leavesOf(reflect.TypeFor[Config]()), origins: map[string]Origin{}}
	doc, err := l.readFile(src)
	if err != nil {
		return nil, err
	}
	env := map[string]string{}
	for _, kv := range src.Environ {
		if k, v, ok := strings.Cut(kv, "="); ok && strings.HasPrefix(k, "DEWAR_") {
			env[k] = v
		}
	}

	// The profile first: it decides every default.
	cfg := &Config{}
	profile, origin := guard.Production, Origin{Kind: "default"}
	if doc != nil {
		if line, ok := doc.lines["profile"]; ok {
			profile, origin = doc.base.Profile, Origin{"file", l.at(line)}
		}
	}
	if v, ok := env["DEWAR_PROFILE"]; ok {
		profile, origin = guard.Profile(v), Origin{"environment", "DEWAR_PROFILE"}
	}
	for _, f := range src.Flags {
		if f.Key == "profile" {
			profile, origin = guard.Profile(f.Value), Origin{"flag", f.Name}
		}
	}
	if profile == "" {
		profile = guard.Production
	}
	if !slices.Contains(Profiles, profile) {
		l.problem("%s: profile: %q is no profile%s: write one of production, staging, development", origin, profile, l.near(string(profile), []string{"production", "staging", "development"}))
		return nil, &ConfigError{l.problems}
	}

	root := reflect.ValueOf(cfg).Elem()
	for _, leaf := range l.leaves {
		l.applyDefault(root, leaf, profile)
	}
	if doc != nil {
		l.overlay(root, reflect.ValueOf(&doc.base).Elem(), doc.lines, "")
		if p := doc.profiles[profile]; p != nil {
			l.overlay(root, reflect.ValueOf(p).Elem(), doc.lines, "profiles."+string(profile)+".")
		}
	}
	for _, leaf := range l.leaves {
		if v, ok := env[leaf.env]; ok {
			if err := setText(leaf.value(root), v); err != nil {
				l.problem("$%s: %s: %v", leaf.env, leaf.key, err)
			}
			l.origins[leaf.key] = Origin{"environment", leaf.env}
			delete(env, leaf.env)
		}
	}
	for _, k := range sortedKeys(env) {
		if !slices.Contains(otherVariables, k) {
			var names []string
			for _, leaf := range l.leaves {
				names = append(names, leaf.env)
			}
			l.problem("$%s: no such setting%s", k, l.near(k, names))
		}
	}
	for _, f := range src.Flags {
		leaf, ok := l.leaf(f.Key)
		if !ok {
			l.problem("%s: no such setting %q%s", f.Name, f.Key, l.near(f.Key, l.keys()))
			continue
		}
		if err := setText(leaf.value(root), f.Value); err != nil {
			l.problem("%s: %s: %v", f.Name, f.Key, err)
			continue
		}
		l.origins[f.Key] = Origin{"flag", f.Name}
	}
	cfg.Profile = profile
	l.origins["profile"] = origin
	l.check(root)
	for _, p := range cfg.problems() {
		l.problem("%s: %s: %s", l.originOf(p.Key), p.Key, p.Message)
	}
	if len(l.problems) > 0 {
		return nil, &ConfigError{l.problems}
	}
	return &Loaded{Config: cfg, File: l.file, origins: l.origins}, nil
}

// Settings lists every setting in force with its origin, in the order of the
// sections.
func (l *Loaded) Settings() []Setting {
	root := reflect.ValueOf(l.Config).Elem()
	var out []Setting
	for _, leaf := range leavesOf(root.Type()) {
		v := leaf.value(root)
		out = append(out, Setting{Key: leaf.key, Value: v.Interface(), Text: textOf(v), Origin: l.Origin(leaf.key)})
	}
	return out
}

// Origin returns where the value of key came from.
func (l *Loaded) Origin(key string) Origin {
	if o, ok := l.origins[key]; ok {
		return o
	}
	return Origin{Kind: "default"}
}

// leaf is one setting: a path of struct fields that ends in a value.
type leaf struct {
	key   string // "csrf.trusted-origins"
	env   string // "DEWAR_CSRF_TRUSTED_ORIGINS"
	index []int
	field reflect.StructField
}

func (l leaf) value(root reflect.Value) reflect.Value { return root.FieldByIndex(l.index) }

var textUnmarshaler = reflect.TypeFor[encoding.TextUnmarshaler]()

// leavesOf walks the settings structs. A struct that reads itself from text
// is one value; so are maps, slices and pointers.
func leavesOf(t reflect.Type) []leaf {
	var out []leaf
	var walk func(t reflect.Type, prefix string, index []int)
	walk = func(t reflect.Type, prefix string, index []int) {
		for i := range t.NumField() {
			f := t.Field(i)
			name := f.Tag.Get("toml")
			if name == "" || name == "-" {
				continue
			}
			key, at := prefix+name, append(slices.Clone(index), i)
			if f.Type.Kind() == reflect.Struct && !reflect.PointerTo(f.Type).Implements(textUnmarshaler) {
				walk(f.Type, key+".", at)
				continue
			}
			env := "DEWAR_" + strings.ToUpper(strings.NewReplacer(".", "_", "-", "_").Replace(key))
			out = append(out, leaf{key, env, at, f})
		}
	}
	walk(t, "", nil)
	return out
}

type document struct {
	base     Config
	profiles map[guard.Profile]*Config
	lines    map[string]int // key to line, in the words of the file
}

type loader struct {
	leaves   []leaf
	origins  map[string]Origin
	problems []string
	file     string
}

func (l *loader) problem(format string, args ...any) {
	l.problems = append(l.problems, fmt.Sprintf(format, args...))
}

func (l *loader) at(line int) string { return fmt.Sprintf("%s:%d", l.file, line) }

func (l *loader) keys() []string {
	var keys []string
	for _, leaf := range l.leaves {
		keys = append(keys, leaf.key)
	}
	return keys
}

func (l *loader) leaf(key string) (leaf, bool) {
	i := slices.IndexFunc(l.leaves, func(f leaf) bool { return f.key == key })
	if i < 0 {
		return leaf{}, false
	}
	return l.leaves[i], true
}

func (l *loader) originOf(key string) string {
	if o, ok := l.origins[key]; ok {
		return o.String()
	}
	if l.file != "" {
		return l.file
	}
	return "settings"
}

// readFile finds and reads the settings file. No file at all is fine: zero
// configuration must work.
func (l *loader) readFile(src Source) (*document, error) {
	file, inTool := src.File, false
	if file == "" {
		for _, kv := range src.Environ {
			if v, ok := strings.CutPrefix(kv, "DEWAR_CONFIG="); ok {
				file = v
			}
		}
	}
	var data []byte
	var err error
	if file != "" {
		if data, err = readBounded(file); err != nil {
			return nil, fmt.Errorf("settings: %w", err)
		}
		inTool = filepath.Base(file) == "pyproject.toml"
	} else {
		own, project := filepath.Join(src.Dir, "dewar.toml"), filepath.Join(src.Dir, "pyproject.toml")
		if data, err = readBounded(own); err == nil {
			file = own
		} else if !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("settings: %w", err)
		} else if data, err = readBounded(project); err == nil {
			file, inTool = project, true
		} else if !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("settings: %w", err)
		} else {
			return nil, nil
		}
	}
	l.file = file
	doc, err := l.decode(data, inTool)
	if err != nil {
		return nil, err
	}
	if inTool && doc != nil && len(doc.lines) == 0 {
		l.file = "" // a pyproject.toml without [tool.dewar]
		return nil, nil
	}
	return doc, nil
}

// readBounded reads a settings file, which has no business being large.
func readBounded(name string) ([]byte, error) {
	st, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	const most = 1 << 20
	if !st.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", name)
	}
	if st.Size() > most {
		return nil, fmt.Errorf("%s has %d bytes; a settings file has at most %d", name, st.Size(), most)
	}
	return os.ReadFile(name)
}

type sections struct {
	Config
	Profiles struct {
		Production  *Config `toml:"production"`
		Staging     *Config `toml:"staging"`
		Development *Config `toml:"development"`
	} `toml:"profiles"`
}

func (l *loader) decode(data []byte, inTool bool) (*document, error) {
	var s sections
	var target any = &s
	prefix := ""
	if inTool {
		var py struct {
			Tool struct {
				Dewar *sections `toml:"dewar"`
			} `toml:"tool"`
		}
		py.Tool.Dewar, target, prefix = &s, &py, "tool.dewar."
	}
	dec := toml.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	err := dec.Decode(target)
	var strict *toml.StrictMissingError
	var bad *toml.DecodeError
	switch {
	case errors.As(err, &strict):
		for _, e := range strict.Errors {
			key, ours := strings.CutPrefix(strings.Join(e.Key(), "."), prefix)
			if !ours && inTool {
				continue // other tools' sections are theirs
			}
			line, _ := e.Position()
			l.problem("%s: unknown key %q%s", l.at(line), key, l.near(key, l.fileKeys()))
		}
	case errors.As(err, &bad):
		line, _ := bad.Position()
		key := strings.TrimPrefix(strings.Join(bad.Key(), "."), prefix)
		what := strings.TrimPrefix(bad.Error(), "toml: ")
		if key != "" {
			what = key + ": " + what
		}
		l.problem("%s: %s", l.at(line), what)
	case err != nil:
		l.problem("%s: %v", l.file, err)
	}
	lines, perr := keyLines(data)
	if perr != nil && err == nil {
		l.problem("%s: %v", l.file, perr)
	}
	if len(l.problems) > 0 {
		return nil, &ConfigError{l.problems}
	}
	doc := &document{base: s.Config, lines: map[string]int{}, profiles: map[guard.Profile]*Config{
		guard.Production: s.Profiles.Production, guard.Staging: s.Profiles.Staging, guard.Development: s.Profiles.Development,
	}}
	for k, line := range lines {
		if k, ok := strings.CutPrefix(k, prefix); ok {
			doc.lines[k] = line
		}
	}
	return doc, nil
}

func (l *loader) fileKeys() []string {
	keys := l.keys()
	section := map[string]bool{}
	for _, k := range keys {
		if s, _, ok := strings.Cut(k, "."); ok {
			section[s] = true
		}
	}
	return append(keys, sortedKeys(section)...)
}

// overlay copies what the file sets under prefix onto dst.
func (l *loader) overlay(dst, src reflect.Value, lines map[string]int, prefix string) {
	for _, leaf := range l.leaves {
		line := 0
		for k, n := range lines {
			rest, ok := strings.CutPrefix(k, prefix)
			if ok && (rest == leaf.key || strings.HasPrefix(rest, leaf.key+".")) && (line == 0 || n < line) {
				line = n
			}
		}
		if line > 0 {
			leaf.value(dst).Set(leaf.value(src))
			l.origins[leaf.key] = Origin{"file", l.at(line)}
		}
	}
}

func (l *loader) applyDefault(root reflect.Value, leaf leaf, profile guard.Profile) {
	text, ok := leaf.field.Tag.Lookup("default")
	if profile != guard.Production {
		if own, has := leaf.field.Tag.Lookup(string(profile)); has {
			text, ok = own, true
			l.origins[leaf.key] = Origin{"profile", string(profile)}
		}
	}
	if !ok {
		return
	}
	if err := setText(leaf.value(root), text); err != nil {
		panic(fmt.Sprintf("catalog: the default of %s: %v", leaf.key, err)) // a test makes every default
	}
}

// setText sets v from text, as environment, flags and default tags give it.
// Lists are separated by commas; maps and tables are read as inline TOML.
func setText(v reflect.Value, text string) error {
	if u, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok {
		return u.UnmarshalText([]byte(text))
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(text)
	case reflect.Bool:
		b, err := strconv.ParseBool(text)
		if err != nil {
			return fmt.Errorf("%q is neither true nor false", text)
		}
		v.SetBool(b)
	case reflect.Int, reflect.Int64:
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return fmt.Errorf("%q is not a whole number", text)
		}
		v.SetInt(n)
	case reflect.Float64:
		n, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return fmt.Errorf("%q is not a number", text)
		}
		v.SetFloat(n)
	case reflect.Pointer:
		p := reflect.New(v.Type().Elem())
		if err := setText(p.Elem(), text); err != nil {
			return err
		}
		v.Set(p)
	case reflect.Slice:
		if el := v.Type().Elem(); el.Kind() == reflect.Struct && !reflect.PointerTo(el).Implements(textUnmarshaler) {
			return setTOML(v, text)
		}
		out := reflect.MakeSlice(v.Type(), 0, 4)
		for part := range strings.SplitSeq(text, ",") {
			if part = strings.TrimSpace(part); part == "" {
				continue
			}
			el := reflect.New(v.Type().Elem()).Elem()
			if err := setText(el, part); err != nil {
				return err
			}
			out = reflect.Append(out, el)
		}
		v.Set(out)
	case reflect.Map:
		return setTOML(v, text)
	default:
		return fmt.Errorf("cannot be set from text")
	}
	return nil
}

// setTOML reads a table or a list of tables written as inline TOML.
func setTOML(v reflect.Value, text string) error {
	box := reflect.New(reflect.StructOf([]reflect.StructField{{Name: "V", Type: v.Type(), Tag: `toml:"v"`}}))
	dec := toml.NewDecoder(strings.NewReader("v = " + text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(box.Interface()); err != nil {
		return fmt.Errorf("%q is not an inline TOML value: %v", text, err)
	}
	v.Set(box.Elem().Field(0))
	return nil
}

func textOf(v reflect.Value) string {
	if m, ok := v.Interface().(encoding.TextMarshaler); ok {
		if b, err := m.MarshalText(); err == nil {
			return strconv.Quote(string(b))
		}
	}
	switch v.Kind() {
	case reflect.String:
		return strconv.Quote(v.String())
	case reflect.Pointer:
		if v.IsNil() {
			return ""
		}
		return textOf(v.Elem())
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Struct {
			break
		}
		parts := make([]string, v.Len())
		for i := range parts {
			parts[i] = textOf(v.Index(i))
		}
		return "[" + strings.Join(parts, ", ") + "]"
	case reflect.Bool, reflect.Int, reflect.Int64, reflect.Float64:
		return fmt.Sprint(v.Interface())
	}
	if v.Len() == 0 {
		return "none"
	}
	return fmt.Sprintf("%d entries", v.Len())
}

// check holds every value against the enum, minimum and maximum of its
// jsonschema tag: the schema an editor uses and the loader agree.
func (l *loader) check(root reflect.Value) {
	for _, leaf := range l.leaves {
		var enum []string
		v := leaf.value(root)
		for part := range strings.SplitSeq(leaf.field.Tag.Get("jsonschema"), ",") {
			k, arg, _ := strings.Cut(part, "=")
			switch k {
			case "enum":
				enum = append(enum, arg)
			case "minimum", "maximum":
				n, _ := strconv.ParseInt(arg, 10, 64)
				if v.CanInt() && (k == "minimum" && v.Int() < n || k == "maximum" && v.Int() > n) {
					l.problem("%s: %s: %d is out of range: the %s is %d", l.originOf(leaf.key), leaf.key, v.Int(), k, n)
				}
			}
		}
		if v.Kind() == reflect.String && len(enum) > 0 && !slices.Contains(enum, v.String()) {
			l.problem("%s: %s: %q is not allowed%s: write one of %s", l.originOf(leaf.key), leaf.key, v.String(), l.near(v.String(), enum), strings.Join(enum, ", "))
		}
	}
}

// keyLines maps every key of a TOML document to the line it stands on.
func keyLines(data []byte) (map[string]int, error) {
	lines := map[string]int{}
	p := unstable.Parser{}
	p.Reset(data)
	line := func(n *unstable.Node) int {
		return p.Shape(n.Raw).Start.Line
	}
	var table string
	join := func(prefix string, it unstable.Iterator) (string, int) {
		parts, at := []string{}, 0
		if prefix != "" {
			parts = append(parts, prefix)
		}
		for it.Next() {
			n := it.Node()
			parts = append(parts, string(n.Data))
			if at == 0 {
				at = line(n)
			}
		}
		return strings.Join(parts, "."), at
	}
	var inline func(prefix string, n *unstable.Node)
	inline = func(prefix string, n *unstable.Node) {
		it := n.Children()
		for it.Next() {
			c := it.Node()
			if c.Kind != unstable.KeyValue {
				inline(prefix, c)
				continue
			}
			key, at := join(prefix, c.Key())
			if _, ok := lines[key]; !ok {
				lines[key] = at
			}
			inline(key, c.Value())
		}
	}
	for p.NextExpression() {
		e := p.Expression()
		switch e.Kind {
		case unstable.Table, unstable.ArrayTable:
			var at int
			table, at = join("", e.Key())
			if _, ok := lines[table]; !ok && e.Kind == unstable.ArrayTable {
				lines[table] = at
			}
		case unstable.KeyValue:
			key, at := join(table, e.Key())
			if _, ok := lines[key]; !ok {
				lines[key] = at
			}
			inline(key, e.Value())
		}
	}
	return lines, p.Error()
}

// near returns " (did you mean X?)" for the name nearest to s: first a right
// name in the wrong section, then the fewest mistyped letters.
func (l *loader) near(s string, names []string) string {
	best := ""
	_, last, dotted := cutLast(s)
	for _, n := range names {
		if _, tail, ok := cutLast(n); dotted && ok && tail == last {
			best = n
			break
		}
	}
	dist := len(s)/2 + 1
	for _, n := range names {
		if d := distance(strings.ToLower(s), strings.ToLower(n)); best == "" && d < dist || d < min(dist, 2) {
			best, dist = n, d
		}
	}
	if best == "" || dist == 0 {
		return ""
	}
	return fmt.Sprintf(" (did you mean %q?)", best)
}

func cutLast(s string) (head, tail string, ok bool) {
	i := strings.LastIndexByte(s, '.')
	if i < 0 {
		return "", s, false
	}
	return s[:i], s[i+1:], true
}

// distance is the optimal string alignment distance over bytes: letters left
// out, put in, changed, or two neighbours swapped, each for one.
func distance(a, b string) int {
	two, one := make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range one {
		one[j] = j
	}
	for i := range len(a) {
		row := make([]int, len(b)+1)
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			row[j+1] = min(one[j]+cost, one[j+1]+1, row[j]+1)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], two[j-1]+1)
			}
		}
		two, one = one, row
	}
	return one[len(b)]
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}
