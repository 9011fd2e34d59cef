#!/bin/sh
# Makes .cache/oidc-provider: the npm package oidc-provider, an OpenID provider
# that others have written, for the test of the login at the edge. Does nothing
# when it is there. Without npm it says so and leaves the test out, unless
# DEWAR_REQUIRE_REAL is set.
#
# Exit status: 0 ready or left out, 1 could not be made (the reason is on
# standard error).
set -eu
unset CDPATH

root=$(cd -- "$(dirname -- "$0")/.." && pwd)
source=$root/internal/cli/testdata/oidc-provider
dir=$root/.cache/oidc-provider
cd -- "$root"

if ! command -v node >/dev/null 2>&1 || ! command -v npm >/dev/null 2>&1; then
	printf 'oidc-provider.sh: node and npm are not installed (apt-get install nodejs npm): one test is left out\n' >&2
	[ -z "${DEWAR_REQUIRE_REAL:-}" ] || exit 1
	exit 0
fi
want=$({
	node --version
	cat -- "$source/package-lock.json"
} | sha256sum)
[ -f "$dir/.stamp" ] && [ "$(cat -- "$dir/.stamp")" = "$want" ] && exit 0
printf 'Installing the npm package oidc-provider into .cache/oidc-provider\n' >&2
rm -rf -- "$dir"
mkdir -p -- "$dir"
cp -- "$source/package.json" "$source/package-lock.json" "$dir/"
log=$(mktemp)
if ! (cd -- "$dir" && npm ci --ignore-scripts --no-audit --no-fund) >"$log" 2>&1; then
	cat -- "$log" >&2
	rm -f -- "$log"
	exit 1
fi
rm -f -- "$log"
printf '%s\n' "$want" >"$dir/.stamp"
