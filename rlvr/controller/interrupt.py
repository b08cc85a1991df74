"""How a run ends early: asked by a signal, or by an error. Both ways it saves what it can first."""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rlvr.controller.checkpoint import MANIFEST
from rlvr.controller.context import StageContext
from rlvr.errors import EXIT_CODES, Interrupted
from rlvr.recipe.schema import EvalStage

# Batch systems signal the process and its group: what comes so soon after the first is the same wish.
REPEAT_S = 2.0


class StopRequested(Exception):
    """Raised where a run can be left at once: the learner still holds the weights of the last finished step."""


class Interruption:
    """What signals have asked of the run, and the stages that it has opened."""

    def __init__(self) -> None:
        self.contexts: list[StageContext[Any]] = []
        self.signal: int | None = None
        self._asked = 0.0

    def open(self, context: StageContext[Any]) -> None:
        """From now on the stage of this context is what runs."""
        context.stop_requested = self.signal is not None
        self.contexts.append(context)
        if context.session.needs_engines:
            context.session.on_wait = self.check

    def check(self) -> None:
        """Raises StopRequested if the run was asked to end and nothing is lost by ending it here."""
        context = self.contexts[-1]
        if context.stop_requested and (context.resumable is not None or isinstance(context.stage, EvalStage)):
            raise StopRequested

    def ask(self, number: int, frame: object) -> None:
        """The signal handler: the first ends the run once its state is exact, with a checkpoint; the second at once."""
        if self.signal is not None and time.monotonic() - self._asked < REPEAT_S:
            return
        if not self.contexts or self.signal is not None:
            raise Interrupted(number)
        self.signal, self._asked = number, time.monotonic()
        self.contexts[-1].stop_requested = True


@contextmanager
def interruptible() -> Iterator[Interruption]:
    """Takes SIGINT, SIGTERM, SIGHUP and SIGUSR1, of which the last is a scheduler's warning that time is up."""
    interruption = Interruption()
    if threading.current_thread() is not threading.main_thread():
        yield interruption
        return
    # What `nohup` or a shell has had ignored stays ignored.
    numbers = [number for number in EXIT_CODES if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, interruption.ask) for number in numbers}
    try:
        yield interruption
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def rescued(context: StageContext[Any]) -> Iterator[None]:
    """Where the stage ends early, the last finished step is saved, if the learner is still there and still holds it."""
    try:
        yield
    except StopRequested:
        rescue(context)
    except Exception as error:
        error.add_note(rescue(context))
        raise


def rescue(context: StageContext[Any]) -> str:
    """Saves the last finished step unless its checkpoint exists; says what can be resumed. Never raises."""
    root = context.run.checkpoints
    state = context.resumable
    finished = sorted(path for path in root.glob("step-*") if (path / MANIFEST).is_file())
    last = f"{finished[-1]} can be resumed with --resume" if finished else "no checkpoint had been written yet"
    if state is None or isinstance(context.stage, EvalStage):
        return f"Not saved, as the weights were being updated; {last}."
    try:
        path = context.save_resumable()
    except BaseException as error:  # noqa: BLE001  # what ended the run is to be told, not this
        logging.getLogger(__name__).warning("the last finished step could not be saved: %r", error)
        return f"The last finished step could not be saved ({str(error).splitlines()[0][:200]}); {last}."
    return f"Saved: {path} ({state.step} steps); go on with --resume."
