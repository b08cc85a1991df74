"""Errors that are for the user: each names the value, the fault and the remedy."""

from __future__ import annotations


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
