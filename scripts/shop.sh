# The example shop for a run of its own: what scripts/demo.sh and the scripts
# under bench/ share. To be sourced, with errexit on, in the repository's root.
#
# Afterwards dewar, shop and work (a folder that goes with the script) are set,
# and what is started as $guard ends with the script, however it ends.

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

# free_ports N prints N ports that nothing listens on, so that a script runs
# beside whatever else this machine does. They are below those that the kernel
# gives to connections, which could have one before the guard does.
free_ports() {
	python3 - "$1" <<'P'
import random, socket, sys
held = {}
while len(held) < int(sys.argv[1]):
    port = random.randrange(10000, 20000)
    try:
        held[port] = held.get(port) or socket.create_server(("127.0.0.1", port))
    except OSError:
        pass
print(*held)
P
}

# stock_shop gives the shop a key, a folder and something to sell.
stock_shop() {
	SECRET_KEY=$(python3 -c 'import secrets; print(secrets.token_hex(32))')
	export SECRET_KEY INSTANCE_PATH=$work/instance PROXY_HOPS=1 XDG_DATA_HOME=$work/data
	mkdir -p "$INSTANCE_PATH"
	(cd "$shop" && flask --app wsgi seed >"$work/seed.log" 2>&1) || { cat "$work/seed.log" >&2; exit 1; }
}
