#!/usr/bin/env bash
# The main job of Dewar on the example shop: audit, run behind the guard,
# probe, checklist. Leaves nothing running and nothing behind, however it
# ends.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/shop.sh

say() { printf '\n\033[1m── %s\033[0m\n\n' "$*"; }

read -r https http console < <(free_ports 3)
site=https://localhost:$https

say "1 · audit: read the shop's source"
status=0
"$dewar" audit "$shop" || status=$?
[ "$status" -le 1 ] # 1 says that there are findings, more that it could not read

say "2 · run: gunicorn on a private socket, the guard in front, HTTPS"
stock_shop
"$dewar" run "$shop" --profile development \
	--set deployment.listen="127.0.0.1:$https" --set deployment.listen-http="127.0.0.1:$http" \
	--set deployment.console="127.0.0.1:$console" --set deployment.workers=2 \
	--set monitoring.log="$work/events.jsonl" >"$work/run.log" 2>&1 &
guard=$!

say "3 · probe and check: ask the live site, join all evidence"
status=0
"$dewar" check "$shop" --profile development --url "$site" --wait 60s || status=$?
# 1 says that a promise does not hold, more that it could not look.
if [ "$status" -gt 1 ] || ! kill -0 "$guard" 2>/dev/null; then
	cat "$work/run.log" >&2
	exit 1
fi

say "What the guard said while it ran"
requests='│ [^ ]+ \[[^]]+\] "[A-Z]+ ' # the app's own access log
grep -Ev "$requests" "$work/run.log"
printf '    … and %s lines of the app'"'"'s access log\n' "$(grep -Ec "$requests" "$work/run.log")"
printf '\nThe security log has %s events; the last one:\n' "$(wc -l <"$work/events.jsonl")"
tail -n 1 "$work/events.jsonl"

cat <<'T'

Where to look next:
  bin/dewar audit examples/leaky           the same shop with every promise broken
  bin/dewar explain csrf                   what a control is, and what speaks about it
  bin/dewar run examples/shop --profile development
                                           run it yourself, then open https://localhost:8443
  cd your-project && dewar init            settings for your own app
  docs/                                    controls, rules, layers, settings
T
