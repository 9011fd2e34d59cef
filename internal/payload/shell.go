package payload

import "strings"

// The judge of shells asks whether a text would end the command it stands in
// and begin another: a separator or substitution, then the name of a program
// that is really there on servers (or a path to one), with nothing that only
// prose has. Quotes, backslashes and empty expansions inside a name are read
// as the shell reads them: c'a't and c\at are cat.

func judgeShell(text string, place Place, _ []string) string {
	if strings.Contains(text, "() {") || strings.Contains(text, "(){") {
		if i := strings.Index(text, "()"); i >= 0 && strings.Contains(text[i:], "{") && strings.Contains(text[i:], ";") && strings.Contains(text[i:], "};") && strings.TrimSpace(text[:i]) == "" {
			return "function import"
		}
	}
	if strings.Contains(text, "$IFS") || strings.Contains(text, "${IFS") || strings.Contains(text, "${PATH:") || strings.Contains(text, "${HOME:") || strings.Contains(text, "${HOME%") || strings.Contains(text, "${PATH%") || strings.Contains(text, "/dev/tcp/") || strings.Contains(text, "$@") && strings.ContainsAny(text, ";|&`") {
		return "expansion"
	}
	if place == Field && browserLike(text) {
		return ""
	}
	if strings.HasPrefix(strings.TrimLeft(text, "'\""), `\n`) {
		text = strings.ReplaceAll(text, `\n`, "\n")
	}
	start := len(text) - len(strings.TrimLeft(text, " \t\r\n")) // where something stands
	unclosed := false                                           // a run of backticks that nothing closes
	pipes := 0                                                  // where the last run of bars ends
	arithmetic := -1                                            // where the last )) with a sign before it is
	for i := 0; i < len(text); i++ {
		c := text[i]
		if markTable[c]&(markSemi|markBreak|markPipe|markAmp|markDollar|markTick|markOp) == 0 {
			continue
		}
		rest := ""
		shape := "command after separator"
		switch {
		case c == ';' || c == '\n' || c == '\r':
			if c != ';' && emptyLine(text[i+1:]) {
				continue // what comes is judged behind the last of the line ends
			}
			first := i <= start
			if c != ';' && !first && place != Segment && place != Field && place != Name {
				// Lines are honest in a text; a command on a line of its
				// own must look like nothing else.
				if shellLine(text[i+1:]) {
					return "command on a line"
				}
				continue
			}
			rest = text[i+1:]
			if c != ';' && first {
				if name, _ := commandWord(rest); ambiguous[name] && strings.Contains(strings.TrimSpace(rest), " ") {
					continue
				}
			}
		case c == '|':
			if i < pipes {
				continue // judged at the run's beginning
			}
			for pipes = i + 1; pipes < len(text) && (text[pipes] == '|' || text[pipes] == '&'); {
				pipes++
			}
			rest = text[pipes:]
			if nl := strings.TrimLeft(rest, " \t"); nl != "" && (nl[0] == '\n' || nl[0] == '\r') {
				continue
			}
		case c == '&':
			if i+1 < len(text) && text[i+1] == '&' {
				rest = text[i+2:]
				i++
			} else {
				// One & also joins words and parameters.
				rest = text[i+1:]
				if strings.IndexByte(rest[:min(len(rest), 24)], '=') >= 0 {
					continue
				}
				if name, after := commandWord(rest[:min(len(rest), maxCommand)]); !shellCommands[name] || strings.HasPrefix(after, ";") || !argumentLike(name, after) {
					continue // &dash; is a character in HTML
				}
			}
		case c == '$' && i+1 < len(text) && text[i+1] == '(':
			rest = text[i+2:]
			shape = "command substitution"
			if strings.HasPrefix(rest, "(") && i > 0 {
				if arithmetic < 0 {
					arithmetic = max(0, min(strings.LastIndex(text, "))"), strings.LastIndexAny(text, "+-*/")))
				}
				if arithmetic > i {
					continue // arithmetic: judged by what stands around it
				}
			}
		case c == '`':
			if i+1 < len(text) && text[i+1] == '`' {
				// ``…``: code in reStructuredText and Markdown.
				run := 2
				for i+run < len(text) && text[i+run] == '`' {
					run++
				}
				i += run - 1
				if unclosed {
					continue
				}
				if end := strings.Index(text[i+1:], text[i+1-run:i+1]); end >= 0 {
					i += end + run
				} else {
					unclosed = true
				}
				continue
			}
			end := strings.IndexByte(text[i+1:], '`')
			if end <= 0 {
				continue
			}
			inner := text[i+1 : i+1+end]
			alone := i <= start && strings.TrimSpace(text[i+end+2:]) == ""
			glued := i > 0 && !isSpace(text[i-1]) && strings.IndexByte("(\"'*_[", text[i-1]) < 0
			name, after := commandWord(inner[:min(len(inner), maxCommand)])
			if alone && (strings.HasPrefix(name, "/bin/") || strings.HasPrefix(name, "/usr/bin/")) {
				return "command substitution"
			}
			if (alone || glued) && shellCommands[name] && (argumentLike(name, after) || strings.TrimSpace(after) == "") {
				return "command substitution"
			}
			// `…` is code to writers of Markdown.
			i += end + 1
			continue
		case (c == '<' || c == '>') && i+1 < len(text) && text[i+1] == '(':
			rest = text[i+2:]
			shape = "command substitution"
		default:
			continue
		}
		rest = trimBlanks(rest)
		name, after := commandWord(rest[:min(len(rest), maxCommand)])
		if name == "" {
			continue
		}
		if strings.HasPrefix(name, "/bin/") || strings.HasPrefix(name, "/usr/bin/") || strings.HasPrefix(name, "/sbin/") || strings.HasPrefix(name, "/???") || strings.HasPrefix(name, "/b?n/") {
			return shape
		}
		base := name[strings.LastIndexByte(name, '/')+1:]
		base = strings.TrimSuffix(base, ".exe")
		if !shellCommands[base] {
			continue
		}
		if c == ';' && plainArgument(text[:i]) && (base == "id" || base == "env") && strings.TrimSpace(after) == "" {
			return shape // behind an address, a file or a number: "id" in a list of names has names before it
		}
		if c != '&' && redirects(after) {
			return shape
		}
		if argumentLike(base, after) || c != '&' && i <= start && strings.Trim(after, " \t\r\n;|&\x00") == "" {
			return shape
		}
	}
	// Without a separator: an option that programs run, a whole command.
	if i := strings.Index(text, "--exec="); i >= 0 || strings.Contains(text, "--upload-pack=") || strings.Contains(text, "-oProxyCommand=") || strings.Contains(text, "--checkpoint-action=") {
		return "argument that runs a command"
	}
	// cmd=127.0.0.1 && …: judged above. A command of its own with a path
	// that only an attack reads.
	if name, after := commandWord(text); shellCommands[name] && !ambiguous[name] && sensitivePath(unquoteShell(after)) {
		return "command"
	}
	if sensitivePath(text) && !strings.ContainsAny(text, "'\"\\*?") {
		return ""
	}
	if strings.ContainsAny(text, "'\"\\") && strings.Contains(text, "/") {
		if u := unquoteShell(text); u != text && sensitivePath(u) && !sensitivePath(text) {
			return "quoted path"
		}
	}
	return ""
}

// trimBlanks drops spaces and tabs from the beginning of s.
func trimBlanks(s string) string {
	for s != "" && (s[0] == ' ' || s[0] == '\t') {
		s = s[1:]
	}
	return s
}

// emptyLine says that s begins with blanks and the end of a line.
func emptyLine(s string) bool {
	s = trimBlanks(s)
	return s != "" && (s[0] == '\n' || s[0] == '\r')
}

// maxCommand is how many bytes behind a separator are read as a command.
const maxCommand = 256

// commandWord reads the first word of a command as a shell does: assignments
// and grouping before it skipped, quotes and backslashes inside it dropped.
func commandWord(s string) (name, after string) {
	s = strings.TrimLeft(s, " \t\r\n({!`\"")
	var b strings.Builder
	i := 0
	for i < len(s) {
		c := s[i]
		if isWord(c) || c == '/' || c == '.' || c == '-' || c == '?' || c == '*' && b.Len() > 0 && strings.HasPrefix(b.String(), "/") {
			b.WriteByte(c)
			i++
			continue
		}
		if (c == '\'' || c == '"') && i+1 < len(s) {
			// A quote inside or around a word; an apostrophe ends one.
			if end := strings.IndexByte(s[i+1:], c); end >= 0 && end < 24 && !strings.ContainsAny(s[i+1:i+1+end], " \t") {
				b.WriteString(s[i+1 : i+1+end])
				i += end + 2
				continue
			}
			break
		}
		if c == '\\' && i+1 < len(s) && isAlpha(s[i+1]) {
			i++
			continue
		}
		break
	}
	return b.String(), s[i:]
}

// argumentLike says that what follows a command's name is what follows it in
// a shell, and not the rest of a sentence. Names that are words of everyday
// need an argument to be believed.
func argumentLike(name, after string) bool {
	t := strings.TrimLeft(after, " \t+")
	spaced := len(t) < len(after)
	if t == "" || strings.ContainsRune(";|&`)#><\n", rune(t[0])) {
		if ambiguous[name] {
			return t != "" && strings.IndexByte("|&`>)", t[0]) >= 0 || t != "" && t[0] == ';' && len(t) < 4
		}
		return true
	}
	if !spaced {
		return t[0] == '$' || t[0] == '<' || t[0] == '{' || t[0] == '%' || t[0] == ',' && strings.IndexByte(t, '}') > 1
	}
	// The first argument.
	arg := t
	if end := strings.IndexAny(t, " \t;|&`)>\n"); end >= 0 {
		arg = t[:end]
	}
	switch {
	case len(arg) > 1 && (arg[0] == '-' && isAlpha(arg[1]) || strings.HasPrefix(arg, "--")):
		return true
	case arg[0] == '/' && (len(arg) > 2 && isAlnum(arg[1]) || !ambiguous[name]), arg[0] == '$', arg[0] == '~', arg[0] == '*', strings.HasPrefix(arg, "./"), strings.HasPrefix(arg, "../"):
		return true
	case strings.Contains(arg, "://"), strings.Contains(arg, "/etc"), strings.Contains(arg, `:\`), arg[0] == '%' && strings.LastIndexByte(arg, '%') > 1:
		return true
	case (name == "sleep" || name == "ping" || name == "kill" || name == "timeout") && isDigit(arg[0]) && strings.Trim(arg, "0123456789.s") == "":
		return true
	case len(arg) == 2 && arg[0] == '/' && isAlpha(arg[1]) && (name == "set" || name == "dir" || name == "del" || name == "copy" || name == "move" || name == "type" || name == "net" || name == "reg" || name == "ver"):
		return true // an option of a Windows command
	case name == "net" && (arg == "user" || arg == "localgroup" || arg == "view" || arg == "share" || arg == "use"):
		return true
	case arg[0] == '\'' || arg[0] == '"':
		return !ambiguous[name] || strings.ContainsAny(t[1:], "'\"")
	}
	if ambiguous[name] {
		return false
	}
	// An address, a file, a number for programs that take one: nothing but a
	// short line up to the end or the next separator.
	line := t
	if end := strings.IndexAny(t, ";|&`\n)#>"); end >= 0 {
		line = t[:end]
	}
	words := strings.Fields(line)
	if len(words) <= 2 {
		return true
	}
	for _, w := range words {
		if strings.ContainsAny(w, "/\\$=*") || w[0] == '-' || strings.Count(w, ".") > 1 {
			return true
		}
	}
	return false
}

// plainArgument says that a text is what a command may have for its argument
// and a list of names does not hold: an address, a file, a number.
func plainArgument(s string) bool {
	s = strings.TrimSpace(s)
	if s == "" || strings.ContainsAny(s, " \t\r\n;,") {
		return false
	}
	return strings.Trim(s, "0123456789") == "" || strings.ContainsRune(s, '/') || strings.Contains(strings.Trim(s, "."), ".")
}

// redirects says that a command's output goes to a file with an absolute path.
func redirects(after string) bool {
	line := after
	if end := strings.IndexAny(line, ";|&`\n"); end >= 0 {
		line = line[:end]
	}
	i := strings.IndexByte(line, '>')
	if i < 0 || len(line) == len(strings.TrimLeft(line, " \t")) {
		return false
	}
	path := strings.TrimLeft(line[i:], "> \t")
	return len(path) > 2 && path[0] == '/' && isAlnum(path[1]) && strings.IndexByte(path[2:], '/') > 0
}

// shellLine says that a line of a text is a command that prose and pasted
// programs would not begin a line with.
func shellLine(s string) bool {
	line, _, _ := strings.Cut(s, "\n")
	name, after := commandWord(line)
	return name != "" && shellCommands[name[strings.LastIndexByte(name, '/')+1:]] && !ambiguous[name] && sensitivePath(unquoteShell(after))
}

func unquoteShell(s string) string {
	return strings.NewReplacer("'", "", `"`, "", `\`, "").Replace(s)
}

// shellCommands are programs and built-ins that attacks run on Unix and
// Windows servers.
var shellCommands = set("cat", "ls", "id", "whoami", "uname", "pwd", "ps", "env", "printenv", "wget", "curl", "nc", "ncat", "netcat", "bash", "sh", "zsh", "ksh", "dash", "csh",
	"python", "python2", "python3", "perl", "ruby", "php", "node", "lua", "ping", "nslookup", "dig", "host", "getent", "ifconfig", "ip", "netstat", "ss", "rm", "mv", "cp", "chmod", "chown",
	"touch", "mkdir", "echo", "printf", "sleep", "kill", "killall", "head", "tail", "tac", "more", "less", "nl", "od", "xxd", "hexdump", "base64", "base32", "strings", "grep", "egrep", "awk", "gawk", "sed", "sort", "uniq", "cut", "rev", "find", "xargs", "tee", "dd",
	"tar", "zip", "unzip", "gzip", "gcc", "cc", "make", "git", "ssh", "scp", "sftp", "ftp", "tftp", "telnet", "socat", "openssl", "busybox", "crontab", "at", "sudo", "su", "passwd", "useradd", "mysql", "psql", "sqlite3",
	"type", "dir", "del", "copy", "move", "ipconfig", "systeminfo", "tasklist", "net", "cmd", "powershell", "pwsh", "certutil", "bitsadmin", "reg", "wmic", "set", "ver", "hostname", "w", "who", "last", "df", "mount", "lsof", "nohup", "eval", "exec", "source", "export", "reboot", "shutdown", "halt", "apt", "apt-get", "yum", "apk", "pip", "docker", "kubectl", "rename", "mail", "sendmail", "vi", "vim", "nano", "script", "tcpdump", "nmap", "time", "timeout", "test", "read", "cd", "file", "stat", "split", "sum", "date", "history", "alias", "finger", "which", "arp", "route", "traceroute", "tracert", "netsh", "schtasks", "sc", "mshta", "rundll32", "regsvr32")

// ambiguous are those that a sentence may have behind a semicolon, a bar or
// an ampersand.
var ambiguous = set("at", "host", "more", "less", "sort", "cut", "find", "head", "tail", "last", "who", "w", "make", "mail", "script", "time", "test", "read", "file", "split", "sum", "date", "history",
	"set", "type", "copy", "move", "net", "echo", "sleep", "kill", "touch", "strings", "env", "source", "export", "mount", "more", "route", "finger", "which", "ip", "ping", "dig", "node", "ruby", "perl", "python", "git", "zip", "cp", "reg", "ver", "cat", "eval", "exec", "alias", "cc", "su", "id", "apt", "docker", "rename", "ss", "tar", "stat", "cd", "php", "make", "shutdown", "reboot", "halt", "timeout", "tee", "rev", "awk", "lua", "hostname", "vi", "mysql", "bash", "zsh")

// sensitivePath says that a path is one that attacks read to show that they
// can, or for what is in it.
func sensitivePath(s string) bool {
	hint := false
	for i := 0; i < len(s) && !hint; i++ {
		if s[i] == '/' || s[i] == '\\' {
			end := i + 1
			for end < len(s) && end < i+16 && s[end] != '/' && s[end] != '\\' && !isSpace(s[end]) {
				end++
			}
			hint = sensitiveNames[strings.ToLower(s[i+1:end])]
		}
	}
	l := ""
	if hint {
		l = strings.ToLower(s)
	} else if strings.Contains(s, ".ini") || strings.Contains(s, ".INI") || strings.Contains(s, "ntuser") {
		l = strings.ToLower(s)
	} else {
		return false
	}
	for _, p := range sensitivePaths {
		if strings.Contains(l, p) {
			return true
		}
	}
	return false
}

// sensitiveNames are the parts by which [sensitivePath] knows that a text is
// worth a closer look.
var sensitiveNames = set("etc", "proc", ".ssh", ".aws", ".bash_history", ".env", ".git", ".htpasswd", ".htaccess", "wp-config.php", "var", "windows", "win.ini", "boot.ini", "ntuser.dat", "web.config", "web-inf", "system32", "inetpub", "docker.sock", "winnt", "log", "run")

var sensitivePaths = []string{"/etc/passwd", "/etc/shadow", "/etc/group", "/etc/hosts", "/etc/issue", "/etc/sudoers", "/etc/motd", "/etc/crontab", "/etc/ssh/", "/etc/mysql", "/etc/apache", "/etc/nginx", "/etc/httpd", "/etc/environment", "/etc/resolv.conf", "/etc/os-release",
	"/proc/self/", "/proc/version", "/proc/cpuinfo", "/proc/net/", "/proc/1/", "/.ssh/", "/.aws/credentials", "/.bash_history", "/.env", "/.git/config", "/.htpasswd", "/.htaccess", "/wp-config.php", "/var/log/apache", "/var/log/nginx", "/var/log/auth.log", "/var/run/secrets",
	`win.ini`, `boot.ini`, `\windows\system32`, "/windows/system32", `ntuser.dat`, "web.config", "web-inf/web.xml", `\system32\drivers\etc`, "/windows/win.ini", `\inetpub\`, "/docker.sock"}
