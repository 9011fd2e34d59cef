#!/bin/sh
# Makes .cache/backends/NAME for every internal/gateway/testdata/backends/NAME.txt:
# an environment with that version of an app's server, for the differential
# test. Does nothing for those that are there. PYTHON names another interpreter
# than python3.
#
# Exit status: 0 ready, 1 could not be made (the reason is on standard error).
set -eu
unset CDPATH

root=$(cd -- "$(dirname -- "$0")/.." && pwd)
python=${PYTHON:-python3}
cd -- "$root"
mkdir -p -- .cache/backends

for file in internal/gateway/testdata/backends/*.txt; do
	name=$(basename -- "$file" .txt)
	dir=$root/.cache/backends/$name
	want=$({
		"$python" -c 'import sys; print(sys.version, sys.executable)'
		echo "$dir"
		cat -- "$file"
	} | "$python" -c 'import hashlib, sys; print(hashlib.sha256(sys.stdin.buffer.read()).hexdigest())')
	[ -f "$dir/.stamp" ] && [ "$(cat -- "$dir/.stamp")" = "$want" ] && continue
	printf 'Installing %s into .cache/backends\n' "$name" >&2
	log=$(mktemp)
	if ! { "$python" -m venv --clear "$dir" &&
		"$dir/bin/python" -m pip install --quiet --disable-pip-version-check --no-input \
			--only-binary :all: --require-hashes -r "$file"; } >"$log" 2>&1; then
		cat -- "$log" >&2
		rm -f -- "$log"
		printf 'backends.sh: %s could not be installed (see above)\n' "$name" >&2
		exit 1
	fi
	rm -f -- "$log"
	printf '%s\n' "$want" >"$dir/.stamp"
done
