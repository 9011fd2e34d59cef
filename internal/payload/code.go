package payload

import "strings"

// The judges of this file look for code of the languages that servers run,
// serialised objects, queries of document databases, LDAP filters, XML that
// loads, and lines of protocols.

func judgeCode(text string, place Place, _ []string) string {
	l := text
	if strings.IndexByte(text, '!') >= 0 || strings.Contains(text, "<?") || strings.Contains(text, "tag:") || strings.Contains(text, "jndi") {
		l = strings.ToLower(text)
	}
	switch {
	case strings.Contains(l, "!!python/") || strings.Contains(l, "!!java") || strings.Contains(l, "!!ruby/") || strings.Contains(l, "!ruby/object") || strings.Contains(l, "!!perl/") || strings.Contains(l, "tag:yaml.org,2002:python/"):
		return "yaml object"
	case strings.Contains(l, "<?php") || strings.Contains(l, "<?=") && strings.Contains(l, "?>"):
		return "php tag"
	case strings.HasPrefix(text, "rO0AB") || strings.HasPrefix(text, "\xac\xed\x00\x05"):
		return "java object"
	case strings.HasPrefix(text, "gASV") || strings.HasPrefix(text, "\x80\x04\x95") || strings.HasPrefix(text, "cos\nsystem") || strings.HasPrefix(text, "cposix\nsystem") || strings.HasPrefix(text, "c__builtin__\n") || strings.HasPrefix(text, "csubprocess\n"):
		return "pickle"
	case strings.HasPrefix(text, "AAEAAAD/////"):
		return ".net object"
	}
	if phpObject(text) {
		return "php object"
	}
	for i := strings.IndexByte(text, '('); i >= 0; {
		j := i
		for j > 0 && text[j-1] == ' ' && i-j < 4 {
			j--
		}
		k := j
		for k > 0 && (isAlnum(text[k-1]) || text[k-1] == '_' || text[k-1] == '.') && j-k < 48 {
			k--
		}
		if k < j && codeCall(strings.ToLower(text[k:j]), text[i+1:]) {
			return "call"
		}
		next := strings.IndexByte(text[i+1:], '(')
		if next < 0 {
			break
		}
		i += 1 + next
	}
	return ""
}

// codeCall says that name, whole or behind a dot, is a function that runs
// programs or code, called with args, which begin behind the parenthesis.
func codeCall(name, args string) bool {
	args = strings.TrimLeft(args[:min(len(args), 32)], " ")
	for n := name; ; {
		if argument, ok := codeCalls[n]; ok {
			if !argument || args != "" && strings.IndexByte("'\"$(_", args[0]) >= 0 || strings.HasPrefix(args, "base64_decode") {
				return true
			}
		}
		dot := strings.IndexByte(n, '.')
		if dot < 0 {
			break
		}
		n = n[dot+1:]
	}
	return strings.Contains(name, "java.lang.") || strings.HasSuffix(name, ".getclass") || strings.HasSuffix(name, "classloader")
}

// codeCalls are functions of Python, PHP, Java, Ruby and Node that run
// programs or code, in small letters. True asks for a string, a variable or a
// call as the first argument: the name is near to prose.
var codeCalls = map[string]bool{
	"__import__": false, "os.system": false, "os.popen": false, "subprocess.popen": false, "subprocess.call": false, "subprocess.check_output": false, "subprocess.run": false,
	"getattr": true, "builtins.exec": false, "builtins.eval": false, "pty.spawn": false, "exec": true, "compile": true, "execfile": true, "eval": true,
	"system": true, "shell_exec": false, "passthru": false, "proc_open": false, "popen": true, "pcntl_exec": false, "phpinfo": false, "assert": true, "base64_decode": false,
	"file_get_contents": false, "create_function": false, "call_user_func": false, "preg_replace": true, "runtime.exec": false, "getruntime": false, "class.forname": false,
	"process.mainmodule.require": false, "kernel.exec": false, "io.popen": false, "server.createobject": false, "wscript.createobject": false, "processbuilder": true, "scriptenginemanager": false,
}

// phpObject recognises PHP's serialisation of an object, alone or in an
// array: O:8:"stdClass":1:{.
func phpObject(s string) bool {
	for i := 0; i+6 < len(s); i++ {
		if (s[i] != 'O' && s[i] != 'C') || s[i+1] != ':' || i > 0 && s[i-1] != ';' && s[i-1] != '{' && s[i-1] != ':' {
			continue
		}
		j := i + 2
		if j < len(s) && s[j] == '+' {
			j++
		}
		k := j
		for k < len(s) && isDigit(s[k]) {
			k++
		}
		if k > j && strings.HasPrefix(s[k:], `:"`) {
			return true
		}
	}
	return false
}

func judgeNoSQL(text string, place Place, _ []string) string {
	for i := strings.IndexByte(text, '$'); i >= 0; {
		j := i + 1
		for j < len(text) && isAlpha(text[j]) {
			j++
		}
		if name := text[i+1 : j]; mongoOperators[name] {
			rest := strings.TrimLeft(text[j:], "'\" \t")
			before := strings.TrimRight(text[:i], "'\" \t")
			switch {
			case strings.HasPrefix(rest, ":"), place == Name && (rest == "" || rest[0] == ']'), strings.HasSuffix(before, "[") && strings.HasPrefix(rest, "]"):
				return "query operator"
			}
		}
		next := strings.IndexByte(text[j:], '$')
		if next < 0 {
			break
		}
		i = j + next
	}
	// Server-side JavaScript: db.users.find(…), this.a == this.b
	if i := strings.Index(text, "db."); i >= 0 && (i == 0 || !isWord(text[i-1]) && text[i-1] != '.') {
		rest := text[i+3:]
		j := 0
		for j < len(rest) && (isWord(rest[j]) || rest[j] == '.') {
			j++
		}
		if dot := strings.LastIndexByte(rest[:j], '.'); dot > 0 && mongoMethods[rest[dot+1:j]] && strings.HasPrefix(rest[j:], "(") {
			return "query"
		}
	}
	for _, op := range []string{"||", "&&"} {
		i := strings.Index(text, op)
		if i < 0 {
			continue
		}
		before, rest := strings.TrimRight(text[:i], " "), strings.TrimLeft(text[i+2:], " ")
		if before != "" && strings.IndexByte("'\"", before[len(before)-1]) >= 0 && (strings.Contains(rest, "==") || strings.HasPrefix(rest, "this.")) {
			return "condition"
		}
	}
	return ""
}

var mongoOperators = set("where", "ne", "gt", "gte", "lt", "lte", "in", "nin", "or", "and", "not", "nor", "regex", "exists", "expr", "function", "accumulator", "all", "elemMatch", "size", "type", "mod", "text", "eq", "lookup", "unionWith", "out", "merge", "func", "comment", "slice", "nearSphere", "geoWithin", "bitsAllSet")

var mongoMethods = set("find", "findOne", "insert", "insertOne", "insertMany", "update", "updateOne", "updateMany", "remove", "deleteOne", "deleteMany", "drop", "aggregate", "mapReduce", "count", "distinct", "save", "dropDatabase", "createCollection", "getCollection", "eval")

func judgeLDAP(text string, place Place, _ []string) string {
	if strings.IndexByte(text, '=') < 0 {
		return ""
	}
	s := strings.ReplaceAll(text, " ", "")
	// A filter, or the middle of one: (&(a=b)(c=*)), *)(uid=*))(|(uid=*
	for i := 0; i+2 < len(s); i++ {
		if s[i] != '(' || strings.IndexByte("&|!", s[i+1]) < 0 || s[i+2] != '(' {
			continue
		}
		if ldapItem(s[i+3:]) || strings.HasPrefix(s[i+3:], "&") || strings.HasPrefix(s[i+3:], "|") || strings.HasPrefix(s[i+3:], "!") {
			return "filter"
		}
	}
	for i := strings.Index(s, ")("); i >= 0; {
		if (ldapItem(s[i+2:]) || ldapItem(strings.TrimLeft(s[i+2:], "(&|!"))) && (i == 0 || s[i-1] == '*' || isWord(s[i-1]) || s[i-1] == ')') && strings.IndexByte(s[:i], '(') < 0 {
			return "filter"
		}
		next := strings.Index(s[i+2:], ")(")
		if next < 0 {
			break
		}
		i += 2 + next
	}
	if i := strings.Index(s, ":="); i > 0 && strings.HasPrefix(strings.TrimLeft(s[strings.LastIndexByte(s[:i], ':')+1:i], "0123456789."), "") {
		if c := strings.IndexByte(s, ':'); c > 0 && c < i && isAlpha(s[c-1]) {
			oid := s[c+1 : i]
			if strings.Count(oid, ".") >= 3 && strings.Trim(oid, "0123456789.") == "" {
				return "matching rule"
			}
		}
	}
	return ""
}

// ldapItem says that s begins like attribute=value) of a filter (RFC 4515).
func ldapItem(s string) bool {
	j := 0
	for j < len(s) && (isAlnum(s[j]) || s[j] == '-' || s[j] == ';') {
		j++
	}
	if j == 0 || j >= len(s) || !isAlpha(s[0]) {
		return false
	}
	if s[j] == '~' || s[j] == '<' || s[j] == '>' || s[j] == ':' {
		j++
	}
	return j < len(s) && s[j] == '='
}

func judgeXML(text string, place Place, _ []string) string {
	for i := strings.Index(text, "<!"); i >= 0; {
		rest := text[i+2:]
		u := strings.ToUpper(rest[:min(len(rest), 200)])
		switch {
		case strings.HasPrefix(u, "DOCTYPE") && (strings.Contains(u, "SYSTEM") || strings.Contains(u, "PUBLIC") && !strings.Contains(u, "DTD HTML") && !strings.Contains(u, "DTD XHTML") || strings.Contains(u, "[")):
			return "document type"
		case strings.HasPrefix(u, "ENTITY"):
			return "entity"
		case strings.HasPrefix(u, "--#"):
			for _, d := range []string{"EXEC", "INCLUDE", "ECHO", "CONFIG", "FSIZE", "FLASTMOD", "PRINTENV", "SET", "IF"} {
				if strings.HasPrefix(strings.TrimLeft(u[3:], " "), d) {
					return "server-side include"
				}
			}
		}
		next := strings.Index(rest, "<!")
		if next < 0 {
			break
		}
		i += 2 + next
	}
	l := strings.ToLower(text)
	if strings.Contains(l, "http://www.w3.org/2001/xinclude") || strings.Contains(l, "<xi:include") || strings.Contains(l, ":include namespace=") || strings.Contains(l, ":import namespace=") || strings.Contains(l, "schemalocation=") && strings.Contains(l, "xmlns") || strings.Contains(l, "<?xml-stylesheet") || strings.Contains(l, "http://www.w3.org/1999/xsl/transform") {
		return "external part"
	}
	return ""
}

func judgeHeader(text string, place Place, through []string) string {
	lines := 0 // that hold something, so far
	for from := 0; from < len(text); {
		end := strings.IndexAny(text[from:], "\r\n")
		if end < 0 {
			end = len(text) - from
		}
		line := strings.TrimSpace(text[from : from+end])
		first := from == 0
		from += end + 1
		if line == "" {
			continue
		}
		lines++
		if first {
			continue
		}
		if prefixFold(line, "http/1.") || prefixFold(line, "http/2") {
			return "status line"
		}
		if c := strings.IndexByte(line[:min(len(line), 32)], ':'); c > 0 && responseHeaders[strings.ToLower(strings.TrimSpace(line[:c]))] {
			return "header line"
		}
		// Deep inside a text of many lines only headers count.
		if (place != Text || lines <= 2) && mailCommand(line) {
			return "mail command"
		}
	}
	// U+560D and U+560A lose their high byte in some servers and become CR
	// and LF.
	if strings.Contains(text, "\u560d") || strings.Contains(text, "\u560a") {
		if _, rest, _ := strings.Cut(strings.NewReplacer("\u560d", "\n", "\u560a", "\n").Replace(text), "\n"); rest != "" {
			if name, _, ok := strings.Cut(strings.ToLower(strings.TrimSpace(rest)), ":"); ok && responseHeaders[name] {
				return "header line"
			}
		}
	}
	return ""
}

var responseHeaders = set("set-cookie", "content-length", "content-type", "transfer-encoding", "location", "x-xss-protection", "access-control-allow-origin", "refresh", "content-security-policy", "x-forwarded-host", "x-forwarded-for", "bcc", "cc", "content-transfer-encoding", "mime-version", "reply-to")

// mailCommand recognises a line of SMTP (RFC 5321) or IMAP (RFC 9051).
func mailCommand(line string) bool {
	u := strings.ToUpper(strings.TrimSpace(line))
	switch {
	case strings.HasPrefix(u, "RCPT TO:"), strings.HasPrefix(u, "MAIL FROM:"), u == "QUIT" && line == "QUIT", u == "DATA" && line == "DATA", strings.HasPrefix(u, "EHLO ") && strings.HasPrefix(line, "EHLO"), strings.HasPrefix(u, "VRFY "), u == "RSET", u == "STARTTLS":
		return true
	}
	tag, rest, ok := strings.Cut(u, " ")
	if !ok || len(tag) < 2 || len(tag) > 8 || !isDigit(tag[len(tag)-1]) || !isAlpha(tag[0]) {
		return false
	}
	command, _, _ := strings.Cut(rest, " ")
	switch command {
	case "CAPABILITY", "FETCH", "LOGOUT", "SELECT", "EXAMINE", "LOGIN", "STARTTLS", "EXPUNGE":
		return strings.Contains(line, command)
	}
	return false
}
