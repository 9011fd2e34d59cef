#!/usr/bin/env bash
# What the WAF refuses of gotestwaf's attacks and lets pass of its harmless
# texts, in front of the example shop: the Core Rule Set alone and with values
# judged by grammar, at paranoia levels 1 and 2. Prints a Markdown table.
# Loopback only, about three minutes. Needs bin/dewar and .venv (make build venv).
#
#   bench/gotestwaf.sh FOLDER   of gotestwaf's source, whose tests are sent
#
# The layers csrf, rate-limit and never-public are off: they would refuse much
# of both for what it is not. What the shop itself answers (a page, 404, 405, a
# redirection to the login) has passed; what is refused as malformed HTTP is
# neither.
set -euo pipefail
tool=$(cd "${1:?usage: bench/gotestwaf.sh FOLDER}" && pwd)
cd "$(dirname "$0")/.."
source scripts/shop.sh

(cd "$tool" && go build -o "$work/gotestwaf" ./cmd/gotestwaf)
read -r http console < <(free_ports 2)
stock_shop

echo '| rules | paranoia level | attacks blocked | harmless passed |'
echo '| --- | ---: | ---: | ---: |'
for level in 1 2; do
	for structure in false true; do
		"$dewar" run "$shop" --profile development --set deployment.tls=off --set deployment.listen-http="127.0.0.1:$http" \
			--set deployment.console="127.0.0.1:$console" --set deployment.workers=2 --set abuse.rate-limit=off --set csrf.mode=off --set settings.never-public=off \
			--set injection.paranoia=$level --set injection.structure=$structure --set monitoring.log="$work/events.jsonl" ${SETTINGS:-} >"$work/run.log" 2>&1 &
		guard=$!
		for _ in $(seq 300); do
			curl -sf -o /dev/null "http://localhost:$http/" && break
			kill -0 "$guard" 2>/dev/null || { cat "$work/run.log" >&2; exit 1; }
			sleep 0.2
		done
		(cd "$tool" && "$work/gotestwaf" --url "http://localhost:$http/" --noEmailReport --skipWAFIdentification --skipWAFBlockCheck --sendDelay 0 --randomDelay 1 --workers 2 \
			--blockStatusCodes 403 --passStatusCodes 200,302,303,308,404,405,415 --reportFormat json --reportPath "$work" --reportName "r$level$structure" --quiet --includePayloads >"$work/g.log" 2>&1) || { tail -5 "$work/g.log" >&2; exit 1; }
		kill -TERM "$guard"
		wait "$guard" || true
		guard=
		python3 - "$work/r$level$structure.json" "$level" "$structure" <<'P'
import json, sys
r = json.load(open(sys.argv[1]))
s = r["summary"]
a, b = s["true_positive_tests"]["summary"], s["true_negative_tests"]["summary"]
name = "with grammar" if sys.argv[3] == "true" else "plain"
def cell(part, of): return f"{part} of {of} ({100 * part / max(of, 1):.1f} %)"
print(f"| {name} | {sys.argv[2]} | {cell(a['blocked_tests'] if 'blocked_tests' in a else a['blocked'], a['resolved_tests'])} | {cell(b['bypassed_tests'] if 'bypassed_tests' in b else b['bypassed'], b['resolved_tests'])} |")
P
		[ -z "${KEEP:-}" ] || cp "$work/r$level$structure.json" "$KEEP/"
	done
done
