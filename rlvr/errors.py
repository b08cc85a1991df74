"""Errors that are for the user: each names the value, the fault and the remedy."""

from __future__ import annotations

import signal

# What a run exits with that a signal has ended, with a checkpoint where it could: 128 + n, as shells count; but after a
# scheduler's warning EX_TEMPFAIL, which says that the same command with --resume goes on.
EXIT_CODES: dict[int, int] = {
    signal.SIGINT: 130,
    signal.SIGTERM: 143,
    signal.SIGHUP: 129,
    signal.SIGUSR1: 75,
}


class RlvrError(Exception):
    """A fault that the user can act on; the command line prints it without a traceback. Exit code 1."""

    exit_code = 1


class RecipeError(RlvrError):
    """The recipe, an override or an argument is wrong; found before any resource is claimed. Exit code 2."""

    exit_code = 2


class RunStopped(RlvrError):
    """An alarm stopped the run on purpose (drift, failing verifiers, non-finite weights). Exit code 3."""

    exit_code = 3


class WorkerDied(RlvrError):
    """An actor died or stopped answering; the message names it, its last phase and its log tail. Exit code 4."""

    exit_code = 4


class Interrupted(KeyboardInterrupt):
    """A signal that is not to wait for the end of a step."""

    def __init__(self, number: int) -> None:
        super().__init__(f"ended by {signal.Signals(number).name}")
        self.exit_code = EXIT_CODES[number]
