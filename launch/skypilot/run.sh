#!/usr/bin/env bash
# What every node of a SkyPilot task runs: Ray over the nodes, the run on the first.
#
#   launch/skypilot/run.sh CPUS GPUS START_TIMEOUT_S COMMAND...    (COMMAND: the arguments after `python -m`)
set -uo pipefail

cpus=$1 gpus=$2 start_timeout_s=$3
shift 3
export PYTHON=${PYTHON:-$PWD/.venv/bin/python}
# The nodes are this task's own. Ray's default differs between a machine that has a token and one that joins it.
export RAY_AUTH_MODE=disabled
head_ip=$(head -n 1 <<<"$SKYPILOT_NODE_IPS")
port=6400 # SkyPilot's own Ray has 6380
temp_dir=/tmp/rlvr-ray

bash launch/ray/node.sh "$SKYPILOT_NODE_RANK" "$head_ip" "$port" "$cpus" "$gpus" "$temp_dir" &
ray=$!
if [ "$SKYPILOT_NODE_RANK" -ne 0 ]; then
  # The head says when it is over: the node leaves with it.
  while timeout 5 bash -c ">/dev/tcp/$head_ip/$port" 2>/dev/null || [ -z "${joined:-}" ]; do
    if timeout 5 bash -c ">/dev/tcp/$head_ip/$port" 2>/dev/null; then joined=1; fi
    if ! kill -0 "$ray" 2>/dev/null; then break; fi
    sleep 5
  done
  kill -s USR2 "$ray" 2>/dev/null
  wait "$ray"
  exit 0
fi

code=1
if "$PYTHON" -m rlvr.launch.nodes "$head_ip:$port" "$SKYPILOT_NUM_NODES" "$start_timeout_s" "$ray"; then
  "$PYTHON" -m "$@" "resources.ray_address=$head_ip:$port" &
  run=$!
  trap 'kill -TERM "$run"' TERM INT
  while :; do
    wait "$run"
    code=$?
    kill -0 "$run" 2>/dev/null || break
  done
fi
kill -s USR2 "$ray" 2>/dev/null
wait "$ray"
exit "$code"
