#!/usr/bin/env python3
"""CPU that a proxy spends on a request, side by side.

Starts one upstream (nginx on a unix socket, 1 KB or 100 KB of HTML) and, in
front of it, nginx, Go's bare httputil.ReverseProxy, and Dewar with every layer
on, with the WAF's judges off, and without the WAF; loads each in turns with wrk
over loopback; and prints a Markdown table of microseconds of CPU (user and
system time of the proxy's processes) for one request: the median of the
rounds, and how many times the bare ReverseProxy's.

    bench/proxy.py [--rounds 5] [--seconds 2] [--only GET,form] [--clients 10000] [--dewar FILE]

Needs nginx, wrk and Go. With Debian's libnginx-mod-http-modsecurity and
modsecurity-crs, nginx with ModSecurity takes part, too (it only detects: its rules
refuse some of these honest requests). Everything listens on
127.0.0.1 or a unix socket and ends with this program. Machines are noisy: read
ratios, not single figures.
"""
import argparse, glob, json, os, shutil, signal, socket, statistics, subprocess, sys, tempfile, time

root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
arg = argparse.ArgumentParser(description=__doc__.splitlines()[0])
arg.add_argument("--rounds", type=int, default=5)
arg.add_argument("--seconds", type=int, default=2, help="of load for each proxy, workload and round")
arg.add_argument("--only", default="", help="workloads: GET,form,JSON,HTML")
arg.add_argument("--proxies", default="", help="which take part, by name")
arg.add_argument("--clients", type=int, default=1, help="how many different clients ask: an address of its own each, as from a trusted proxy")
arg.add_argument("--dewar", default="", help="binary; built if empty")
opt = arg.parse_args()

for need in ("nginx", "wrk"):
    if not shutil.which(need):
        sys.exit(f"bench/proxy.py needs {need} (Debian: apt-get install nginx-light wrk)")

work = tempfile.mkdtemp(prefix="dewar-bench-")
procs = []


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def start(cmd, **kw):
    p = subprocess.Popen(cmd, stdout=open(os.path.join(work, "log"), "ab"), stderr=subprocess.STDOUT, cwd=work, start_new_session=True, **kw)
    procs.append(p)
    return p


def stop():
    for p in procs:
        try:
            os.killpg(p.pid, signal.SIGTERM)
        except ProcessLookupError:
            pass
    for p in procs:
        try:
            p.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(p.pid, signal.SIGKILL)
    shutil.rmtree(work, ignore_errors=True)


def wait(port):
    for _ in range(600):
        try:
            with socket.create_connection(("127.0.0.1", port), 0.2):
                return
        except OSError:
            time.sleep(0.1)
    sys.exit("a proxy did not start:\n" + open(os.path.join(work, "log"), errors="replace").read()[-3000:])


def write(name, text):
    path = os.path.join(work, name)
    with open(path, "w") as f:
        f.write(text)
    return path


# The upstream.
page = "<!doctype html><title>Shop</title><p>" + "The quick brown fox jumps over the lazy dog. " * 22
big = "<!doctype html><title>Shop</title>" + "<p class=\"item\">The quick brown fox jumps over the <b>lazy</b> dog, and costs 12.50 today.</p>\n" * 1050
os.makedirs(os.path.join(work, "www"))
os.chmod(work, 0o755)
write("www/small.html", page[:1024])
write("www/big.html", big[: 100 << 10])
upstream = os.path.join(work, "up.sock")
common = f"pid {work}/%s.pid; error_log {work}/nginx.err; worker_processes 2; events {{ worker_connections 512; }}"
head = f"access_log off; client_body_temp_path {work}/tmp; proxy_temp_path {work}/tmp2; fastcgi_temp_path {work}/t3; uwsgi_temp_path {work}/t4; scgi_temp_path {work}/t5; keepalive_requests 1000000; keepalive_timeout 60;"
user = "user root;" if os.geteuid() == 0 else ""
write("up.conf", f"""{user} {common % 'up'}
http {{ {head} default_type text/html;
 server {{ listen unix:{upstream}; root {work}/www; error_page 405 =200 /small.html; error_page 404 =200 /small.html;
  location = /big {{ try_files /big.html =404; }} location / {{ try_files /small.html =404; }} }} }}""")
start(["nginx", "-p", work, "-c", os.path.join(work, "up.conf"), "-g", "daemon off;"])

proxies = {}


def nginx(name, module="", extra=""):
    port = free_port()
    safe = "".join(c for c in name if c.isalnum())
    conf = write(safe + ".conf", f"""{module} {user} {common % safe}
http {{ {head} upstream u {{ server unix:{upstream}; keepalive 64; keepalive_requests 1000000; }}
 server {{ listen 127.0.0.1:{port}; {extra} location / {{ proxy_pass http://u; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $host; proxy_set_header X-Forwarded-For $remote_addr; }} }} }}""")
    proxies[name] = (port, start(["nginx", "-p", work, "-c", conf, "-g", "daemon off;"]))


nginx("nginx")
port = free_port()
bare = os.path.join(work, "reverseproxy")
subprocess.run(["go", "build", "-o", bare, os.path.join(root, "bench/reverseproxy.go")], check=True, cwd=root)
proxies["Go ReverseProxy"] = (port, start([bare, f"127.0.0.1:{port}", upstream], env=dict(os.environ, GOMAXPROCS="2")))

dewar = opt.dewar
if not dewar:
    dewar = os.path.join(work, "dewar")
    subprocess.run(["go", "build", "-trimpath", "-ldflags", "-s -w", "-o", dewar, "./cmd/dewar"], check=True, cwd=root, env=dict(os.environ, CGO_ENABLED="0"))


def guard(name, *settings):
    port, console = free_port(), free_port()
    d = os.path.join(work, name.replace(" ", "-").replace(",", ""))
    os.makedirs(d)
    with open(os.path.join(d, "dewar.toml"), "w") as f:
        f.write(f"""[app]
upstream = "unix:{upstream}"
policy = "off"
[deployment]
tls = "off"
trusted-proxies = ["{"127.0.0.1/32" if opt.clients > 1 else "192.0.2.1/32"}"]
listen = []
listen-http = ["127.0.0.1:{port}"]
console = "127.0.0.1:{console}"
https = "off"
[monitoring]
log = "{d}/security.log"
[settings]
mask = "enforce"
[abuse]
rate = "1000000/s burst 1000000"
sensitive-rate = "1000000/s burst 1000000"
""")
    cmd = [dewar, "run", d, "--profile", "development"]
    for s in settings:
        cmd += ["--set", s]
    proxies[name] = (port, start(cmd, env=dict(os.environ, HOME=d, XDG_STATE_HOME=d)))


guard("Dewar")
guard("Dewar, structure off", "injection.structure=false")
guard("Dewar, WAF off", "injection.mode=off")

module = next(iter(glob.glob("/usr/lib/nginx/modules/ngx_http_modsecurity_module.so")), "")
if module and os.path.exists("/usr/share/modsecurity-crs/owasp-crs.load"):
    rules = write("ms.conf", "SecRuleEngine DetectionOnly\nSecRequestBodyAccess On\nSecResponseBodyAccess Off\nSecAuditEngine Off\nInclude /etc/modsecurity/crs/crs-setup.conf\nInclude /usr/share/modsecurity-crs/rules/*.conf\n")
    nginx("nginx + ModSecurity", f"load_module {module};", f"modsecurity on; modsecurity_rules_file {rules};")

if opt.proxies:
    for name in list(proxies):
        if name not in opt.proxies.split(";"):
            proxies.pop(name)

# The load.
headers = {
    "Host": "shop.example",
    "User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    "Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
    "Accept-Language": "en-GB,en;q=0.7,de;q=0.3",
    "Cookie": "session=eyJfZnJlc2giOmZhbHNlfQ.Zr1abc.Q2hhbmdlTWU; theme=dark; consent=2026-11-01",
    "Sec-Fetch-Site": "same-origin",
    "Sec-Fetch-Mode": "navigate",
    "Referer": "http://shop.example/products?page=2",
}
form = "&".join(f"field{i}=" + v for i, v in enumerate(["Anna+Schmidt", "anna.schmidt%40example.org", "12+High+Street", "Springfield", "2026-11-28", "I+would+like+the+blue+one+please%2C+and+a+receipt.", "yes", "42", "%2B44+20+7946+0018", "The+parcel+can+be+left+with+the+neighbours+at+number+14+if+nobody+answers+the+door+before+noon."] * 3) if i < 24)
form += "&note=" + "+".join(["some", "longer", "words", "about", "the", "order"] * 25)
body = json.dumps({"items": [{"id": i, "name": f"Product number {i}", "price": 12.5 + i, "tags": ["blue", "large"], "note": "left at the door"} for i in range(63)]})
workloads = {
    "GET": ("GET", "/products?page=2&sort=price&q=blue+shoes", None, None),
    "form": ("POST", "/order", "application/x-www-form-urlencoded", form),
    "JSON": ("POST", "/api/order", "application/json", body),
    "HTML": ("GET", "/big", None, None),
}
if opt.only:
    workloads = {k: v for k, v in workloads.items() if k in opt.only.split(",")}


def script(name, method, path, kind, text):
    lines = [f"wrk.method = {json.dumps(method)}", f"wrk.path = {json.dumps(path)}"]
    lines += [f"wrk.headers[{json.dumps(k)}] = {json.dumps(v)}" for k, v in headers.items()]
    if kind:
        lines += [f'wrk.headers["Content-Type"] = {json.dumps(kind)}', 'wrk.headers["Origin"] = "http://shop.example"', f"wrk.body = [==[{text}]==]"]
    if opt.clients > 1:
        lines.append(f"""math.randomseed(os.time())
request = function()
  local n = math.random(0, {opt.clients - 1})
  wrk.headers["X-Forwarded-For"] = string.format("100.%d.%d.%d", 64 + math.floor(n / 65536) % 64, math.floor(n / 256) % 256, n % 256)
  return wrk.format()
end""")
    lines.append('done = function(s, l, r) io.write(string.format("RESULT %d %d\\n", s.requests, s.errors.status + s.errors.read + s.errors.connect + s.errors.timeout)) end')
    return write(name + ".lua", "\n".join(lines))


scripts = {name: script(name, *w) for name, w in workloads.items()}
tick = os.sysconf("SC_CLK_TCK")


def family(pid):
    out = [pid]
    for task in glob.glob(f"/proc/{pid}/task/*/children"):
        try:
            for child in open(task).read().split():
                out += family(int(child))
        except OSError:
            pass
    return out


def cpu(p):
    total = 0
    for pid in family(p.pid):
        try:
            f = open(f"/proc/{pid}/stat").read().rsplit(") ", 1)[1].split()
            total += int(f[11]) + int(f[12])
        except OSError:
            pass
    return total / tick


def memory(p):
    kb = 0
    for pid in family(p.pid):
        try:
            for line in open(f"/proc/{pid}/smaps_rollup"):
                if line.startswith("Pss:"):
                    kb += int(line.split()[1])
        except OSError:
            pass
    return kb / 1024


def load(port, name, seconds):
    out = subprocess.run(["wrk", "-t1", "-c8", f"-d{seconds}s", "-s", scripts[name], f"http://127.0.0.1:{port}"], capture_output=True, text=True, timeout=seconds + 60).stdout
    for line in out.splitlines():
        if line.startswith("RESULT"):
            n, bad = map(int, line.split()[1:])
            return n, bad
    sys.exit("wrk said nothing: " + out)


try:
    for port, _ in proxies.values():
        wait(port)
    time.sleep(1)
    figures = {}
    for r in range(opt.rounds + 1):
        for w in workloads:
            for name, (port, p) in proxies.items():
                before = cpu(p)
                n, bad = load(port, w, opt.seconds if r else 1)
                used = cpu(p) - before
                if bad > n // 100:
                    sys.exit(f"{name}, {w}: {bad} of {n} requests failed:\n" + open(os.path.join(work, "log"), errors="replace").read()[-2000:])
                if r:
                    figures.setdefault((name, w), []).append(used / max(n, 1) * 1e6)
        print(f"round {r}" if r else "warm", file=sys.stderr, flush=True)
    print("| proxy | " + " | ".join(workloads) + " | memory |")
    print("| --- |" + " ---: |" * (len(workloads) + 1))
    for name, (_, p) in proxies.items():
        row = []
        for w in workloads:
            m = statistics.median(figures[name, w])
            base = figures.get(("Go ReverseProxy", w))
            row.append(f"{m:,.0f} µs" + (f" ({m / statistics.median(base):.2f})" if base else ""))
        print(f"| {name} | " + " | ".join(row) + f" | {memory(p):.0f} MiB |")
finally:
    stop()
