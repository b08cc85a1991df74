"""One killable reward process, seen from its parent."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from rlvr.cluster.environment import reward_environment
from rlvr.records import Failure, Outcome
from rlvr.scoring.wire import HEADER, decode

LOG_TAIL_BYTES = 4000
TRACE_WAIT_S = 0.25
CLOSED, TIMED_OUT = object(), object()  # what a read ends with instead of a message
START_TIMEOUT_S = 120.0  # imports of reward modules; a cold disk and a big package take their time
BOOTSTRAP = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from rlvr.scoring.child import main; main({}, {})"
ROOT = str(Path(__file__).resolve().parents[2])  # holds the packages `rlvr` and `rewards`


@dataclass(frozen=True, slots=True)
class ChildSpec:
    """What a reward process is told when it starts. `terms`: name -> (target, params)."""

    terms: dict[str, tuple[str, dict[str, Any]]]
    memory_mb: int
    timeout_s: float


@dataclass(frozen=True, slots=True)
class TermTraits:
    """What a reward process found out about a function. `names`: what it accepts by name, None for everything."""

    batched: bool
    asynchronous: bool
    names: frozenset[str] | None


class StartError(Exception):
    """A reward process did not come up; the message says what its imports raised."""


class RewardProcess:
    """A child process, its socket and the tail of its output. Used by one thread, except for `kill`.

    The thread that creates it must outlive it: on Linux the kernel kills the child when that thread ends.
    """

    def __init__(self, spec: ChildSpec) -> None:
        self.num_calls = 0  # kept by the pool, which decides what counts
        self.dead = False
        self.left_threads: list[str] = []
        self._buffer = bytearray()
        self._log = bytearray()
        self._channel, theirs = socket.socketpair()
        log_read, log_write = os.pipe()
        os.set_blocking(log_read, False)
        self._log_fd = log_read
        path = [entry or os.getcwd() for entry in sys.path]
        path += [] if ROOT in path else [ROOT]
        # The hash seed makes the order of sets, and with it SymPy's choices, the same in every process and run.
        environment = {**os.environ, **reward_environment(), "PYTHONHASHSEED": "0", "PYTHONUNBUFFERED": "1"}
        try:
            self._popen = subprocess.Popen(
                [sys.executable, "-c", BOOTSTRAP.format(theirs.fileno(), os.getpid()), json.dumps(path)],
                stdin=subprocess.DEVNULL,
                stdout=log_write,
                stderr=log_write,
                pass_fds=[theirs.fileno()],
                start_new_session=True,  # its own process group, so that what it starts is killed with it
                env=environment,
            )
        finally:
            theirs.close()
            os.close(log_write)
        self._send(pickle.dumps({"terms": spec.terms, "memory_mb": spec.memory_mb, "timeout_s": spec.timeout_s}), 10.0)

    @property
    def pid(self) -> int:
        return self._popen.pid

    def wait_ready(self) -> dict[str, TermTraits]:
        """Waits for the imports. StartError if they raise, crash or take too long."""
        message = self._read(time.monotonic() + START_TIMEOUT_S)
        if isinstance(message, dict) and "ready" in message:
            return {
                name: TermTraits(
                    traits["batched"],
                    traits["asynchronous"],
                    None if traits["names"] is None else frozenset(traits["names"]),
                )
                for name, traits in message["ready"].items()
            }
        if isinstance(message, dict) and "broken" in message:
            self.kill()
            raise StartError(message["broken"])
        raise StartError(self._autopsy(message is TIMED_OUT, START_TIMEOUT_S).message)

    def run(self, body: bytes, num_calls: int, limit_s: float) -> Iterator[tuple[int, list[Outcome]] | Failure]:
        """Yields (call id, outcomes) as calls finish, then, if the process ended before it was done, one Failure.

        `body` is a pickle of [(call id, term, inputs), ...] with ids from 0. Each wait for the next answer may take
        `limit_s`; then the process is killed.
        """
        open_ids = set(range(num_calls))
        self._drain_log()
        self._log.clear()  # what earlier calls printed explains nothing about these
        message: Any = None if self._send(body, limit_s) else CLOSED
        while message is not CLOSED and message is not TIMED_OUT:
            message = self._read(time.monotonic() + limit_s)
            if isinstance(message, list) and message[0] in open_ids:
                open_ids.discard(message[0])
                yield message[0], [decode(outcome) for outcome in message[1]]
            elif isinstance(message, dict) and message.get("done") and not open_ids:
                self.left_threads = message["left_threads"]
                return
            elif message is not TIMED_OUT:
                message = CLOSED  # nonsense on the channel: treated as a crash
        yield self._autopsy(message is TIMED_OUT, limit_s)

    def kill(self) -> None:
        """Ends the process, its process group, and what escaped the group. Idempotent; callable from any thread."""
        self.dead = True
        descendants: list[psutil.Process] = []
        with contextlib.suppress(psutil.Error):
            descendants = psutil.Process(self.pid).children(recursive=True)
        # The group goes before its leader is reaped: until then no other process can have been given its id.
        if self._popen.returncode is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)
        for process in descendants:
            with contextlib.suppress(psutil.Error):
                process.kill()
        self._popen.wait()

    def close(self) -> None:
        """Kills the process and frees the descriptors. Only for the thread that uses it."""
        self.kill()
        self._channel.close()
        if self._log_fd >= 0:
            os.close(self._log_fd)
            self._log_fd = -1

    def _send(self, body: bytes, limit_s: float) -> bool:
        """False if the other side is gone or does not read."""
        self._channel.settimeout(limit_s)
        try:
            self._channel.sendall(HEADER.pack(len(body)) + body)
        except OSError:
            return False
        return True

    def _read(self, deadline: float) -> Any:
        """The next message, CLOSED at the end of the channel, or TIMED_OUT. Drains the log meanwhile."""
        poll = select.poll()
        poll.register(self._channel, select.POLLIN)
        poll.register(self._log_fd, select.POLLIN)
        while True:
            line, newline, rest = self._buffer.partition(b"\n")
            if newline:
                self._buffer = rest
                try:
                    return json.loads(line)
                except ValueError:
                    return CLOSED
            remaining = deadline - time.monotonic()
            # At the deadline the channel is looked at once more: we may have slept through it, not the child.
            ready = dict(poll.poll(max(0.0, remaining) * 1000))
            if self._log_fd in ready and not self._drain_log():
                poll.unregister(self._log_fd)
            if self._channel.fileno() in ready:
                try:
                    part = self._channel.recv(1 << 18)
                except OSError:
                    part = b""
                if not part:
                    return CLOSED
                self._buffer += part
            elif remaining <= 0:
                return TIMED_OUT

    def _drain_log(self) -> bool:
        """Keeps the tail of what user code printed. False at its end."""
        try:
            part = os.read(self._log_fd, 1 << 16)
        except BlockingIOError:
            return True
        except OSError:
            return False
        self._log += part
        del self._log[:-LOG_TAIL_BYTES]
        return bool(part)

    def _autopsy(self, timed_out: bool, limit_s: float) -> Failure:
        """Ends the process, and says why its last call has no outcome."""
        if timed_out:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGUSR1)  # faulthandler writes where every thread stands
            waiting = select.poll()
            waiting.register(self._log_fd, select.POLLIN)
            waiting.poll(TRACE_WAIT_S * 1000)
            time.sleep(0.02)  # for the rest of it
        status = None if timed_out else self._peek_exit(1.0)
        self.kill()
        for _ in range(64):  # bounded: a descendant that still holds the pipe may write for ever
            size = len(self._log)
            if not self._drain_log() or len(self._log) == size:
                break
        tail = self._log.decode(errors="replace").strip()
        output = f"; its output ended:\n{tail[-1500:]}" if tail else ""
        if timed_out:
            return Failure("timeout", f"killed after {limit_s:g} s{output}")
        if status is None:
            return Failure("crash", f"the reward process closed its channel{output}")
        if status < 0:
            name = signal.Signals(-status).name
            if -status == signal.SIGKILL:
                return Failure("memory", f"killed by {name}, most likely by the kernel for want of memory{output}")
            if "MemoryError" in tail or "bad_alloc" in tail:
                return Failure("memory", f"ended by {name}{output}")
            return Failure("crash", f"ended by {name}{output}")
        kind = "memory" if "MemoryError" in tail[-200:] else "crash"
        return Failure(kind, f"the reward process exited with code {status}{output}")  # type: ignore[arg-type]

    def _peek_exit(self, limit_s: float) -> int | None:
        """The exit code (minus the signal number if killed), without reaping; None if it lives after `limit_s`."""
        deadline = time.monotonic() + limit_s
        while True:
            try:
                result = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG)
            except ChildProcessError:
                return self._popen.returncode
            if result is not None:
                return result.si_status if result.si_code == os.CLD_EXITED else -result.si_status
            if time.monotonic() > deadline:
                return None
            time.sleep(0.005)
