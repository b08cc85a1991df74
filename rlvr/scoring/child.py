"""The main program of a killable reward process.

It imports the reward functions and nothing else of rlvr but its records. Requests come over a socket as pickles (the
parent is trusted); answers go back as JSON lines (this side runs whatever a reward function runs, so the parent
unpickles nothing of it). User code's stdin is empty, and its stdout and stderr are a pipe that the parent keeps the
tail of: nothing that it prints can corrupt an answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import faulthandler
import importlib
import inspect
import json
import math
import numbers
import os
import pickle
import resource
import signal
import socket
import struct
import sys
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlvr import slots
from rlvr.records import Abstain, Failure, Outcome, Score

HEADER = struct.Struct("!Q")
MAX_INFO_BYTES = 64 * 1024
MAX_MESSAGE_CHARACTERS = 2000
PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36


@dataclass(frozen=True, slots=True)
class Term:
    """A loaded reward function. `names` are what it accepts by name; None: everything."""

    function: Callable[..., Any]
    params: dict[str, Any]
    signature: inspect.Signature | None
    names: frozenset[str] | None
    batched: bool
    asynchronous: bool


def main(fd: int, parent_pid: int) -> None:
    """Serves requests until the parent closes its end."""
    _die_with(parent_pid)
    # fd 2 is the log pipe; a duplicate of it survives user code that closes or replaces sys.stderr.
    log = os.fdopen(os.dup(2), "w")
    faulthandler.enable(log)
    faulthandler.register(signal.SIGUSR1, file=log, all_threads=True)  # the parent asks where we are before it kills
    channel = socket.socket(fileno=fd)
    spec = _receive(channel)
    if spec is None:
        return
    try:
        terms = {name: load(target, params) for name, (target, params) in spec["terms"].items()}
    except BaseException as error:  # noqa: BLE001 - whatever an import raises, the parent reports it
        _send(channel, {"broken": _message(error, with_traceback=True)})
        return
    _limit_memory(spec["memory_mb"])
    _send(
        channel,
        {
            "ready": {
                name: {
                    "batched": term.batched,
                    "asynchronous": term.asynchronous,
                    "names": None if term.names is None else sorted(term.names),
                }
                for name, term in terms.items()
            }
        },
    )
    with asyncio.Runner() as runner:  # one loop for all calls: clients that a function keeps stay usable
        serve(channel, terms, spec["timeout_s"], runner)


def serve(channel: socket.socket, terms: dict[str, Term], timeout_s: float, runner: asyncio.Runner) -> None:
    """Answers each request with one line per call, in order for sync functions, then a line that says it is done."""
    pid = os.getpid()
    threads = set(threading.enumerate())
    while (calls := _receive(channel)) is not None:
        if terms[calls[0][1]].asynchronous:
            runner.run(_answer_concurrently(channel, calls, terms, timeout_s))
        else:
            for call_id, name, inputs in calls:
                outcomes = run_call(terms[name], inputs)
                if os.getpid() != pid:
                    os._exit(0)  # user code forked and returned twice; only the original may answer
                _send(channel, [call_id, outcomes])
        left = [t for t in threading.enumerate() if t not in threads and not t.name.startswith(EXECUTORS)]
        _send(channel, {"done": True, "left_threads": [t.name for t in left]})


EXECUTORS = ("asyncio_", "ThreadPoolExecutor")  # pools that libraries keep on purpose


async def _answer_concurrently(
    channel: socket.socket, calls: list[tuple[int, str, list[dict[str, Any]]]], terms: dict[str, Term], timeout_s: float
) -> None:
    async def answer(call_id: int, name: str, inputs: list[dict[str, Any]]) -> None:
        try:
            async with asyncio.timeout(timeout_s):
                outcomes = await run_call_async(terms[name], inputs)
        except TimeoutError:
            outcomes = [encode(Failure("timeout", f"no answer within {timeout_s:g} s"))] * len(inputs)
        _send(channel, [call_id, outcomes])

    await asyncio.gather(*(answer(*call) for call in calls))


def load(target: str, params: dict[str, Any]) -> Term:
    """Imports module:function or path/to/file.py:function, and runs the module's `warm_up()` if it has one."""
    if slots.is_path(target):
        # As in a script, a file finds its neighbours; appended, so that they shadow no installed module.
        sys.path.append(str(Path(slots.split_path(target)[0]).resolve().parent))
        function = slots.load_function(target, "fn")
    else:
        module, _, attribute = target.partition(":")
        function = getattr(importlib.import_module(module), attribute)
    warm_up = getattr(sys.modules.get(getattr(function, "__module__", "")), "warm_up", None)
    if callable(warm_up):
        warm_up()
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # some C functions have none
        return Term(function, params, None, None, False, False)
    parameters = signature.parameters.values()
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters)
    names = frozenset(p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY))
    asynchronous = inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(function, "__call__", None)  # noqa: B004 - an object with `async def __call__`
    )
    batched = next(iter(signature.parameters), "") == "completions"
    return Term(function, params, signature, None if takes_any else names, batched, asynchronous)


def arguments_of(term: Term, inputs: list[dict[str, Any]]) -> dict[str, Any]:
    """The keyword arguments of one call. TypeError if they do not fit the signature."""
    if term.batched:
        names = {name for row in inputs for name in row}
        columns: dict[str, Any] = {name: [row.get(name) for row in inputs] for name in names}
        columns["completions"], columns["answers"] = columns.pop("completion", []), columns.pop("answer", None)
        if columns["answers"] is None:
            columns["answers"] = [None] * len(inputs)
    else:
        columns = dict(inputs[0])
    columns |= term.params
    if term.names is not None:
        columns = {name: value for name, value in columns.items() if name in term.names}
    if term.signature is not None:
        term.signature.bind(**columns)
    return columns


def run_call(term: Term, inputs: list[dict[str, Any]]) -> list[list[Any]]:
    """One encoded outcome per input, whatever the function does short of ending the process."""
    try:
        arguments = arguments_of(term, inputs)
    except TypeError as error:
        return _all(inputs, _signature_failure(error, inputs))
    try:
        return outcomes_of(term, inputs, term.function(**arguments))
    except BaseException as error:  # noqa: BLE001 - SystemExit and KeyboardInterrupt of user code included
        return _all(inputs, _failure(error))


async def run_call_async(term: Term, inputs: list[dict[str, Any]]) -> list[list[Any]]:
    try:
        arguments = arguments_of(term, inputs)
    except TypeError as error:
        return _all(inputs, _signature_failure(error, inputs))
    try:
        return outcomes_of(term, inputs, await term.function(**arguments))
    except asyncio.CancelledError:
        raise
    except BaseException as error:  # noqa: BLE001
        return _all(inputs, _failure(error))


def outcomes_of(term: Term, inputs: list[dict[str, Any]], returned: Any) -> list[list[Any]]:
    """Encodes what a function returned."""
    if inspect.iscoroutine(returned):
        returned.close()
        return _all(inputs, Failure("bad_return", "returned a coroutine; define the function with `async def`"))
    if not term.batched:
        return [encode(outcome_of(returned))]
    if isinstance(returned, str | bytes | dict) or not hasattr(returned, "__len__"):
        kind = type(returned).__name__
        return _all(inputs, Failure("bad_return", f"a batched function must return a list of outcomes, not {kind}"))
    if len(returned) != len(inputs):
        return _all(inputs, Failure("bad_return", f"returned {len(returned)} outcomes for {len(inputs)} completions"))
    return [encode(outcome_of(value)) for value in returned]


def outcome_of(value: Any) -> Outcome:
    """What a returned value means: a number is a Score, None an Abstain; anything else is a Failure, never a 0."""
    if isinstance(value, Score | Abstain | Failure):
        return value
    if value is None:
        return Abstain()
    if not isinstance(value, numbers.Real) and getattr(value, "shape", None) == ():
        value = value.item()  # a 0-dimensional tensor or array
    if not isinstance(value, numbers.Real):
        text = f"returned {type(value).__name__} {value!r:.200}; return a float, bool, Score or None"
        return Failure("bad_return", text)
    try:
        number = float(value)
    except OverflowError:
        return Failure("non_finite", "returned an integer too large for a float")
    if not math.isfinite(number):
        return Failure("non_finite", f"returned {number}")
    return Score(number)


def encode(outcome: Outcome) -> list[Any]:
    """An outcome as JSON values: [type, value or text, info or failure kind]."""
    if isinstance(outcome, Score):
        return ["score", float(outcome.value), None if outcome.info is None else _plain_info(outcome.info)]
    if isinstance(outcome, Abstain):
        return ["abstain", str(outcome.reason)[:MAX_MESSAGE_CHARACTERS], None]
    return ["failure", str(outcome.message)[:MAX_MESSAGE_CHARACTERS], outcome.kind]


def _plain_info(info: Any) -> dict[str, Any]:
    text = json.dumps(dict(info), default=repr, skipkeys=True)
    return json.loads(text) if len(text) <= MAX_INFO_BYTES else {"omitted": f"info of {len(text)} characters"}


def _all(inputs: list[dict[str, Any]], failure: Failure) -> list[list[Any]]:
    return [encode(failure)] * len(inputs)


def _signature_failure(error: TypeError, inputs: list[dict[str, Any]]) -> Failure:
    return Failure("signature", f"{error}; what can be asked for by name: {sorted(inputs[0])}")


def _failure(error: BaseException) -> Failure:
    if isinstance(error, MemoryError):
        return Failure("memory", f"MemoryError: {error}"[:MAX_MESSAGE_CHARACTERS])
    return Failure("exception", _message(error))


def _message(error: BaseException, with_traceback: bool = False) -> str:
    """The error, where it arose, and what it says; the last frames count most."""
    try:
        text = f"{type(error).__name__}: {error}"
    except BaseException:  # noqa: BLE001 - str() of a user's exception is user code too
        text = type(error).__name__
    frames = traceback.extract_tb(error.__traceback__)
    if with_traceback:
        return (text + "\n" + "".join(traceback.format_list(frames[-6:])))[-MAX_MESSAGE_CHARACTERS:]
    where = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if len(frames) > 1 else ""
    return text[:MAX_MESSAGE_CHARACTERS] + where


def _die_with(parent_pid: int) -> None:
    """The kernel kills this process when the thread that started it ends; orphans of ours become ours to be found."""
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        libc.prctl(PR_SET_CHILD_SUBREAPER, 1)
        with contextlib.suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text("1000")  # when memory runs out, take us and not the engine
    if os.getppid() != parent_pid:  # it died before the line above
        os._exit(1)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _limit_memory(memory_mb: int) -> None:
    """Bounds what calls may add to the address space that the imports have taken (torch alone maps many GiB)."""
    taken = 0
    if sys.platform == "linux":
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        taken = pages * resource.getpagesize()
    limit = taken + memory_mb * 2**20
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    if hard != resource.RLIM_INFINITY:
        limit = min(limit, hard)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _receive(channel: socket.socket) -> Any:
    """The next request; None when the parent has closed its end."""
    header = _exactly(channel, HEADER.size)
    body = _exactly(channel, HEADER.unpack(header)[0]) if header else None
    return pickle.loads(body) if body else None


def _exactly(channel: socket.socket, size: int) -> bytes | None:
    parts = bytearray()
    while len(parts) < size:
        part = channel.recv(min(size - len(parts), 1 << 20))
        if not part:
            return None
        parts += part
    return bytes(parts)


def _send(channel: socket.socket, message: Any) -> None:
    channel.sendall(json.dumps(message).encode() + b"\n")
