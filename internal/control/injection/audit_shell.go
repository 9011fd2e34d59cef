package injection

import (
	"path"
	"slices"
	"strings"

	"github.com/dewar-security/dewar/internal/audit"
	"github.com/dewar-security/dewar/internal/pyflow"
)

// plainWord are the characters that a shell takes as they are.
var plainWord = pyflow.CharRange(`a-zA-Z0-9_./:@%+,\-=\u`)

// shell walks the text of a shell command (POSIX.1-2024 §2.2).
type shell struct {
	quote   byte // 0, ' or "
	comment bool
	word    bool // inside of a word
	command bool // where the next word names a program
	back    bool // after a backslash
}

func (s *shell) text(t string) {
	for i := 0; i < len(t); i++ {
		c := t[i]
		switch {
		case s.comment:
			s.comment = c != '\n'
			if !s.comment {
				s.word, s.command = false, true
			}
		case s.back:
			s.back, s.word = false, true
		case c == '\\' && s.quote != '\'':
			s.back = true
		case s.quote != 0:
			if c == s.quote {
				s.quote = 0
			}
		case c == '\'' || c == '"':
			s.quote, s.word = c, true
		case c == '#' && !s.word:
			s.comment = true
		case strings.IndexByte(";|&(\n`", c) >= 0:
			s.word, s.command = false, true
		case c == ' ' || c == '\t' || c == ')' || c == '<' || c == '>':
			if s.word {
				s.command = false
			}
			s.word = false
		default:
			s.word = true
		}
	}
}

// shellExit finds a labelled piece that a shell can be made to read as more
// than the word it stands in. What shlex.quote made is harmless outside of
// quotes only: between them it closes them, or "$(…)" in it is run.
func shellExit(pieces []pyflow.Piece, ok accept) (exit, bool) {
	s := shell{command: true}
	for i, p := range pieces {
		if !p.Unknown {
			s.text(p.Literal)
			continue
		}
		labels := audit.Live(p, ok)
		if len(labels) == 0 {
			s.word = true
			continue
		}
		made := len(audit.Live(p, ok, "command")) == 0
		why := ""
		switch {
		case made && p.Harmless.For("*"):
		case s.comment:
			if audit.CanHoldAny(p, "\r\n") {
				why = "stands in a comment, which a line end closes"
			}
		case s.quote == '\'' && audit.CanHold(p, "'"):
			why = "stands between ' quotes and can close them"
		case s.quote == '"' && audit.CanHoldAny(p, "\"$`"):
			why = `stands between " quotes, where $(…) is run and a quotation mark closes them`
		case s.quote != 0:
		case made:
			if s.command && !s.word {
				why = "names the program"
			}
		case s.command && !s.word && !audit.Only(p, audit.Digits):
			why = "names the program"
		case !audit.Only(p, plainWord):
			why = "stands in the command without quotes"
		}
		if why != "" {
			e := exit{Label: labels[0], Piece: i, Why: why}
			if s.quote != 0 && !made {
				e.Spot = string(s.quote)
			}
			return e, true
		}
		s.word = true
	}
	return exit{}, false
}

// shells take a script as an argument after one of the options.
var shells = map[string][]string{
	"sh": {"-c"}, "bash": {"-c", "-lc", "-ic", "-xc", "-ec"}, "dash": {"-c"}, "zsh": {"-c", "-lc"}, "ksh": {"-c"}, "ash": {"-c"}, "fish": {"-c"}, "busybox": {"-c"}, "su": {"-c", "--command"},
	"cmd": {"/c", "/C", "/k", "/K"}, "cmd.exe": {"/c", "/C", "/k", "/K"}, "powershell": {"-c", "-Command", "-command"}, "powershell.exe": {"-c", "-Command", "-command"}, "pwsh": {"-c", "-Command"},
}

// languages run code that is given in an argument after one of the options.
var languages = map[string][]string{
	"python": {"-c"}, "python3": {"-c"}, "python2": {"-c"}, "perl": {"-e", "-E"}, "ruby": {"-e"}, "node": {"-e", "--eval", "-p"}, "php": {"-r"}, "awk": {""}, "sqlite3": {"-cmd"},
}

// wrappers start the program that follows their options.
var wrappers = []string{"env", "sudo", "nice", "nohup", "timeout", "time", "xargs", "setsid", "stdbuf", "doas", "chroot", "exec"}

// argvExit finds a labelled argument that chooses the program or is a script
// for one. Other arguments are data to the program.
func argvExit(argv []pyflow.Value, ok accept) (exit, bool) {
	var found exit
	any := func(v pyflow.Value, why string, check func([]pyflow.Piece) (exit, bool)) bool {
		for _, t := range audit.Texts(v) {
			if e, bad := check(t.Pieces); bad {
				found = e
				if why != "" {
					found.Why = why
				}
				return true
			}
		}
		return false
	}
	named := func(pieces []pyflow.Piece) (exit, bool) {
		for i, p := range pieces {
			// A program in a folder of the application's own is its choice.
			if l := audit.Live(p, ok, "command"); len(l) > 0 && !audit.Only(p, audit.Digits) &&
				(i == 0 || audit.CanHold(p, "../") && !strings.Contains(audit.Before(pieces, i), " ")) {
				return exit{Label: l[0], Piece: i, Why: ""}, true
			}
		}
		return exit{}, false
	}
	for len(argv) > 0 {
		if any(argv[0], "names the program that is started", named) {
			return found, true
		}
		// One alternative that is a constant is enough to go on.
		program := ""
		argv[0].Each(func(v pyflow.Value) {
			if s, ok := v.Const(); ok && program == "" {
				program = path.Base(strings.ReplaceAll(s, `\`, "/"))
			}
		})
		args := argv[1:]
		if options, is := shells[program]; is {
			if i := afterOption(args, options); i >= 0 && any(args[i], "", func(p []pyflow.Piece) (exit, bool) { return shellExit(p, ok) }) {
				found.Why += " of a script for " + program
				return found, true
			}
			return exit{}, false
		}
		if options, is := languages[program]; is {
			if i := afterOption(args, options); i >= 0 && any(args[i], "", func(p []pyflow.Piece) (exit, bool) { return pythonExit(p, ok, "command") }) {
				found.Why += " of a script for " + program
				return found, true
			}
			return exit{}, false
		}
		if program == "ssh" {
			for i, a := range args {
				if i > 0 && any(a, "", func(p []pyflow.Piece) (exit, bool) { return shellExit(p, ok) }) {
					found.Why += ", and ssh gives its arguments to a shell"
					return found, true
				}
			}
			return exit{}, false
		}
		if !slices.Contains(wrappers, program) {
			return exit{}, false
		}
		argv = args
		for len(argv) > 0 {
			s, known := argv[0].Const()
			if !known || !strings.HasPrefix(s, "-") && !strings.Contains(s, "=") && strings.Trim(s, "0123456789.smhd") != "" {
				break
			}
			argv = argv[1:]
		}
	}
	return exit{}, false
}

// afterOption returns the index of the argument behind one of the options, or
// -1. The option "" is the first argument that is none itself.
func afterOption(args []pyflow.Value, options []string) int {
	for i, a := range args {
		s, known := a.Const()
		for _, o := range options {
			if o == "" && (!known || !strings.HasPrefix(s, "-")) {
				return i
			}
			if known && o != "" && s == o && i+1 < len(args) {
				return i + 1
			}
		}
	}
	return -1
}

// lineExit finds a labelled piece behind a program's name in one text for a
// command, without a shell. Windows cuts such a text into arguments; elsewhere
// it is the name of a program that is not there, so that where this works at
// all a client adds arguments.
func lineExit(h *pyflow.Hit, v pyflow.Value) (exit, bool) {
	if shell, given := h.Arg(8, "shell"); given && !audit.MayBe(shell, false) || h.Path == "subprocess.getoutput" || h.Path == "subprocess.getstatusoutput" {
		return exit{}, false
	}
	for _, t := range audit.Texts(v) {
		for i, p := range t.Pieces {
			before := audit.Before(t.Pieces, i)
			if l := audit.Live(p, known, "command"); len(l) > 0 && strings.Contains(strings.TrimLeft(before, " "), " ") && audit.CanHoldAny(p, " \t") {
				return exit{Label: l[0], Piece: i, Why: "stands in one text with the program, which Windows cuts into arguments at each space"}, true
			}
		}
	}
	return exit{}, false
}

// dangerousOptions are programs with an option that runs another program,
// writes a file of the caller's choice, or reads one.
var dangerousOptions = []string{
	"git", "hg", "svn", "tar", "ssh", "scp", "sftp", "rsync", "find", "xargs", "zip", "7z", "curl", "wget", "man", "psql", "mysql", "mysqldump", "sqlite3",
	"ffmpeg", "sendmail", "mail", "chromium", "google-chrome", "wkhtmltopdf", "wkhtmltoimage", "pip", "npm", "docker", "kubectl", "openssl", "gpg", "php", "tcpdump", "vim", "awk", "sed", "sort", "diff", "pandoc", "pdflatex", "soffice", "libreoffice",
}

// optionExit finds a labelled argument of such a program that can begin with
// "-" where options are still read.
func optionExit(argv []pyflow.Value, ok accept) (exit, bool) {
	if len(argv) == 0 {
		return exit{}, false
	}
	program, _ := argv[0].Const()
	if program = path.Base(program); !slices.Contains(dangerousOptions, program) {
		return exit{}, false
	}
	value := false // the argument belongs to the option before it
	for _, a := range argv[1:] {
		if s, known := a.Const(); known {
			if s == "--" {
				return exit{}, false
			}
			value = len(s) == 2 && s[0] == '-' || strings.HasPrefix(s, "--") && !strings.Contains(s, "=")
			continue
		}
		for _, t := range audit.Texts(a) {
			p := t.Pieces[0]
			if l := audit.Live(p, ok, "command"); len(l) > 0 && !value && audit.CanBegin(p, '-') && !audit.Only(p, audit.Digits) {
				return exit{Label: l[0], Piece: 0, Why: "can begin with -, and " + program + " has options that run programs or write files"}, true
			}
		}
		value = false
	}
	return exit{}, false
}
