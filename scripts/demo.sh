#!/usr/bin/env bash
# The main job of Dewar on the example shop: audit, run behind the guard,
# probe, checklist. Leaves nothing running and nothing behind, however it
# ends.
set -euo pipefail
cd "$(dirname "$0")/.."
dewar=$PWD/bin/dewar
shop=$PWD/examples/shop
export PATH=$PWD/.venv/bin:$PATH VIRTUAL_ENV=$PWD/.venv

work=$(mktemp -d)
guard=
finish() {
	status=$?
	trap - EXIT INT TERM
	if [ -n "$guard" ] && kill -0 "$guard" 2>/dev/null; then
		kill -TERM "$guard"
		wait "$guard" || true
	fi
	rm -rf "$work"
	exit "$status"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

say() { printf '\n\033[1m── %s\033[0m\n\n' "$*"; }

# Free ports, so that the demo runs beside whatever else this machine does.
read -r https http console < <(python3 - <<'P'
import socket
s = [socket.socket() for _ in range(3)]
for x in s: x.bind(("127.0.0.1", 0))
print(*(x.getsockname()[1] for x in s))
P
)
site=https://localhost:$https

say "1 · audit: read the shop's source"
"$dewar" audit "$shop" || true

say "2 · run: gunicorn on a private socket, the guard in front, HTTPS"
SECRET_KEY=$(python3 -c 'import secrets; print(secrets.token_hex(32))')
export SECRET_KEY
export INSTANCE_PATH=$work/instance PROXY_HOPS=1
mkdir -p "$INSTANCE_PATH"
(cd "$shop" && flask --app wsgi seed >"$work/seed.log" 2>&1) || { cat "$work/seed.log" >&2; exit 1; }

export XDG_DATA_HOME=$work/data
"$dewar" run "$shop" --profile development \
	--set deployment.listen="127.0.0.1:$https" --set deployment.listen-http="127.0.0.1:$http" \
	--set deployment.console="127.0.0.1:$console" --set deployment.workers=2 \
	--set monitoring.log="$work/events.jsonl" >"$work/run.log" 2>&1 &
guard=$!

say "3 · probe and check: ask the live site, join all evidence"
if ! "$dewar" check "$shop" --profile development --url "$site" --wait 60s; then
	status=$?
	if ! kill -0 "$guard" 2>/dev/null || [ "$status" -gt 1 ]; then
		cat "$work/run.log" >&2
		exit 1
	fi
fi

say "What the guard said while it ran"
cat "$work/run.log"
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
