package flask

import (
	"path"
	"slices"
	"strings"

	"github.com/dewar-security/dewar/internal/pysyntax"
)

// ConfigClass is a class or module that holds settings.
type ConfigClass struct {
	Name     string   `json:"name"` // package.module.Class, or package.module
	Position Position `json:"position"`
	Bases    []string `json:"bases,omitempty"` // of the project
	Profile  string   `json:"profile,omitempty"`
	// Applied: some app loads it. Always: without a condition, whatever its
	// name says. ByDefault: unless an environment variable says otherwise.
	Applied   bool `json:"applied"`
	Always    bool `json:"always,omitempty"`
	ByDefault bool `json:"by_default,omitempty"`
}

// configClass is a [ConfigClass] while it is put together.
type configClass struct {
	*ConfigClass
	scope *scope
	emit  bool
}

func (a *analyzer) config(s *scope) *configClass {
	c := a.configs[s]
	if c == nil {
		c = &configClass{scope: s, ConfigClass: &ConfigClass{Name: s.qual}}
		if s.kind == classScope {
			c.Position = a.pos(s.unit, s.id)
			c.Profile = profileOf(s.name)
		} else {
			c.Position = Position{File: s.unit.path, Line: 1}
		}
		if c.Profile == "" {
			c.Profile = profileOf(path.Base(strings.TrimSuffix(s.unit.path, ".py")))
		}
		a.configs[s] = c
	}
	return c
}

// isKey reports whether a name is a setting's: Flask takes upper case only.
func isKey(name string) bool {
	return len(name) > 1 && name == strings.ToUpper(name) && name[0] >= 'A' && name[0] <= 'Z'
}

func (a *analyzer) findSettings() {
	// Classes that look like configuration are listed even if nothing is
	// seen to load them: the choice is often made at run time.
	for _, u := range a.units {
		for _, s := range u.defs {
			if s.kind != classScope {
				continue
			}
			words := splitWords(s.name)
			if slices.Contains(words, "config") || slices.Contains(words, "settings") || slices.Contains(words, "configuration") {
				for name := range s.binds {
					if isKey(name) {
						a.config(s).emit = true
						break
					}
				}
			}
		}
	}
	for _, u := range a.units {
		for _, st := range u.stores {
			a.settingStore(u, st)
		}
		for _, c := range u.calls {
			a.settingCall(u, c)
		}
	}
	a.emitClasses()
	a.envSettings()
}

// isConfig reports whether an expression is an app's config, or may be one
// as far as its name goes.
func (a *analyzer) isConfig(s *scope, id node) (is, applied bool) {
	if strings.TrimSuffix(a.qname(s, id), "()") == "flask.Flask().config" {
		return true, true
	}
	base, name := s.unit.tree.attr(id)
	if name != "config" || len(a.eval(s, base)) > 0 {
		return false, false
	}
	b := s.unit.tree.name(base)
	return b == "app" || strings.HasSuffix(b, "_app") || b == "application" || b == "server", false
}

func (a *analyzer) add(s *scope, key string, value, at node, kind SourceKind, applied, cond bool, rank int) *Setting {
	u := s.unit
	v := a.fold(s, value)
	x := &Setting{Key: key, Value: v, Source: kind, Position: a.pos(u, at), FromEnv: v.FromEnv, Applied: applied, Conditional: cond, rank: rank, node: value}
	a.m.Settings = append(a.m.Settings, x)
	return x
}

const (
	rankObject = iota + 1
	rankFile
	rankCode
	rankPrefix
	rankEnvFile
)

func (a *analyzer) settingStore(u *unit, st store) {
	t := u.tree
	if base, index := t.sub(st.target); base != 0 {
		is, applied := a.isConfig(st.scope, base)
		if !is {
			return
		}
		key := a.fold(st.scope, index)
		if !key.Known || key.Kind != String {
			a.unknown(u, st.target, unknownSettings+"key is not a constant")
			return
		}
		if st.value == 0 {
			a.unknown(u, st.target, unknownSettings+"value of "+key.Text+" is changed in place")
			return
		}
		a.add(st.scope, key.Text, st.value, st.target, FromAssign, applied, st.cond || st.scope.cond, rankCode)
		return
	}
	base, name := t.attr(st.target)
	key, ok := attributeSettings[name]
	if !ok || st.value == 0 {
		return
	}
	for _, o := range a.eval(st.scope, base) {
		if o.kind == objApp {
			a.add(st.scope, key, st.value, st.target, FromAttribute, true, st.cond || st.scope.cond, rankCode)
			return
		}
	}
}

func (a *analyzer) settingCall(u *unit, c callSite) {
	t := u.tree
	fn, args := t.call(c.id)
	q := a.qname(c.scope, fn)
	if runCalls[q] {
		_, kw := a.values(c.scope, args)
		pos, _ := a.values(c.scope, args)
		if kw == nil {
			kw = map[string]Value{}
		}
		if q == "flask.Flask().run" {
			for i, name := range [...]string{"host", "port", "debug"} {
				if i < len(pos) {
					kw[name] = pos[i]
				}
			}
		}
		if q == "werkzeug.serving.run_simple" || q == "werkzeug.run_simple" {
			for i, name := range [...]string{"hostname", "port", "application"} {
				if i < len(pos) {
					kw[name] = pos[i]
				}
			}
		}
		a.m.Runs = append(a.m.Runs, Run{Callee: clean(q), Position: a.pos(u, c.id), Main: c.main, Args: kw})
		if v := argNamed(args, "debug", 2); v != 0 && q != "werkzeug.serving.run_simple" {
			a.add(c.scope, "DEBUG", v, v, FromRun, true, c.cond || c.main, rankCode)
		}
		return
	}
	base, method := t.attr(fn)
	if base == 0 {
		return
	}
	is, applied := a.isConfig(c.scope, base)
	if !is {
		return
	}
	cond := c.cond || c.scope.cond
	switch method {
	case "update", "from_mapping":
		for _, x := range args {
			switch {
			case x.name != "":
				if isKey(x.name) {
					a.add(c.scope, x.name, x.val, x.val, FromUpdate, applied, cond, rankCode)
				}
			default:
				a.settingDict(c.scope, x.val, applied, cond)
			}
		}
	case "setdefault":
		if k := a.fold(c.scope, argNamed(args, "", 0)); k.Known && k.Kind == String {
			if v := argNamed(args, "", 1); v != 0 {
				a.add(c.scope, k.Text, v, c.id, FromUpdate, applied, cond, rankCode).Default = true
			}
		}
	case "from_object":
		if v := argNamed(args, "obj", 0); v != 0 {
			a.fromObject(c, v, cond)
		}
	case "from_pyfile", "from_json", "from_file":
		v := a.fold(c.scope, argNamed(args, "filename", 0))
		name := v.Text
		if v.Default != nil {
			name = v.Default.Text
		}
		if method == "from_pyfile" && name != "" {
			for _, dir := range [...]string{u.dir, "", "instance", path.Join(u.dir, "instance"), path.Join(parentDir(u.dir), "instance"), parentDir(u.dir)} {
				if m := a.byFile[path.Join(dir, name)]; m != nil {
					cfg := a.config(m.root)
					cfg.Applied, cfg.emit = true, true
					cfg.Always = cfg.Always || v.Known && !cond
					return
				}
			}
		}
		if name == "" {
			name = "of a computed name"
		}
		a.unknown(u, c.id, unknownSettings+"come from the file "+name+", which is not in the project or not understood")
	case "from_envvar":
		a.unknown(u, c.id, unknownSettings+"come from a file that the environment names")
	case "from_prefixed_env":
		prefix := "FLASK"
		if v := argNamed(args, "prefix", 0); v != 0 {
			f := a.fold(c.scope, v)
			if !f.Known || f.Kind != String {
				a.unknown(u, c.id, unknownSettings+"come from environment variables with a computed prefix")
				return
			}
			prefix = f.Text
		}
		a.fromPrefix(prefix)
	}
}

func (a *analyzer) fromPrefix(prefix string) {
	for _, v := range a.m.Env {
		key, ok := strings.CutPrefix(v.Name, prefix+"_")
		if !ok || v.Example || key == "" || strings.Contains(key, "__") {
			continue
		}
		val := parseJSON(StringValue(v.Value)) // as Flask does; text otherwise
		if !val.Known {
			val = StringValue(v.Value)
		}
		a.m.Settings = append(a.m.Settings, &Setting{Key: key, Value: val, Source: FromPrefix, Position: v.Position, FromEnv: v.Name, Profile: v.Profile, Applied: true, rank: rankPrefix})
	}
}

// settingDict takes a mapping given to update or from_mapping apart.
func (a *analyzer) settingDict(s *scope, id node, applied, cond bool) {
	if !a.mapping(s, id, applied, cond, map[madeKey]bool{}) {
		a.unknown(s.unit, id, unknownSettings+"come from a mapping that is not understood")
	}
}

// mapping follows a mapping to the displays that it is written as: through
// names, arms, and the functions of the project that return it.
func (a *analyzer) mapping(s *scope, id node, applied, cond bool, seen map[madeKey]bool) bool {
	t := s.unit.tree
	key := madeKey{s.unit, id}
	if seen[key] || len(seen) > 200 {
		return false
	}
	seen[key] = true
	n := t.at(id)
	switch n.Kind {
	case pysyntax.Dict:
		l := t.list(n.A)
		for i := 0; i+1 < len(l); i += 2 {
			if l[i] == 0 {
				if !a.mapping(s, l[i+1], applied, cond, seen) {
					a.unknown(s.unit, l[i+1], unknownSettings+"come from a mapping that is not understood")
				}
				continue
			}
			k := a.fold(s, l[i])
			if !k.Known || k.Kind != String {
				a.unknown(s.unit, l[i], unknownSettings+"key is not a constant")
			} else if isKey(k.Text) {
				a.add(s, k.Text, l[i+1], l[i], FromUpdate, applied, cond, rankCode)
			}
		}
		return true
	case pysyntax.BoolOp:
		ok := true
		for _, x := range t.list(n.A) {
			ok = a.mapping(s, x, applied, cond, seen) && ok
		}
		return ok
	case pysyntax.IfExp:
		one := a.mapping(s, n.B, applied, true, seen)
		return a.mapping(s, n.C, applied, true, seen) && one
	case pysyntax.None:
		return true
	case pysyntax.Call:
		fn, args := t.call(id)
		if a.qname(s, fn) == "dict" {
			for _, x := range args {
				switch {
				case isKey(x.name):
					a.add(s, x.name, x.val, x.val, FromUpdate, applied, cond, rankCode)
				case x.name == "" && !a.mapping(s, x.val, applied, cond, seen):
					return false
				}
			}
			return true
		}
		ok := false
		for _, o := range a.eval(s, fn) {
			if o.kind == objFunc && len(o.scope.returns) > 0 {
				ok = true
				for _, r := range o.scope.returns {
					ok = a.mapping(o.scope, r, applied, cond || len(o.scope.returns) > 1, seen) && ok
				}
			}
		}
		return ok
	case pysyntax.Name, pysyntax.Attribute:
		found := a.bindings(s, id)
		ok := len(found) > 0
		for _, b := range found {
			switch {
			case b.kind == bindExpr && !b.augmented:
				ok = a.mapping(b.scope, b.node, applied, cond, seen) && ok
			case b.kind == bindParam:
				// create_app(overrides): what the project passes. A caller
				// outside, such as a test, is not part of the app.
				p := b.scope.def.params[b.index]
				for _, site := range b.scope.sites {
					if v, given := site.arg(p, b.index); given {
						ok = a.mapping(site.scope, v, applied, cond, seen) && ok
					}
				}
			default:
				ok = false
			}
			// settings["X"] = … afterwards
			if b.scope.unit != s.unit {
				continue
			}
			for _, st := range s.unit.stores {
				base, index := t.sub(st.target)
				if base == 0 || st.scope != b.scope || t.name(base) == "" || t.name(base) != t.name(id) {
					continue
				}
				if k := a.fold(st.scope, index); k.Known && isKey(k.Text) && st.value != 0 {
					a.add(st.scope, k.Text, st.value, st.target, FromUpdate, applied, cond || st.cond, rankCode)
				}
			}
		}
		return ok
	}
	return false
}

func (a *analyzer) fromObject(c callSite, v node, cond bool) {
	u := c.scope.unit
	var found []*scope
	always, byDefault := !cond, false
	if f := a.fold(c.scope, v); f.Kind == String || f.Default != nil && f.Default.Kind == String {
		name := f.Text
		if f.Default != nil {
			name, byDefault, always = f.Default.Text, true, false
		}
		if s := a.importString(u, name); s != nil {
			found = append(found, s)
		}
	} else if u.tree.name(v) == "__name__" {
		found = append(found, u.root)
	} else {
		for _, o := range a.eval(c.scope, v) {
			switch o.kind {
			case objClass, objInstance:
				found = append(found, o.scope)
			case objModule:
				found = append(found, o.unit.root)
			}
		}
	}
	if len(found) == 0 {
		a.unknown(u, c.id, unknownSettings+"object given to from_object is not understood")
		return
	}
	for _, s := range found {
		cfg := a.config(s)
		cfg.Applied, cfg.emit = true, true
		cfg.Always = cfg.Always || always && len(found) == 1
		cfg.ByDefault = cfg.ByDefault || byDefault
	}
}

// importString finds what werkzeug.utils.import_string would: a module, or a
// class in one.
func (a *analyzer) importString(u *unit, name string) *scope {
	name = strings.ReplaceAll(name, ":", ".")
	if m := a.findModule(u, name, 0); m != nil {
		return m.root
	}
	i := strings.LastIndexByte(name, '.')
	if i < 0 {
		return nil
	}
	m := a.findModule(u, name[:i], 0)
	if m == nil {
		return nil
	}
	for _, o := range a.evalBindings(a.moduleMember(m, name[i+1:], nil)) {
		switch o.kind {
		case objClass, objInstance:
			return o.scope
		case objModule:
			return o.unit.root
		}
	}
	return nil
}

// emitClasses lists the settings of every config class, its bases included,
// each where it is written.
func (a *analyzer) emitClasses() {
	var todo []*configClass
	for _, c := range a.configs {
		if c.emit {
			todo = append(todo, c)
		}
	}
	byName := func(x, y *configClass) int {
		return strings.Compare(x.Position.File+"\x00"+x.Name, y.Position.File+"\x00"+y.Name)
	}
	slices.SortFunc(todo, byName)
	done := map[*scope]bool{}
	var all []*configClass
	for len(todo) > 0 {
		c := todo[0]
		todo = todo[1:]
		if done[c.scope] {
			continue
		}
		done[c.scope] = true
		all = append(all, c)
		if c.scope.kind == classScope {
			for _, b := range a.bases(c.scope) {
				if b.kind != objClass {
					continue
				}
				base := a.config(b.scope)
				c.Bases = append(c.Bases, b.scope.qual)
				todo = append(todo, base)
			}
		}
	}
	// What a class loads, its bases bring.
	for range len(all) {
		changed := false
		for _, c := range all {
			if c.scope.kind != classScope {
				continue
			}
			for _, b := range a.bases(c.scope) {
				if b.kind != objClass {
					continue
				}
				base := a.config(b.scope)
				if c.Applied && !base.Applied {
					base.Applied = true
					changed = true
				}
			}
		}
		if !changed {
			break
		}
	}
	slices.SortFunc(all, byName)
	for _, c := range all {
		a.m.Classes = append(a.m.Classes, c.ConfigClass)
		kind := FromClass
		if c.scope.kind == moduleScope {
			kind = FromModule
		}
		for _, b := range sortedBinds(c.scope) {
			if !isKey(b.name) {
				continue
			}
			for _, x := range b.list {
				if x.kind != bindExpr || x.augmented {
					if x.kind == bindFrom || x.kind == bindExpr {
						a.unknown(c.scope.unit, x.node, unknownSettings+"value of "+b.name+" is not written where it is set")
					}
					continue
				}
				s := a.add(x.scope, b.name, x.node, x.node, kind, c.Applied, x.cond && len(b.list) > 1, rankObject)
				s.Class, s.Profile, s.cls = c.Name, c.Profile, c.scope
				if kind == FromModule {
					s.rank = rankFile
				}
			}
		}
		a.dynamicSettings(c)
	}
}

// dynamicSettings notes properties whose names are settings' names: they are
// computed.
func (a *analyzer) dynamicSettings(c *configClass) {
	for _, b := range sortedBinds(c.scope) {
		for _, x := range b.list {
			if x.kind == bindDef && x.def.kind == funcScope && isKey(b.name) {
				if len(x.def.returns) == 1 {
					r := x.def.returns[0]
					s := a.add(x.def, b.name, r, r, FromClass, c.Applied, false, rankObject)
					s.Class, s.Profile, s.cls = c.Name, c.Profile, c.scope
				} else {
					a.unknown(c.scope.unit, x.def.id, unknownSettings+"value of "+b.name+" is computed")
				}
			}
		}
	}
}

// envSettings lists what environment files say about settings that the
// environment decides, and about Flask's own variables.
func (a *analyzer) envSettings() {
	var more []*Setting
	for _, s := range a.m.Settings {
		if s.FromEnv == "" || s.Source == FromPrefix {
			continue
		}
		for _, v := range a.m.EnvVars(s.FromEnv) {
			val := StringValue(v.Value)
			like := s.Value.Default
			if k, ok := KnownSetting(s.Key); ok && k.Default.Kind != None {
				like = &k.Default
			}
			if like != nil {
				switch like.Kind {
				case Bool:
					val = parseBool(val)
				case Number, Duration:
					val = parseNumber(v.Value)
				}
			}
			x := &Setting{Key: s.Key, Value: val, Source: FromEnvFile, Class: s.Class, Position: v.Position, FromEnv: v.Name,
				Profile: v.Profile, Applied: s.Applied, rank: rankEnvFile, cls: s.cls}
			if x.Profile == "" {
				x.Profile = s.Profile
			}
			more = append(more, x)
		}
	}
	for _, v := range a.m.Env {
		if v.Example {
			continue
		}
		switch v.Name {
		case "FLASK_DEBUG":
			more = append(more, &Setting{Key: "DEBUG", Value: parseBool(StringValue(v.Value)), Source: FromEnvFile, Position: v.Position, FromEnv: v.Name, Profile: v.Profile, Applied: true, rank: rankEnvFile})
		case "FLASK_ENV":
			more = append(more, &Setting{Key: "ENV", Value: StringValue(v.Value), Source: FromEnvFile, Position: v.Position, FromEnv: v.Name, Profile: v.Profile, Applied: true, rank: rankEnvFile})
		}
	}
	seen := map[[3]string]bool{}
	for _, s := range more {
		key := [3]string{s.Key, s.Position.File + "\x00" + s.FromEnv, s.Class}
		if !seen[key] {
			seen[key] = true
			a.m.Settings = append(a.m.Settings, s)
		}
	}
}
