package payload

import (
	"slices"
	"strings"
	"unicode/utf8"
)

// maxInert is the length up to which [Inert] looks at a text.
const maxInert = 8 << 10

// Inert returns the interpreters to which a text is certain to be nothing but
// data, in every position in which an app might put it, wrapped or not. It is
// the other side of [Judge]: a judge names an attack and stays silent when in
// doubt; Inert gives a reason why there can be none, and leaves a kind out
// when in doubt.
//
// The reason is mostly that the text breaks what it is put into. An
// interpreter reads a statement, a script, an expression as a whole: where two
// tokens stand beside each other that cannot ("'O' Neill thinks", behind the
// quote of O'Neill), it runs none of it. For a shell, the reason is that no
// word stands where a command would; for HTML, that no tag or attribute is
// begun; for a file system, that the path cannot exist or leads nowhere.
//
// Of [Prose] that is wrapped around nothing every kind is returned.
func Inert(text string) Kinds {
	if len(text) == 0 || len(text) > maxInert || !clearText(text) {
		return 0
	}
	forms := unwrap(text)
	if len(forms) >= maxForms {
		return 0 // there may be more
	}
	if len(forms) == 1 && Prose(text) {
		return All
	}
	inert := KindsOf(SQL, NoSQL, Shell, Code, HTML, Script, Template, Path, Header)
	if strings.IndexByte(text, '+') >= 0 {
		// A plus sign is a space to who decodes a query once more.
		forms = append(forms, form{text: strings.ReplaceAll(text, "+", " ")})
	}
	judged := func(s string) {
		for _, x := range Judge(s, Text) {
			inert &^= 1 << x.Kind
		}
	}
	judged(text) // with all that it is wrapped around
	var seen []string
	for _, f := range forms {
		// Some decoders take other characters for those of ASCII.
		for _, s := range []string{f.text, foldASCII(f.text, false), foldASCII(f.text, true)} {
			if slices.Contains(seen, s) {
				continue
			}
			seen = append(seen, s)
			if !clearText(s) {
				return 0
			}
			if s != f.text {
				judged(s)
			}
			if (inert.Has(Script) || inert.Has(Code) || inert.Has(NoSQL)) && !scriptInert(s) {
				inert &^= KindsOf(Script, Code, NoSQL)
			}
			for _, p := range inertness {
				if inert.Has(p.kind) && !p.holds(s) {
					inert &^= 1 << p.kind
				}
			}
		}
	}
	return inert
}

// inertness are the reasons, one for each kind; that of Script, which those of
// Code and NoSQL need as well, comes before.
var inertness = []struct {
	kind  Kind
	holds func(string) bool
}{
	{SQL, sqlInert}, {NoSQL, nosqlInert}, {Shell, shellInert}, {Code, codeInert}, {HTML, htmlInert},
	{Template, templateInert}, {Path, pathInert}, {Header, headerInert},
}

// clearText says that a text is UTF-8 without control characters but those of
// lines.
func clearText(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' && s[i] != '\n' && s[i] != '\r' && s[i] != '\t' || s[i] == 0x7f {
			return false
		}
	}
	return utf8.ValidString(s)
}

// Random says that a text looks like what a password manager makes: ten
// characters or more without a space, of letters small and capital and of
// digits, in which no word of SQL stands behind a quote and no judge finds what
// runs something. What chance puts into one password of a thousand (a quote
// and two dashes further on, a dollar sign and a brace) is no reason: whoever
// knows that a field holds passwords need not ask the judges about those.
func Random(text string) bool {
	var small, capital, digit bool
	for i := range len(text) {
		c := text[i]
		if c <= ' ' || c >= 0x7f {
			return false
		}
		small = small || 'a' <= c && c <= 'z'
		capital = capital || 'A' <= c && c <= 'Z'
		digit = digit || isDigit(c)
	}
	if len(text) < 10 || len(text) > 128 || !small || !capital || !digit {
		return false
	}
	for i := range len(text) {
		if text[i] != '\'' && text[i] != '"' && text[i] != '`' {
			continue
		}
		tokens, _ := sqlScan(nil, text, i+1, maxQuoted)
		for _, t := range tokens {
			if t.kind == sqlWord && len(t.text) > 1 && sqlKeywords[t.text] != "" && sqlClass(t.text) != sqlPlain {
				return false
			}
		}
	}
	if runsInRandom(text) {
		return false
	}
	for _, x := range Judge(text, Text) {
		shape := x.Kind.String() + " " + x.Shape
		if shape == "sql comparison after a value" && !strings.ContainsAny(text, "'\"`") {
			continue // no statement has a password without quotes
		}
		if !byChance[shape] {
			return false
		}
	}
	return true
}

// byChance are findings that random signs hold too often: together one text of
// a few hundred. Of these [runsInRandom] knows those that are meant.
var byChance = set("sql operator between strings", "sql comment after a value", "shell command after separator", "shell expansion", "template call", "ldap filter", "script computed member", "script computed member after a string")

// runsInRandom says that a text without spaces holds what runs something and
// chance hardly ever makes: a whole output or statement of a template, a lookup,
// a program's name as a substitution or behind a separator, a quote and a
// comment at the end.
func runsInRandom(s string) bool {
	for _, m := range [...][2]string{{"{{", "}}"}, {"{%", "%}"}, {"<%", "%>"}} {
		if _, rest, ok := strings.Cut(s, m[0]); ok && strings.Contains(rest, m[1]) {
			return true
		}
	}
	if strings.Contains(s, "$IFS") || strings.Contains(s, "${IFS") {
		return true
	}
	for i := 0; i+2 < len(s); i++ {
		rest := s[i+1:]
		switch s[i] {
		case '$', '#', '*', '@', '~':
			if inner, ok := strings.CutPrefix(rest, "{"); ok {
				n := 0
				for n < len(inner) && (isWord(inner[n]) || inner[n] == '.') {
					n++
				}
				if n > 2 && n < len(inner) && (inner[n] == ':' || n > 3 && inner[n] == '(') {
					return true
				}
			}
			if inner, ok := strings.CutPrefix(rest, "("); ok && s[i] == '$' {
				if end := strings.IndexByte(inner, ')'); end > 0 && startsProgram(inner, 2) {
					return true
				}
			}
		case '`':
			if end := strings.IndexByte(rest, '`'); end > 0 && startsProgram(rest, 2) {
				return true
			}
		case ';', '|', '&':
			if startsProgram(rest, 4) {
				return true
			}
		case '\'', '"':
			if t := strings.TrimLeft(rest, ");"); len(t) < 5 && (strings.HasPrefix(t, "--") || strings.HasPrefix(t, "/*")) {
				return true
			}
		}
	}
	return false
}

// startsProgram says that a text begins with a program's name, perhaps in a
// folder, of so many letters or more.
func startsProgram(s string, least int) bool {
	n := 0
	for n < len(s) && (isAlnum(s[n]) || strings.IndexByte("/._-", s[n]) >= 0) {
		n++
	}
	word := s[:n]
	if i := strings.LastIndexByte(word, '/'); i >= 0 {
		word, least = word[i+1:], 2
	}
	return len(word) >= least && knownCommand(word)
}

// nosqlInert: no operator of a document store is named. Its JavaScript is
// scriptInert's business.
func nosqlInert(s string) bool {
	for i := 0; i+1 < len(s); i++ {
		if s[i] == '$' && isAlpha(s[i+1]) {
			return false
		}
	}
	return true
}

// headerInert: no line but the first begins like a field of HTTP or mail, a
// command of a mail server, a status line or a request line.
func headerInert(s string) bool {
	for n, line := range strings.FieldsFunc(s, func(r rune) bool {
		return r == '\n' || r == '\r' || r == 0x85 || r == 0x2028 || r == 0x2029 || r == '\v' || r == '\f'
	}) {
		if n == 0 && s[0] != '\n' && s[0] != '\r' {
			continue
		}
		line = strings.TrimSpace(line)
		word := line
		if i := strings.IndexAny(line, " \t:"); i >= 0 {
			word = line[:i]
		}
		if len(word) < len(line) && line[len(word)] == ':' && fieldWords[strings.ToLower(word)] || storeVerbs[strings.ToLower(word)] && !plainWords(line, 6) || len(word) > 1 && (word[0] == '*' || word[0] == '$') && strings.Trim(word[1:], "0123456789") == "" {
			return false
		}
		if headerWords[strings.ToLower(strings.TrimRight(word, "."))] || strings.Contains(line, "HTTP/") || len(word) <= 6 && word != "" && strings.Trim(word, "0123456789") != word && len(line) > len(word) && mailVerbs[strings.ToLower(firstWord(line[len(word):]))] {
			return false
		}
		if word != "" && len(word) < len(line) && line[len(word)] == ':' && (strings.HasPrefix(strings.ToLower(word), "x-") || strings.IndexByte(word, '-') > 0) {
			return false
		}
	}
	return true
}

func firstWord(s string) string {
	if f := strings.Fields(s); len(f) > 0 {
		return f[0]
	}
	return ""
}

// headerWords are names of fields (RFC 9110, RFC 5322) and commands of SMTP
// and POP3.
var headerWords = set("accept", "bcc", "cc", "connection", "content", "cookie", "date", "ehlo", "etag", "expect", "from", "helo", "host", "link", "location", "origin", "pragma", "rcpt", "refresh", "reply-to", "return-path", "sender", "server", "set-cookie", "status", "subject", "to", "trailer", "upgrade", "vary", "via", "warning",
	"data", "mail", "quit", "rset", "vrfy", "expn", "starttls", "auth", "noop", "retr", "dele", "stat", "list", "uidl", "top", "apop", "user", "pass")

// fieldWords are further names of fields that are words of everyday: fields
// only before a colon.
var fieldWords = set("age", "allow", "authorization", "comments", "depth", "destination", "digest", "dnt", "dpop", "expires", "forwarded", "keywords", "nel", "overwrite", "p3p", "prefer", "priority", "range", "received", "referer", "signature", "te", "timeout", "traceparent", "tracestate")

// storeVerbs are commands of Redis and memcached, which both read lines.
var storeVerbs = set("acl", "add", "append", "bgrewriteaof", "bgsave", "cas", "client", "cluster", "config", "copy", "debug", "decr", "decrby", "del", "delete", "eval", "evalsha", "exec", "expire", "fcall", "flush_all", "flushall", "flushdb", "function", "gat", "get", "getdel", "getex", "gets", "getset", "hdel", "hello", "hget", "hmset", "hset", "incr", "incrby", "info", "keys", "lpush", "lru_crawler", "lset", "mg", "migrate", "module", "monitor", "move", "ms", "mset", "multi", "persist", "prepend", "psetex", "psync", "publish", "rename", "replace", "replicaof", "restore", "rpush", "sadd", "save", "script", "select", "set", "setex", "setnx", "setrange", "shutdown", "slaveof", "slabs", "stats", "subscribe", "swapdb", "sync", "touch", "unlink", "verbosity", "version", "watch", "xadd", "zadd")

// mailVerbs are commands of IMAP, which stand behind a tag.
var mailVerbs = set("append", "authenticate", "capability", "close", "copy", "create", "delete", "examine", "expunge", "fetch", "list", "login", "logout", "lsub", "noop", "rename", "search", "select", "starttls", "status", "store", "subscribe", "uid", "unsubscribe")

// templateInert: nothing begins an output or a statement of a template. Even a
// plain name would be looked up: {{ user.secret }}.
func templateInert(s string) bool {
	called := strings.LastIndexByte(s, '(')
	for i := 0; i+1 < len(s); i++ {
		switch s[i : i+2] {
		case "{{", "${", "#{", "{%", "<%", "{#", "*{", "~{", "[[", "[(", "@(", "$!", "{$", "{/":
			return false
		}
		if s[i] == '#' && isAlpha(s[i+1]) && i < called && velocity[firstName(s[i+1:])] {
			return false
		}
	}
	return true
}

var velocity = set("set", "if", "foreach", "include", "parse", "macro", "evaluate", "define", "end", "else", "elseif", "stop", "break")

func firstName(s string) string {
	i := 0
	for i < len(s) && i < 16 && isAlpha(s[i]) {
		i++
	}
	return s[:i]
}

// pathInert: put behind a folder's name, the text names nothing outside of it
// or nothing that exists.
func pathInert(s string) bool {
	if pathLookalikes.Replace(s) != s || strings.Contains(s, `\.`) || strings.Contains(s, "..") && strings.IndexByte(s, '%') >= 0 {
		return false
	}
	t := strings.ReplaceAll(strings.TrimSpace(s), `\`, "/")
	switch {
	case len(t) > 2 && isAlpha(t[0]) && t[1] == ':' && t[2] != '/' && t[2] != ' ':
		return false // C:x, in the folder that drive is at
	case strings.IndexByte(t, ':') >= 0 && schemeThatReads(t):
		return false
	case strings.HasPrefix(t, "/"), len(t) > 2 && isAlpha(t[0]) && t[1] == ':' && t[2] == '/':
		if !plainPlace(t) {
			return false
		}
	case strings.HasPrefix(t, "~"):
		return false
	}
	if first := firstWord(t); len(first) < len(t) && strings.IndexByte(t, '/') >= 0 && knownCommand(first) && !plainWords(t, 3) {
		return false // a command with a path
	}
	if i := strings.LastIndex(t, ":/"); i > 1 && !strings.HasPrefix(t[i:], "://") {
		return false // a drive further on
	}
	// Folders of other names than words have are not there, so that a path
	// that goes through one exists only where it is shortened first.
	depth, gone := 0, false
	parts := strings.Split(t, "/")
	for n, part := range parts {
		last := n == len(parts)-1
		switch p := strings.TrimSpace(part); {
		case p == "" || p == ".":
		case p == "..":
			if depth--; depth < 0 {
				// Nothing is named by a sentence: ../ is the folder above.
				rest := strings.Join(parts[n+1:], "/")
				return prosePart(rest) && !strings.ContainsAny(rest, "/")
			}
		case strings.HasPrefix(p, "..") && strings.Trim(p, ".;") == "":
			return false
		case prosePart(p):
			depth++
			gone = true
		default:
			depth++
			if (last || p[0] == '.') && !gone && readFiles[strings.ToLower(p)] {
				return false
			}
			if p[0] == '.' && !gone {
				return false
			}
		}
	}
	return true
}

// schemeThatReads says that a text is a URL as a whole of another kind than
// people paste.
func schemeThatReads(t string) bool {
	scheme, _, _ := strings.Cut(t, ":")
	for i := range len(scheme) {
		if !isAlnum(scheme[i]) && strings.IndexByte("+.-", scheme[i]) < 0 {
			return false
		}
	}
	switch s := strings.ToLower(scheme); s {
	case "http", "https", "mailto", "tel", "ftp":
		return false
	default:
		return len(s) > 1 && !strings.HasPrefix(t[len(scheme):], ": ")
	}
}

// prosePart says that a part of a path is a piece of a sentence: three words
// or more.
func prosePart(s string) bool {
	words := 0
	for w := range strings.FieldsSeq(s) {
		if w = strings.TrimLeft(w, "(\"'`*_[-"); w != "" && isWord(w[0]) {
			words++
		}
	}
	return words >= 3
}

// plainPlace says that an absolute path lies where users' files are, and names a
// folder or what users make: nothing that configures, logs or runs.
func plainPlace(t string) bool {
	l := strings.ToLower(t)
	if strings.Contains(l, "..") || strings.Contains(l, "/.") || strings.ContainsAny(l, "~%") {
		return false
	}
	parts := strings.FieldsFunc(l, func(r rune) bool { return r == '/' })
	for _, p := range parts {
		if systemFolders[p] || strings.HasPrefix(p, "sess_") || strings.Contains(p, "log") {
			return false
		}
	}
	if last := parts[max(0, len(parts)-1):]; len(last) == 1 {
		if dot := strings.LastIndexByte(last[0], '.'); dot >= 0 && strings.IndexByte(last[0][dot:], ' ') < 0 {
			kind := last[0][dot+1:]
			if privateTypes[kind] || !userTypes[kind] && !strings.HasPrefix(l, "/tmp/") {
				return false
			}
		}
	}
	if len(l) > 1 && l[1] == ':' {
		return strings.HasPrefix(l[2:], "/users/")
	}
	for _, p := range []string{"/tmp/", "/srv/", "/mnt/", "/media/", "/data/", "/home/", "/users/"} {
		if strings.HasPrefix(l, p) {
			return len(parts) > 1
		}
	}
	// A command of a chat: "/me waves".
	return len(parts) == 1 && strings.IndexByte(l, '.') < 0 && isWord(l[1])
}

var systemFolders = set("appdata", "app", "bin", "boot", "code", "conf", "conf.d", "config", "dev", "etc", "html", "htdocs", "inetpub", "kubernetes", "lib", "lib32", "lib64", "libx32", "nix", "private", "proc", "public_html", "root", "run", "sbin", "secrets", "snap", "sys", "system", "system32", "usr", "var", "vault", "windows", "winnt", "workspace", "www", "passwd", "shadow")

// privateTypes are kinds of files that are not for others, wherever they lie.
var privateTypes = set("bak", "cer", "cfg", "cnf", "conf", "config", "crt", "db", "der", "dump", "env", "ini", "jks", "kdbx", "key", "log", "mdb", "p12", "pem", "pfx", "pid", "properties", "sock", "sql", "sqlite", "sqlite3", "swp")

// userTypes are kinds of files that people write, draw and record.
var userTypes = set("csv", "doc", "docx", "epub", "gif", "gz", "ics", "jpeg", "jpg", "json", "md", "mov", "mp3", "mp4", "odp", "ods", "odt", "pdf", "png", "ppt", "pptx", "rst", "rtf", "svg", "tex", "tgz", "tif", "tiff", "tsv", "txt", "wav", "webm", "webp", "xls", "xlsx", "xml", "zip")

// readFiles are names of files that tell secrets of an app.
var readFiles = set("config.py", "settings.py", "secrets.py", "wsgi.py", "app.py", "local_settings.py", "instance.cfg", "web.config", "wp-config.php", "config.php", "database.yml", "secrets.yml", "credentials", "id_rsa", "id_dsa", "id_ed25519", "docker-compose.yml", "dockerfile", "alembic.ini", "win.ini", "boot.ini", "passwd", "shadow", "application.properties", "application.yml", "appsettings.json", "package.json", "requirements.txt")
