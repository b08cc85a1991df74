#!/usr/bin/env bash
# Creates .venv with the exact packages of requirements/<cpu|cuda>.lock and rlvr itself. Safe to run again.
# `cluster` as the second word adds what a Ray cluster's job server and dashboard need (requirements/cluster.lock).
set -euo pipefail
cd "$(dirname "$0")/.."

target=${1:?usage: launch/setup.sh cpu|cuda [cluster]}
venv=${VENV:-.venv}
lock=requirements/$target.lock
stamp=$venv/.rlvr-$target
log=$venv/setup.log

wanted=$(cat "$lock" setup.cfg pyproject.toml "$0" | sha256sum | cut -d' ' -f1)
if [ "${2:-}" = cluster ]; then
  launch/setup.sh "$target"
  exec "$venv/bin/python" -m pip --disable-pip-version-check --no-input install -q --no-deps -r requirements/cluster.lock
fi
if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ]; then exit 0; fi

python=
for candidate in "${PYTHON:-}" python3.13 python3.12 python3.11 python3 python; do
  if [ -n "$candidate" ] && "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; then
    python=$candidate
    break
  fi
done
if [ -z "$python" ]; then
  echo "setup: needs Python 3.11, 3.12 or 3.13; none was found. Install one, or set PYTHON=/path/to/python" >&2
  exit 1
fi

other=$venv/.rlvr-$([ "$target" = cpu ] && echo cuda || echo cpu)
if [ -f "$other" ]; then
  # Both builds of vLLM install the same package, so one environment holds one of them.
  rm -rf "$venv"
fi
if [ ! -x "$venv/bin/python" ] && ! "$python" -m venv "$venv"; then
  echo "setup: $python cannot create a virtual environment (Debian and Ubuntu: apt-get install python3-venv)" >&2
  exit 1
fi
rm -f "$stamp"

echo "setup: installing $(grep -c == "$lock") packages for $target into $venv (about two minutes; details in $log)"
pip() { "$venv/bin/python" -m pip --disable-pip-version-check --no-input install --no-deps "$@" >>"$log" 2>&1; }
fail() {
  tail -n 20 "$log" >&2
  echo "setup: failed while installing $1; the whole log is in $log" >&2
  exit 1
}

: >"$log"
torch=$(grep -oE '^torch==[^ ;]+' "$lock")
if [ "$target" = cpu ] && [ "$(uname -s)" = Linux ]; then
  # The plain version on the default index is the CUDA build; PyTorch's own index has the CPU build.
  pip "$torch+cpu" || pip --index-url https://download.pytorch.org/whl/cpu "$torch+cpu" || fail "$torch (CPU build)"
fi
pip -r "$lock" || fail "$lock"
pip --no-build-isolation -e . || fail rlvr
echo "$wanted" >"$stamp"
