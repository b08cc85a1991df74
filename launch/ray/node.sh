#!/usr/bin/env bash
# One node of a Ray cluster, in the foreground: the first one is the head, the others join it.
#
#   launch/ray/node.sh RANK HEAD_IP PORT CPUS GPUS TEMP_DIR [extra arguments of `ray start` ...]
#
# Ends on SIGUSR2, and only then: a scheduler that stops a job signals everything in it at once, and Ray must outlive
# the run, which still saves. Used by launch/slurm and launch/skypilot; good by hand, too, on machines with ssh alone.
set -euo pipefail

rank=$1 head_ip=$2 port=$3 cpus=$4 gpus=$5 temp_dir=$6
shift 6
trap '' TERM INT HUP USR1

export RAY_USAGE_STATS_ENABLED=0
common=(--block --disable-usage-stats --num-cpus="$cpus" --num-gpus="$gpus" "$@")
if [ "$rank" -eq 0 ]; then
  common+=(--head --node-ip-address="$head_ip" --port="$port" --temp-dir="$temp_dir")
  # Off, and Ray takes its port all the same: the default is another cluster's on a node that jobs share.
  common+=(--include-dashboard=false --dashboard-port="$((port + 10000))")
else
  common+=(--address="$head_ip:$port")
fi

# Raylets end on SIGTERM even where it is ignored, but not where it is blocked.
deaf='import runpy, signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1})
sys.argv[0] = "ray"
runpy.run_module("ray.scripts.scripts", run_name="__main__")'

# Everything that `ray start` brings up is in its session.
ray=
end_session() {
  if [ -n "$ray" ]; then pkill -KILL --session "$ray" || true; fi
}
# shellcheck disable=SC2329 # called by the trap
stop() {
  end_session
  rm -rf "$temp_dir"
  exit 0
}
trap stop USR2

# A worker may be up before the head is, and Ray gives a head on a busy machine 30 s only.
for attempt in 1 2 3 4 5 6; do
  setsid "${PYTHON:-python}" -c "$deaf" start "${common[@]}" &
  ray=$!
  code=0
  wait "$ray" || code=$?
  echo "ray start on $(hostname) ended with $code (attempt $attempt)" >&2
  end_session
  sleep 3
done
exit 1
