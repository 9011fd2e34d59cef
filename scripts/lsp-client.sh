#!/bin/sh
# Installs the pinned language client that tests "dewar lsp" into
# .cache/lsp-client. Does nothing when it is there already. Needs node and npm.
#
# Exit status: 0 ready, 1 could not be made (the reason is on standard error).
set -eu
unset CDPATH

root=$(cd -- "$(dirname -- "$0")/.." && pwd)
from=$root/internal/cli/testdata/lspclient
to=$root/.cache/lsp-client

fail() {
	printf 'lsp-client.sh: %s\n' "$1" >&2
	exit 1
}

ready() {
	[ -d "$to/node_modules" ] && cmp -s -- "$from/package-lock.json" "$to/.installed"
}

ready && exit 0
for tool in node npm; do
	command -v "$tool" >/dev/null 2>&1 || fail "$tool is not installed; the language client of the tests needs Node.js 18 or later"
done

# The lock is a directory because making one is atomic everywhere.
mkdir -p -- "$root/.cache"
lock=$root/.cache/lsp-client.lock
waited=0
until mkdir -- "$lock" 2>/dev/null; do
	waited=$((waited + 1))
	[ "$waited" -le 120 ] || fail "another run holds $lock; remove it when there is none"
	sleep 1
done
trap 'rm -rf -- "$lock"' EXIT
trap 'exit 1' HUP INT TERM
ready && exit 0

rm -rf -- "$to"
mkdir -- "$to"
cp -- "$from/package.json" "$from/package-lock.json" "$to/"
printf 'Installing the language client of the tests into .cache/lsp-client\n' >&2
# npm ci takes exactly what the lock file names, and checks its hashes.
(cd -- "$to" && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error) >"$lock/log" 2>&1 || {
	cat -- "$lock/log" >&2
	fail "npm could not install the pinned packages (see above); it needs a package index or a mirror of one"
}
cp -- "$from/package-lock.json" "$to/.installed"
