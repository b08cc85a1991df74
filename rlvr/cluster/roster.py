"""Who works for this run: every actor by name, watched from a thread, so that no wait outlasts the one it waits for.

The thread samples each worker's memory on the worker's node and asks those that can answer for a pulse. A worker that
is stopped, does not answer, or has been at one piece of work for too long is found frozen; waits end with it.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import psutil
import ray
from ray.exceptions import RayActorError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from rlvr.cluster.watch import SAMPLE_EVERY_S, NodeWatch, ProcessReport

LIVENESS_TIMEOUT_S = 60.0
STOPPED_S = 10.0  # for which a process is stopped before it counts as frozen: a debugger's hand may be quick
REPORT_TIMEOUT_S = 5.0
HEALTH = "health"  # the concurrency group in which `pulse` is answered


@dataclass(eq=False, slots=True)
class Member:
    """One actor. With `pulse`, its class has a method of that name in the concurrency group `health`:

    seconds that its present piece of work has taken, 0 when it is idle.
    """

    name: str
    actor: Any
    pulse: bool = False
    pid: int | None = None
    node: str | None = None
    host: str = ""
    started: float = 0.0
    created: float | None = None  # of a process of this node, by its own clock: a process id can be given again
    frozen: str = ""
    lost: RayActorError | None = None  # what Ray said when it was asked for a pulse and was dead
    _beat: ray.ObjectRef | None = None
    _answered: bool = False  # its constructor has returned: before, silence says nothing
    _unanswered: int = 0  # rounds since it was asked


class Roster:
    """The workers of this process's run."""

    def __init__(self) -> None:
        self.limit_s = LIVENESS_TIMEOUT_S
        self.where = ""  # the stage and step that the run is at
        self._members: list[Member] = []
        self._watches: dict[str, Any] = {}
        self._left: list[tuple[int, float]] = []
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._ended = threading.Event()

    def enlist(self, name: str, actor: Any, pulse: bool = False) -> Member:
        """Begins to watch an actor, which need not have started."""
        member = Member(name, actor, pulse, started=time.monotonic())
        with self._lock:
            self._members.append(member)
            if self._thread is None:
                self._ended.clear()
                self._thread = threading.Thread(target=self._run, name="roster", daemon=True)
                self._thread.start()
        return member

    def dismiss(self, members: Iterable[Member]) -> None:
        """Ends the watch over actors; the thread ends with the last."""
        gone = list(members)
        with self._lock:
            self._members = [member for member in self._members if member not in gone]
            self._left += [(each.pid, each.created) for each in gone if each.pid and each.created]
            thread = self._thread if not self._members else None
            if thread is not None:
                self._thread = None
                self._ended.set()
        if thread is None:
            return
        # Before Ray may be shut down: a call after that would start another Ray.
        thread.join(timeout=10 * SAMPLE_EVERY_S)
        for watch in self._watches.values():
            if isinstance(watch, NodeWatch):
                watch.close()
            elif ray.is_initialized():
                ray.kill(watch)
        self._watches = {}

    def stop(self) -> None:
        """Ends the watch over all, and what was said of the run."""
        self.dismiss(self.members())
        self.where = ""

    def sweep(self, grace_s: float = 10.0) -> None:
        """Kills what Ray left, after `grace_s`, of the processes on this node whose watch has ended."""
        left, self._left = self._left, []
        deadline = time.monotonic() + grace_s
        for pid, created in left:
            with contextlib.suppress(psutil.Error):
                process = psutil.Process(pid)
                if process.create_time() != created:
                    continue
                while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                    if time.monotonic() > deadline:
                        logging.getLogger(__name__).warning("process %d outlived its actor and was killed", pid)
                        process.kill()
                        break
                    time.sleep(0.1)

    def members(self) -> list[Member]:
        """Those watched now."""
        with self._lock:
            return list(self._members)

    def frozen(self, members: Iterable[Member]) -> Member | None:
        """The first of them that is found dead or frozen."""
        return next((member for member in members if member.lost or member.frozen), None)

    def wait(
        self, refs: Sequence[ray.ObjectRef], members: Iterable[Member], timeout_s: float
    ) -> tuple[list[ray.ObjectRef], Member | None]:
        """Waits for one of `refs`: ([it], None), ([], a member that died or froze), or ([], None) at the deadline."""
        deadline = time.monotonic() + timeout_s
        members = list(members)
        while True:
            remaining = deadline - time.monotonic()
            done, _ = ray.wait(list(refs), num_returns=1, timeout=max(0.0, min(SAMPLE_EVERY_S, remaining)))
            if done:
                return done, None
            silent = self.frozen(members)
            if silent is not None or remaining <= 0:
                return [], silent

    def report(self, member: Member) -> ProcessReport:
        """What its node knows of a member's process; empty where the node does not answer."""
        self._place(member)
        watch = self._watches.get(member.node or "")
        if member.pid is None or watch is None:
            return ProcessReport()
        if isinstance(watch, NodeWatch):
            return watch.report(member.pid)
        try:
            return ray.get(watch.report.remote(member.pid), timeout=REPORT_TIMEOUT_S)
        except ray.exceptions.RayError:
            return ProcessReport()

    def peaks(self) -> dict[str, int]:
        """Bytes that each member and its descendants held at most since the last call; of nodes that answer."""
        held: dict[tuple[str, int], int] = {}
        for node, watch in list(self._watches.items()):
            with contextlib.suppress(ray.exceptions.RayError):
                local = isinstance(watch, NodeWatch)
                peaks = watch.peaks() if local else ray.get(watch.peaks.remote(), timeout=REPORT_TIMEOUT_S)
                held |= {(node, pid): peak for pid, peak in peaks.items()}
        known = {member.name: held.get((member.node or "", member.pid or 0)) for member in self.members()}
        return {name: peak for name, peak in known.items() if peak}

    def end(self, member: Member) -> None:
        """Kills an actor, also one whose process is stopped."""
        ray.kill(member.actor)
        watch = self._watches.get(member.node or "")
        if member.pid is None or watch is None:
            return
        if isinstance(watch, NodeWatch):
            watch.end(member.pid)
        else:
            watch.end.remote(member.pid)

    def _run(self) -> None:
        while not self._ended.wait(SAMPLE_EVERY_S):
            for member in self.members():
                try:
                    if ray.is_initialized():
                        self._look_at(member)
                except Exception as error:  # noqa: BLE001  # whoever waits for the member hears of it; this must go on
                    logging.getLogger(__name__).debug("watching %s: %r", member.name, error)
            if ray.is_initialized():
                self._find_stopped()

    def _look_at(self, member: Member) -> None:
        self._place(member)
        if not member.pulse or member.lost:
            return
        if member._beat is None:
            member._beat = member.actor.pulse.options(concurrency_group=HEALTH).remote()
            member._unanswered = 0
            return
        # Rounds are counted and not seconds: a suspended driver, or machine, must not find everybody frozen.
        member._unanswered += 1
        limit = self.limit_s / SAMPLE_EVERY_S
        done, _ = ray.wait([member._beat], timeout=0)
        if done:
            try:
                busy_s = float(ray.get(member._beat, timeout=SAMPLE_EVERY_S))
            except RayActorError as error:
                member.lost = error
                return
            member._beat, member._answered = None, True
            member.frozen = f"has been at one piece of work for {busy_s:.0f} s" if busy_s > self.limit_s else ""
        elif member._answered and member._unanswered > limit:
            member.frozen = f"has not answered for {member._unanswered * SAMPLE_EVERY_S:.0f} s"

    def _find_stopped(self) -> None:
        stopped: dict[tuple[str, int], float] = {}
        for node, watch in list(self._watches.items()):
            if isinstance(watch, NodeWatch):
                stopped |= {(node, pid): seconds for pid, seconds in watch.stopped_s().items()}
        for member in self.members():
            seconds = stopped.get((member.node or "", member.pid or 0), 0.0)
            if seconds > min(STOPPED_S, self.limit_s):
                member.frozen = f"is stopped (SIGSTOP, or a debugger) since {seconds:.0f} s"

    def _place(self, member: Member) -> None:
        """Finds out where an actor's process is, from Ray's own records: that needs no answer from the actor."""
        if member.pid is not None:
            return
        known = actor_record(member.actor)
        pid, address = known.get("Pid"), known.get("Address", {})
        if not pid or not address.get("NodeID"):
            return
        member.node, member.host, member.pid = address["NodeID"], address.get("IPAddress", ""), pid
        self._watch_on(member, member.node, pid)

    def _watch_on(self, member: Member, node: str, pid: int) -> None:
        if node not in self._watches:
            if node == self._here():
                self._watches[node] = NodeWatch()
            else:
                strategy = NodeAffinitySchedulingStrategy(node, soft=False)
                actor: Any = ray.remote(NodeWatch)
                self._watches[node] = actor.options(num_cpus=0, scheduling_strategy=strategy).remote()
        watch = self._watches[node]
        if isinstance(watch, NodeWatch):
            watch.track(pid)
            with contextlib.suppress(psutil.Error):
                member.created = psutil.Process(pid).create_time()
        else:
            watch.track.remote(pid)

    def _here(self) -> str | None:
        return ray.get_runtime_context().get_node_id() if ray.is_initialized() else None


def actor_record(actor: Any) -> dict[str, Any]:
    """What Ray's control service holds of an actor: Pid, Address, State, DeathCause. {} where it does not answer."""
    # TODO(a public call for this that needs no dashboard; ray.util.state does): use it.
    from ray._private import state

    try:
        return dict(state.actors(actor._actor_id.hex()) or {})
    except Exception:  # noqa: BLE001  # an autopsy says what it can
        return {}


ROSTER = Roster()
