#!/usr/bin/env bash
# Counts failed requests while "dewar run" is reloaded and upgraded under load
# on loopback, over HTTP/1.1 (connections kept, and one for each request) and
# HTTP/2, half of them POST, which no client repeats by itself.
#
#   bench/lifecycle.sh [RELOADS [UPGRADES [CLIENTS]]]     100 5 2
#
# Prints one line; anything but "0 dropped" is a failure.
set -euo pipefail
cd "$(dirname "$0")/.."
export LIFECYCLE_RELOADS=${1:-100} LIFECYCLE_UPGRADES=${2:-5} LIFECYCLE_CLIENTS=${3:-2}
export DEWAR_REQUIRE_REAL=1
exec go test -count 1 -timeout 60m -run 'TestLifecycle$' ./internal/cli -v
