#!/usr/bin/env bash
# What hostile clients do to the example shop behind the guard: latency beside
# slow POSTs, memory under thousands of slow clients, slowhttptest and h2spec.
# Loopback only, about five minutes. Needs bin/dewar and .venv (make build venv).
#
#   H2SPEC=/path/to/h2spec   another binary than the one the Go module builds
#   CLIENTS=10000            slow clients of each kind
#   WAF=observe              mode of the waf layer (default off: its rules alone
#                            take more memory than all clients)
set -euo pipefail
cd "$(dirname "$0")/.."
dewar=$PWD/bin/dewar
shop=$PWD/examples/shop
export PATH=$PWD/.venv/bin:$PATH VIRTUAL_ENV=$PWD/.venv
clients=${CLIENTS:-10000}

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

read -r https http console < <(python3 - <<'P'
import socket
s = [socket.socket() for _ in range(3)]
for x in s: x.bind(("127.0.0.1", 0))
print(*(x.getsockname()[1] for x in s))
P
)
SECRET_KEY=$(python3 -c 'import secrets; print(secrets.token_hex(32))')
export SECRET_KEY INSTANCE_PATH=$work/instance PROXY_HOPS=1 XDG_DATA_HOME=$work/data
mkdir -p "$INSTANCE_PATH"
(cd "$shop" && flask --app wsgi seed >"$work/seed.log" 2>&1) || { cat "$work/seed.log" >&2; exit 1; }
ulimit -n "$(ulimit -Hn)"
go build -o "$work/hostile" bench/hostile.go

start() { # start SETTING... : the guard with the settings, on the shop
	"$dewar" run "$shop" --profile development \
		--set deployment.listen="127.0.0.1:$https" --set deployment.listen-http="127.0.0.1:$http" \
		--set deployment.console="127.0.0.1:$console" --set deployment.workers=2 --set deployment.max-connections=20000 \
		--set abuse.rate-limit=off --set injection.mode="${WAF:-off}" --set monitoring.log="$work/events.jsonl" "$@" >"$work/run.log" 2>&1 &
	guard=$!
	for _ in $(seq 300); do
		curl -skf -o /dev/null "$site" && return
		kill -0 "$guard" 2>/dev/null || break
		sleep 0.2
	done
	cat "$work/run.log" >&2
	exit 1
}

stop() { kill -TERM "$guard"; wait "$guard" || true; guard=; }

site=http://localhost:$http/
echo "== slow clients in clear text"
start --set deployment.tls=off --set deployment.header-timeout=120s --set deployment.body-timeout=120s
"$work/hostile" -url "$site" -pid "$guard" -clients "$clients"
stop

echo "== slowhttptest: with the default time-outs, is the site there for others?"
start --set deployment.tls=off
for test in "-H -i 5" "-B -i 5 -s 8192" "-X -w 1 -y 10 -n 5 -z 10"; do
	# shellcheck disable=SC2086 # the words are options
	printf '%-28s ' "slowhttptest $test"
	slowhttptest $test -c 1000 -r 500 -l 20 -p 3 -u "$site" -t GET 2>&1 |
		sed 's/\x1b\[[0-9;]*m//g' | grep -aE 'service available|Exit status' | tail -2 | tr -s ' \t\n' ' '
	echo
done
stop

site=https://localhost:$https/
echo "== slow clients inside TLS"
start --set deployment.header-timeout=120s --set deployment.body-timeout=120s
"$work/hostile" -url "$site" -pid "$guard" -clients "$((clients / 5))"
stop

echo "== h2spec"
start
h2spec=${H2SPEC:-}
if [ -z "$h2spec" ]; then
	GOBIN=$work go install github.com/summerwind/h2spec/cmd/h2spec@v2.2.1+incompatible
	h2spec=$work/h2spec
fi
"$h2spec" -h localhost -p "$https" -t -k -o 3 >"$work/h2spec.log" 2>&1 || true
grep -aE '^[0-9]+ tests' "$work/h2spec.log"
sed -n '/^Failures/,$p' "$work/h2spec.log" | grep -aE '^ *[×✗x] |Expected|Actual' | head -40
stop
