#!/usr/bin/env python3
"""Counts honest requests that the guard refuses: wrong blocks.

A visitor of a kind walks through an app behind a running guard: it follows
links of the same site, breadth first, fills in forms with what a person would
write, and sends them. Everything it sends is honest, so every refusal in the
guard's security log is a wrong one, unless the app by itself says the same:
--bare is the same app without a guard, which is asked again about each refused
GET. Bounded in requests and time; loopback only.

    dewar run DIR --log events.jsonl …
    bench/wrongblocks.py https://127.0.0.1:8443 --log events.jsonl \\
        --bare http://127.0.0.1:8000 --login /login username=kim password=…

Prints one line for each layer and reason, and ends with 1 if something was
refused wrongly.
"""

import argparse
import collections
import html.parser
import http.cookiejar
import json
import random
import ssl
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

AGENT = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
# Words of links and forms that end the walk or what it walks through.
ENDS = ("logout", "signout", "sign-out", "log-out", "delete", "remove", "shutdown", "restart", "reset", "uninstall", "clear", "reconnect", "update-self", "stop")
TEXTS = (
    "A comfortable blue chair", "O'Neill & Sons", "50% off; really?", "select the best one, then order by mail", "Größe: 12 × 7 cm", "fewer than 3, or more than 5?",
    "see https://www.example.com/a?b=c&d=e", "line one\r\nline two -- and more\r\n", "C# or C++ (both)", "it's \"fine\", isn't it?", "日本語のテキスト", "{not a template}", "-5.5e3", "Dear all, the meeting is at 9:30 (room 2); bring a pen + paper!", "kim@example.com, lee@example.com",
)
# With --hard also these: people write them, and they are what attacks look like.
HARD = ("1 < 2 and 3 > 2", "../ is the folder above", "' or 1=1 is how it is done", "use <b> for bold", "rm -rf / is dangerous")


class Page(html.parser.HTMLParser):
    """Links and forms of a page."""

    def __init__(self, base):
        super().__init__()
        self.base, self.links, self.forms, self.form, self.select, self.area = base, [], [], None, None, None

    def handle_starttag(self, tag, attrs):
        a = dict(attrs)
        if tag == "base" and a.get("href"):
            self.base = urllib.parse.urljoin(self.base, a["href"])
        for name in ("href", "src", "hx-get", "data-url"):
            if a.get(name) and tag in ("a", "link", "script", "img", "iframe", "button", "div", "li", "span"):
                self.links.append(urllib.parse.urljoin(self.base, a[name]))
        if tag == "form":
            self.form = {"action": urllib.parse.urljoin(self.base, a.get("action") or ""), "method": (a.get("method") or "get").upper(), "type": a.get("enctype") or "application/x-www-form-urlencoded", "fields": []}
            self.forms.append(self.form)
        elif self.form is not None and a.get("name"):
            if tag == "input":
                self.form["fields"].append({"kind": (a.get("type") or "text").lower(), "name": a["name"], "value": a.get("value"), "checked": "checked" in a, "most": int(a["maxlength"]) if (a.get("maxlength") or "").isdigit() else 0})
            elif tag == "textarea":
                self.form["fields"].append({"kind": "textarea", "name": a["name"], "value": None, "most": 0})
            elif tag == "select":
                self.select = {"kind": "select", "name": a["name"], "value": None, "options": [], "many": "multiple" in a}
                self.form["fields"].append(self.select)
            elif tag == "button" and (a.get("type") or "submit") == "submit":
                self.form["fields"].append({"kind": "submit", "name": a["name"], "value": a.get("value") or ""})
        if tag == "option" and self.select is not None:
            self.select["options"].append(a.get("value") or "")

    def handle_endtag(self, tag):
        if tag == "form":
            self.form = None
        elif tag == "select":
            self.select = None


class NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *args):
        return None


class Visitor:
    def __init__(self, site, options):
        self.site, self.options = site.rstrip("/"), options
        self.jar = http.cookiejar.CookieJar(http.cookiejar.DefaultCookiePolicy(rfc2965=False))
        context = ssl.create_default_context(cafile=options.ca) if options.ca else ssl._create_unverified_context()
        self.opener = urllib.request.build_opener(NoRedirect(), urllib.request.HTTPCookieProcessor(self.jar), urllib.request.HTTPSHandler(context=context))
        self.sent = {}  # request id: what was asked
        self.statuses = collections.Counter()
        self.random = random.Random(options.seed)
        self.last = None

    def ask(self, method, url, body=None, kind=None, referer=None, fetch=False):
        time.sleep(self.options.pace)
        url = urllib.parse.quote(url, safe="%/:=&?~#+!$,;'@()*[]")
        headers = {
            "User-Agent": AGENT, "Accept-Language": "en-US,en;q=0.5", "Accept": "application/json" if fetch else "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
            "Sec-Fetch-Site": "same-origin" if referer else "none", "Sec-Fetch-Mode": "cors" if fetch else "navigate", "Sec-Fetch-Dest": "empty" if fetch else "document",
        }
        if referer:
            headers["Referer"] = referer
        if method not in ("GET", "HEAD"):
            headers["Origin"] = self.site
        if kind:
            headers["Content-Type"] = kind
        request = urllib.request.Request(url, data=body, method=method, headers=headers)
        try:
            answer = self.opener.open(request, timeout=30)
        except urllib.error.HTTPError as e:
            answer = e
        except (urllib.error.URLError, OSError, ValueError) as e:
            print("  no answer to %s %s: %s" % (method, url, e), file=sys.stderr)
            return None
        with answer:
            text = answer.read(1 << 20)
        self.statuses[answer.status] += 1
        self.sent[answer.headers.get("X-Request-Id", "")] = (method, url, answer.status, kind or "")
        answer.text = text
        return answer

    def ours(self, url):
        return url.split("#")[0].startswith(self.site + "/") or url.split("#")[0] == self.site

    def value(self, f, password):
        kind, name = f["kind"], f["name"].lower()
        if kind in ("hidden", "submit", "button", "image", "reset"):
            return f["value"] or ""
        if kind in ("checkbox", "radio"):
            return (f["value"] or "on") if f.get("checked") or self.random.random() < 0.5 else None
        if kind == "select":
            return self.random.choice(f["options"]) if f["options"] else ""
        if kind == "password":
            return password
        # People leave most of what stands in a form as it is.
        if f["value"] and self.random.random() < 0.7:
            return f["value"]
        if any(w in name for w in ("dir", "path", "folder", "location")):
            return f["value"] or "/srv/library"
        if kind == "email" or "mail" in name:
            return "kim@example.com"
        if kind in ("number", "range") or name in ("page", "id", "count", "port", "quantity"):
            return str(self.random.randint(1, 30))
        if kind == "date":
            return "2026-11-28"
        if kind == "url" or "url" in name or "website" in name:
            return "https://www.example.com/shop?item=7"
        if kind == "color":
            return "#336699"
        if "user" in name and kind == "text":
            return "kim"
        text = self.random.choice(TEXTS + HARD if self.options.hard else TEXTS)
        if kind != "textarea":
            text = text.replace("\r\n", " ").strip()
        return text[: f["most"]] if f.get("most") else text

    def send(self, form, referer):
        fields, pressed = [], False
        for f in form["fields"]:
            if f["kind"] in ("submit", "image"):
                if pressed:
                    continue
                pressed = True
            if f["kind"] == "file":
                fields.append((f["name"], None))
                continue
            v = self.value(f, self.options.password)
            if v is not None:
                fields.append((f["name"], v))
        if form["method"] != "POST":
            query = urllib.parse.urlencode([(k, v) for k, v in fields if v is not None])
            return self.ask("GET", form["action"].split("?")[0].split("#")[0] + "?" + query, referer=referer)
        if form["type"] == "multipart/form-data":
            cut = "----geckoformboundary%030x" % self.random.getrandbits(120)
            parts = []
            for k, v in fields:
                if v is None:
                    parts.append('--%s\r\nContent-Disposition: form-data; name="%s"; filename=""\r\nContent-Type: application/octet-stream\r\n\r\n\r\n' % (cut, k))
                else:
                    parts.append('--%s\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n' % (cut, k, v))
            return self.ask("POST", form["action"], ("".join(parts) + "--%s--\r\n" % cut).encode(), "multipart/form-data; boundary=" + cut, referer)
        body = urllib.parse.urlencode([(k, v or "") for k, v in fields]).encode()
        return self.ask("POST", form["action"], body, "application/x-www-form-urlencoded", referer)

    def login(self, path, given):
        url = self.site + path
        a = self.ask("GET", url)
        page = Page(url)
        page.feed(a.text.decode("utf-8", "replace"))
        forms = [f for f in page.forms if any(x["kind"] == "password" for x in f["fields"])]
        if not forms:
            sys.exit("no form with a password at %s (status %d)" % (url, a.status))
        given = dict(g.split("=", 1) for g in given)
        fields = [(f["name"], given.get(f["name"], f["value"] or "")) for f in forms[0]["fields"] if f["kind"] != "checkbox"]
        a = self.ask("POST", forms[0]["action"], urllib.parse.urlencode(fields).encode(), "application/x-www-form-urlencoded", url)
        print("  login: status %d, to %s" % (a.status, a.headers.get("Location")))

    def walk(self, starts):
        queue, seen, sent = collections.deque(), set(), collections.Counter()
        for s in starts:
            queue.append((self.site + s, None))
        shapes = collections.Counter()
        while queue and sum(self.statuses.values()) < self.options.most:
            url, referer = queue.popleft()
            url = url.split("#")[0]
            if url in seen or not self.ours(url) or any(w in url.lower() for w in ENDS):
                continue
            seen.add(url)
            # Of pages that differ in a number only, a few.
            shape = "".join("0" if c.isdigit() else c for c in url.split("?")[0])
            shapes[shape] += 1
            if shapes[shape] > 6:
                continue
            a = self.ask("GET", url, referer=referer)
            if a is None:
                continue
            if a.status in (301, 302, 303, 307, 308) and a.headers.get("Location"):
                queue.appendleft((urllib.parse.urljoin(url, a.headers["Location"]), url))
                continue
            if "html" not in a.headers.get("Content-Type", ""):
                continue
            page = Page(url)
            try:
                page.feed(a.text.decode("utf-8", "replace"))
            except Exception as e:
                print("  %s: %s" % (url, e), file=sys.stderr)
            for form in page.forms:
                key = form["method"] + " " + form["action"].split("?")[0]
                # The shape of the form, so that the same one on a hundred pages is sent a few times.
                if sent[key] >= 3 or not self.ours(form["action"]) or any(w in form["action"].lower() for w in ENDS):
                    continue
                if any(f["kind"] == "submit" and any(w in (f["value"] or "").lower() for w in ENDS) for f in form["fields"]):
                    continue
                sent[key] += 1
                a = self.send(form, url)
                if a is not None and a.headers.get("Location"):
                    queue.append((urllib.parse.urljoin(url, a.headers["Location"]), url))
            for link in page.links:
                queue.append((link, url))


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("site")
    p.add_argument("--log", required=True, help="the guard's security log")
    p.add_argument("--bare", help="the same app without the guard")
    p.add_argument("--ca", help="certificate to trust; without it none is verified")
    p.add_argument("--login", nargs="+", help="path of the login page, then name=value of its fields")
    p.add_argument("--start", action="append", default=[], help="paths to begin with, besides /")
    p.add_argument("--requests", help="file of further requests: METHOD PATH [TYPE BODY], separated by tabs")
    p.add_argument("--password", default="a-long-Passphrase-27")
    p.add_argument("--most", type=int, default=400, help="requests")
    p.add_argument("--pace", type=float, default=0.12, help="seconds between two requests")
    p.add_argument("--notes", action="store_true", help="also print what was only noted")
    p.add_argument("--hard", action="store_true", help="write texts that look like attacks, too")
    p.add_argument("--seed", type=int, default=7)
    o = p.parse_args()
    host = urllib.parse.urlsplit(o.site).hostname
    if host not in ("127.0.0.1", "localhost", "::1"):
        sys.exit("%s is not this machine" % host)
    v = Visitor(o.site, o)
    before = sum(1 for _ in open(o.log)) if o.log else 0
    if o.login:
        v.login(o.login[0], o.login[1:])
    if o.requests:
        for line in open(o.requests):
            method, path, *rest = line.rstrip("\n").split("\t")
            v.ask(method, v.site + path, rest[1].encode() if len(rest) > 1 else None, rest[0] if rest else None, v.site + "/", fetch=len(rest) > 0)
    v.walk(["/"] + o.start)
    time.sleep(1)

    events = collections.Counter()
    wrong, right = [], 0
    for i, line in enumerate(open(o.log)):
        if i < before:
            continue
        e = json.loads(line)
        asked = v.sent.get(e.get("http.request.id") or "")
        if asked is None or e.get("dewar.verdict") not in ("deny", "observe"):
            continue
        verdict = e["dewar.verdict"]
        if o.notes and verdict == "observe":
            print("  noted: %s %s → %d by %s: %s %s" % (asked[0], asked[1], asked[2], e.get("dewar.layer"), e.get("dewar.reason"), (e.get("dewar.detail") or "")[:300]))
        if verdict == "deny":
            # An error of the app's own that gets another page is no refusal.
            same = e.get("dewar.layer") == "mask" and asked[2] >= 500
            if not same and o.bare and asked[0] in ("GET", "HEAD"):
                try:
                    with urllib.request.urlopen(urllib.request.Request(o.bare.rstrip("/") + asked[1][len(v.site):], method=asked[0], headers={"User-Agent": AGENT}), timeout=30) as r:
                        same = r.status == asked[2]
                except urllib.error.HTTPError as err:
                    same = err.code == asked[2]
                except OSError:
                    pass
            if same:
                right += 1
                verdict = "deny, and so does the app"
            else:
                wrong.append((asked, e))
        events[(e.get("dewar.layer"), verdict, e.get("dewar.reason"))] += 1
    total = sum(v.statuses.values())
    print("  %d honest requests: %s" % (total, ", ".join("%d × %d" % (n, s) for s, n in sorted(v.statuses.items()))))
    for (layer, verdict, reason), n in sorted(events.items(), key=str):
        print("  %-16s %-26s %-24s %d" % (layer, verdict, reason, n))
    for asked, e in wrong[:40]:
        print("  WRONG: %s %s → %d by %s: %s %s" % (asked[0], asked[1], asked[2], e.get("dewar.layer"), e.get("dewar.reason"), (e.get("dewar.detail") or "")[:300]))
    print("  %d refused wrongly of %d" % (len(wrong), total))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
