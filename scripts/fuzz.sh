#!/usr/bin/env bash
# Runs every fuzz test for FUZZTIME (10s). Fails when there is none to run.
set -euo pipefail
cd "$(dirname "$0")/.."
n=0
while IFS=: read -r file name; do
	go test -run '^$' -fuzz "^$name\$" -fuzztime "${FUZZTIME:-10s}" "./$(dirname "$file")"
	n=$((n + 1))
done < <(grep -rnoE --include='*_test.go' '^func Fuzz[A-Za-z0-9_]+' internal | sed -E 's/^([^:]+):[0-9]+:func /\1:/')
[ "$n" -gt 0 ] || { echo 'no fuzz tests found' >&2; exit 1; }
echo "$n fuzz tests ran"
