#!/bin/sh
# Makes .venv at the root of the repository and installs the pinned packages of
# the example apps and their tests. Does nothing when neither the requirements
# nor the interpreter changed. PYTHON names another interpreter than python3.
#
# Exit status: 0 ready, 1 could not be made (the reason is on standard error).
set -eu
unset CDPATH

root=$(cd -- "$(dirname -- "$0")/.." && pwd)
venv=$root/.venv
stamp=$venv/.requirements.sha256
python=${PYTHON:-python3}
requirements="examples/shop/requirements.txt
examples/leaky/requirements.txt
examples/requirements-dev.txt"

fail() {
	printf 'venv.sh: %s\n' "$1" >&2
	exit 1
}

command -v "$python" >/dev/null 2>&1 ||
	fail "$python is not installed; the example apps need Python 3.11 or later"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
	fail "$("$python" -V 2>&1) is too old; the example apps need Python 3.11 or later (PYTHON=/path/to/python3.11 names another)"

cd -- "$root"
# The interpreter and the place count too: an environment knows both by heart.
want=$(
	{
		"$python" -c 'import sys; print(sys.version, sys.executable)'
		pwd
		for file in $requirements; do
			cat -- "$file" || exit 1
		done
	} | "$python" -c 'import hashlib, sys; print(hashlib.sha256(sys.stdin.buffer.read()).hexdigest())'
)

ready() {
	[ -x "$venv/bin/python" ] && [ -f "$stamp" ] && [ "$(cat -- "$stamp")" = "$want" ]
}

ready && exit 0

"$python" -c 'import ensurepip, venv' 2>/dev/null || {
	version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
	fail "$python has no venv module; on Debian and Ubuntu: apt-get install python$version-venv"
}

# Two runs at once (make -j) must not write into one environment. The lock is a
# directory because making one is atomic everywhere.
mkdir -p -- "$root/.cache"
lock=$root/.cache/venv.lock
waited=0
until mkdir -- "$lock" 2>/dev/null; do
	waited=$((waited + 1))
	[ "$waited" -le 300 ] ||
		fail "another run holds $lock; remove it when there is none"
	sleep 1
done
trap 'rm -rf -- "$lock"' EXIT
trap 'exit 1' HUP INT TERM
ready && exit 0

log=$lock/log
printf 'Installing the example apps'\'' packages into .venv\n' >&2
"$python" -m venv --clear "$venv" >"$log" 2>&1 || {
	cat -- "$log" >&2
	fail "could not make $venv"
}
set --
for file in $requirements; do
	set -- "$@" -r "$file"
done
# --require-hashes: what is installed is what was pinned, bit for bit.
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-input \
	--require-hashes "$@" >"$log" 2>&1 || {
	cat -- "$log" >&2
	fail "pip could not install the pinned packages (see above); it needs a package index or a mirror of one"
}
printf '%s\n' "$want" >"$stamp"
