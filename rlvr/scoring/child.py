"""The main programs of a killable reward process, and of the template that it may be forked from.

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
import json
import os
import pickle
import resource
import signal
import socket
import sys
import threading
from pathlib import Path
from typing import Any

from rlvr.records import Failure
from rlvr.scoring.calls import Term, describe, load, load_gold_check, run_call, run_call_async
from rlvr.scoring.wire import COMMAND, FORK, GOLD_CHECK, HEADER, PEEK, encode

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
EXECUTORS = ("asyncio_", "ThreadPoolExecutor")  # threads of pools that libraries keep on purpose


def main(fd: int, parent_pid: int) -> None:
    """Imports the functions, then serves requests until the parent closes its end."""
    channel = socket.socket(fileno=fd)
    if loaded := _start(channel, parent_pid):
        _work(channel, *loaded)


def template(fd: int, parent_pid: int) -> None:
    """Imports the functions once, then forks a process that serves them whenever the parent asks for one.

    A fork costs milliseconds where the imports cost tenths of a second. It is sound only while this process has a
    single thread, which is why it says so and runs no function itself. It keeps its dead children unreaped until the
    parent has read their status, so that no other process can have been given their ids meanwhile.
    """
    control = socket.socket(fileno=fd)
    loaded = _start(control, parent_pid)
    if loaded is None:
        return
    _send(control, {"threads": len(os.listdir("/proc/self/task"))})
    own_pid = os.getpid()
    while True:
        message, fds, *_ = socket.recv_fds(control, COMMAND.size, 2, socket.MSG_WAITALL)
        if len(message) < COMMAND.size:
            return
        command, pid = COMMAND.unpack(message)
        if command == FORK:
            pid = os.fork()
            if not pid:
                control.close()
                _become_worker(own_pid, fds[1])
                _work(socket.socket(fileno=fds[0]), *loaded)
                os._exit(0)
            for descriptor in fds:
                os.close(descriptor)
            _send(control, {"pid": pid})
        else:
            flags = os.WEXITED | os.WNOHANG | (os.WNOWAIT if command == PEEK else 0)
            _send(control, {"status": _status(pid, flags)})


def _start(channel: socket.socket, parent_pid: int) -> tuple[dict[str, Any], dict[str, Term]] | None:
    """The spec that the parent sends, with its functions; None where it has gone, or one does not import."""
    _die_with(parent_pid)
    _keep_log()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell has its background jobs ignore it
    spec = _receive(channel)
    terms = None if spec is None else _load(spec, channel)
    return None if terms is None else (spec, terms)


def _status(pid: int, flags: int) -> int | None:
    """The exit code of a child, or minus the signal that ended it; None while it lives."""
    try:
        result = os.waitid(os.P_PID, pid, flags)
    except ChildProcessError:  # reaped already
        return -signal.SIGKILL
    if result is None:
        return None
    return result.si_status if result.si_code == os.CLD_EXITED else -result.si_status


def _become_worker(template_pid: int, log: int) -> None:
    """What a fork must undo: session, output, and the state of random number generators."""
    os.setsid()  # its own process group, so that what it starts is killed with it
    for stream in (1, 2):
        os.dup2(log, stream)
    os.close(log)
    _die_with(template_pid)
    _keep_log()
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed()  # the standard library's generator sees to itself


def _load(spec: dict[str, Any], channel: socket.socket) -> dict[str, Term] | None:
    """The spec's functions with their gold checks; None, and the cause told to the parent, if one does not import."""
    try:
        terms = {name: load(*arguments) for name, arguments in spec["terms"].items()}
        checks = {GOLD_CHECK.format(name): load_gold_check(term) for name, term in terms.items()}
        return terms | {name: check for name, check in checks.items() if check is not None}
    except BaseException as error:  # noqa: BLE001 - whatever an import raises, the parent reports it
        _send(channel, {"broken": describe(error, with_traceback=True)})
        return None


def _work(channel: socket.socket, spec: dict[str, Any], terms: dict[str, Term]) -> None:
    _limit_memory(spec["memory_mb"])
    _send(
        channel,
        {
            "ready": {
                name: {
                    "batched": term.batched,
                    "asynchronous": term.asynchronous,
                    "names": None if term.needs is None else sorted(term.needs),
                }
                for name, term in terms.items()
            }
        },
    )
    with asyncio.Runner() as runner:  # one loop for all calls: clients that a function keeps stay usable
        serve(channel, terms, spec["limits_s"], runner)


def _keep_log() -> None:
    # fd 2 is the log pipe; a duplicate of it survives user code that closes or replaces sys.stderr.
    log = os.fdopen(os.dup(2), "w")
    faulthandler.enable(log)
    faulthandler.register(signal.SIGUSR1, file=log, all_threads=True)  # the parent asks where we are before it kills


def serve(channel: socket.socket, terms: dict[str, Term], limits_s: dict[str, float], runner: asyncio.Runner) -> None:
    """Answers each request with one line per call, in order for sync functions, then a line that says it is done."""
    pid = os.getpid()
    threads = set(threading.enumerate())
    while (calls := _receive(channel)) is not None:
        if terms[calls[0][1]].asynchronous:
            runner.run(_answer_concurrently(channel, calls, terms, limits_s))
        else:
            for call_id, name, inputs in calls:
                outcomes = run_call(terms[name], inputs)
                if os.getpid() != pid:
                    os._exit(0)  # user code forked and returned twice; only the original may answer
                _send(channel, [call_id, outcomes])
        left = [t for t in threading.enumerate() if t not in threads and not t.name.startswith(EXECUTORS)]
        _send(channel, {"done": True, "left_threads": [t.name for t in left]})


async def _answer_concurrently(
    channel: socket.socket,
    calls: list[tuple[int, str, list[dict[str, Any]]]],
    terms: dict[str, Term],
    limits_s: dict[str, float],
) -> None:
    async def answer(call_id: int, name: str, inputs: list[dict[str, Any]]) -> None:
        try:
            async with asyncio.timeout(limits_s[name]):
                outcomes = await run_call_async(terms[name], inputs)
        except TimeoutError:
            outcomes = [encode(Failure("timeout", f"no answer within {limits_s[name]:g} s"))] * len(inputs)
        _send(channel, [call_id, outcomes])

    await asyncio.gather(*(answer(*call) for call in calls))


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
