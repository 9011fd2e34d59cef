#!/usr/bin/env bash
# Measures `dewar audit` against Bandit and Semgrep on the directories given:
# wall time, CPU time and peak resident memory, medians over rounds in which
# the tools take turns. Prints a Markdown table.
#
#   scripts/bench-audit.sh [-n ROUNDS] [-r SEMGREP-RULES] DIR...
#
# BANDIT and SEMGREP name the programs (default: those on PATH; one that is
# not there is left out). Semgrep runs the rules in the folder given with -r
# (its registry is not asked) and is left out without it. DEWAR names the
# binary, else it is built. Every run of Dewar starts without a cache. All
# tools get the same two CPUs. LIMIT is the seconds a run may take (600).
set -euo pipefail

rounds=3 rules=
while getopts n:r: o; do
	case $o in
	n) rounds=$OPTARG ;;
	r) rules=$(realpath "$OPTARG") ;;
	*) exit 2 ;;
	esac
done
shift $((OPTIND - 1))
if [ $# = 0 ]; then
	echo "usage: scripts/bench-audit.sh [-n ROUNDS] [-r SEMGREP-RULES] DIR..." >&2
	exit 2
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
if [ -z "${DEWAR:-}" ]; then
	DEWAR=$work/dewar
	(cd "$(dirname "$0")/.." && go build -o "$DEWAR" ./cmd/dewar)
fi
export DEWAR BANDIT=${BANDIT:-$(command -v bandit || true)} SEMGREP=${SEMGREP:-$(command -v semgrep || true)}
export ROUNDS=$rounds RULES=$rules WORK=$work LIMIT=${LIMIT:-600}
exec python3 - "$@" <<'PY'
import json, os, resource, shutil, signal, statistics, subprocess, sys, time

env, work = os.environ, os.environ["WORK"]
limit, cpus = float(env["LIMIT"]), set(sorted(os.sched_getaffinity(0))[:2])
out = os.path.join(work, "out.json")


def dewar(d):
    return [env["DEWAR"], "audit", d, "--no-cache", "--exit-zero", "--format", "json=" + out], {0}


def bandit(d):
    return [env["BANDIT"], "-q", "-r", d, "-f", "json", "-o", out, "--exit-zero"], {0}


def semgrep(d):
    return [env["SEMGREP"], "scan", "--metrics", "off", "--disable-version-check", "--config", env["RULES"],
            "--jobs", str(len(cpus)), "--quiet", "--json", "--output", out, d], {0, 1}


tools = [dewar]
if env["BANDIT"]:
    tools.append(bandit)
if env["SEMGREP"] and env["RULES"]:
    tools.append(semgrep)


def lines(d):
    n = 0
    for top, _, files in os.walk(d):
        for f in files:
            p = os.path.join(top, f)
            if f.endswith(".py") and os.path.isfile(p):
                with open(p, "rb") as fh:
                    n += fh.read().count(b"\n")
    return n


def peak(pid):
    """The resident bytes of pid and all that it started, at this moment."""
    total, todo = 0, [pid]
    while todo:
        p = todo.pop()
        try:
            with open(f"/proc/{p}/statm") as f:
                total += int(f.read().split()[1]) * resource.getpagesize()
            for t in os.listdir(f"/proc/{p}/task"):
                with open(f"/proc/{p}/task/{t}/children") as f:
                    todo += map(int, f.read().split())
        except (OSError, IndexError):
            pass
    return total


def run(tool, d):
    """Wall and CPU seconds, peak MB and findings of one run."""
    cmd, good = tool(d)
    cache = os.path.join(work, "cache")
    shutil.rmtree(cache, ignore_errors=True)
    if os.path.exists(out):
        os.unlink(out)
    with open(os.path.join(work, "log"), "w") as log:
        began = time.monotonic()
        p = subprocess.Popen(cmd, stdout=log, stderr=log, start_new_session=True,
                             env={**os.environ, "XDG_CACHE_HOME": cache},
                             preexec_fn=lambda: os.sched_setaffinity(0, cpus))
        most = 0
        while True:
            pid, status, used = os.wait4(p.pid, os.WNOHANG)
            if pid:
                break
            most = max(most, peak(p.pid))
            if time.monotonic() - began > limit:
                os.killpg(p.pid, signal.SIGKILL)
            time.sleep(0.02)
    wall = time.monotonic() - began
    code = os.waitstatus_to_exitcode(status)
    p.returncode = code
    if code not in good:
        how = f"ran longer than {limit:.0f} s" if wall > limit else f"ended with {code}"
        print(f"{tool.__name__} on {d} {how}: {open(os.path.join(work, 'log')).read()[-300:].strip()}", file=sys.stderr)
        return None
    with open(out) as f:
        j = json.load(f)
    return wall, used.ru_utime + used.ru_stime, max(most, used.ru_maxrss * 1024) / 2**20, len(j.get("findings", j.get("results", [])))


print(f"{len(cpus)} CPUs, {env['ROUNDS']} rounds, medians. Wall s / CPU s / peak MiB / findings.\n")
print("| project | lines of Python | " + " | ".join(t.__name__ for t in tools) + " |")
print("| --- | ---: |" + " --- |" * len(tools))
failed = False
for d in sys.argv[1:]:
    d = os.path.abspath(d)
    got = {t: [] for t in tools}
    for _ in range(int(env["ROUNDS"])):
        for t in tools:
            got[t].append(run(t, d))
    cells = []
    for t in tools:
        if None in got[t]:
            failed = True
            cells.append("failed")
            continue
        w, c, m, n = (statistics.median(x) for x in zip(*got[t]))
        cells.append(f"{w:.2f} / {c:.2f} / {m:.0f} / {n:.0f}")
    print(f"| {os.path.basename(d)} | {lines(d)} | " + " | ".join(cells) + " |", flush=True)
sys.exit(failed)
PY
