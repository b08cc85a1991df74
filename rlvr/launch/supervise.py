"""Runs `rlvr` under a scheduler: `python -m rlvr.launch.supervise [--time-limit-s N] [--pid-file F] train RECIPE ...`.

Schedulers signal a job in their own ways: the shell alone, the whole process group, every descendant, one after the
other. Here the first signal reaches the run, once; those that follow would make it end without saving, and are dropped.
SIGUSR1, sent by a scheduler or at the time limit, means: save, and exit with 75 so that somebody starts the job again.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import FrameType

PR_SET_PDEATHSIG = 1
TRY_AGAIN = 75  # EX_TEMPFAIL, as the run itself exits when it has saved upon SIGUSR1
FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)


def supervise(arguments: list[str], time_limit_s: float | None = None, pid_file: Path | None = None) -> int:
    """The exit code of `rlvr ARGUMENTS`; 128 + n for a death by signal n."""
    waiting: list[int] = []
    child: list[subprocess.Popen[bytes]] = []

    def forward(number: int, frame: FrameType | None = None) -> None:
        if waiting:
            return
        waiting.append(number)
        if child:
            print(f"rlvr: {signal.Signals(number).name}: the run saves and ends", file=sys.stderr, flush=True)
            with contextlib.suppress(ProcessLookupError):
                child[0].send_signal(number)

    for number in FORWARDED:
        signal.signal(number, forward)
    if pid_file is not None:
        pid_file.write_text(str(os.getpid()))
    # A session of its own: what is sent to our process group does not reach the run a second time.
    child.append(
        subprocess.Popen(
            [sys.executable, "-m", "rlvr.cli.main", *arguments], start_new_session=True, preexec_fn=_die_with_parent
        )
    )
    if waiting:  # it came before there was a child
        child[0].send_signal(waiting[0])
    alarm = threading.Timer(time_limit_s, os.kill, (os.getpid(), signal.SIGUSR1)) if time_limit_s else None
    if alarm is not None:
        alarm.daemon = True
        alarm.start()
    try:
        code = child[0].wait()
    finally:
        if alarm is not None:
            alarm.cancel()
        if pid_file is not None:
            pid_file.unlink(missing_ok=True)
    if code == -signal.SIGUSR1:
        return TRY_AGAIN  # it came while the run was starting, and there was nothing to save
    return code if code >= 0 else 128 - code


def _die_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--time-limit-s", type=float, help="Send SIGUSR1 after so many seconds.")
    parser.add_argument("--pid-file", type=Path, help="Holds this process's id while it runs.")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="Of the command `rlvr`.")
    options = parser.parse_args()
    return supervise(options.arguments, options.time_limit_s, options.pid_file)


if __name__ == "__main__":
    sys.exit(main())
