"""Deaths of real actors, and what the autopsy says of each: who, in which phase, of what, with its memory over time."""

import os
import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest
import ray
from ray.exceptions import RayActorError

from rlvr.cluster.autopsy import curve, death, diagnose, silence
from rlvr.cluster.roster import HEALTH, ROSTER, Member
from rlvr.cluster.watch import Memory, ProcessReport

GIB = 1 << 30
SIGKILLED = "Worker unexpectedly exits with a connection error code 2. End of file."


def victim_class() -> type:
    # Local, so that it travels to the workers, which cannot import this module.
    class Victim:
        """An actor that can die in many ways."""

        def pulse(self) -> float:
            return 0.0

        def pid(self) -> int:
            return os.getpid()

        def hold(self) -> None:
            self.held = bytearray(os.urandom(1 << 20) * 256)
            time.sleep(600)

        def crash(self) -> None:
            import ctypes

            ctypes.string_at(0)

        def leave(self) -> None:
            raise SystemExit(3)

    return Victim


@pytest.fixture(scope="module")
def new_victim(ray_cluster: None) -> Iterator[Any]:
    members: list[Member] = []

    def new() -> tuple[Any, Member, int]:
        options = {"num_cpus": 0, "max_restarts": 0}
        actor = ray.remote(concurrency_groups={HEALTH: 1})(victim_class()).options(**options).remote()  # type: ignore[call-overload]
        members.append(ROSTER.enlist(f"victim {len(members)}", actor, pulse=True))
        return actor, members[-1], ray.get(actor.pid.remote(), timeout=120)

    yield new
    ROSTER.dismiss(members)


def wait_placed(member: Member) -> None:
    deadline = time.monotonic() + 60
    while not member.pid or not ROSTER.report(member).rss:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def autopsy_of(ref: Any, member: Member) -> str:
    with pytest.raises(RayActorError) as caught:
        ray.get(ref, timeout=60)
    return str(death(member, "generate", caught.value))


def test_a_killed_actor(new_victim: Any) -> None:
    """R22: SIGKILL, with the memory that it held until then."""
    actor, member, pid = new_victim()
    ref = actor.hold.remote()
    wait_placed(member)
    deadline = time.monotonic() + 60
    while ROSTER.report(member).peak < 256 << 20 and time.monotonic() < deadline:
        time.sleep(0.2)
    ROSTER.where = "stage rl, step 7"
    os.kill(pid, signal.SIGKILL)
    text = autopsy_of(ref, member)
    ROSTER.where = ""
    assert text.startswith(f"{member.name} died in phase generate (stage rl, step 7): killed by SIGKILL")
    assert f"pid {pid}" in text
    (memory,) = [line for line in text.splitlines() if line.startswith("  memory")]
    assert "█" in memory
    assert float(memory.split("-> ")[1].split()[0]) >= 0.25
    assert "remedy" in text.splitlines()[-1]


@pytest.mark.parametrize(
    ("method", "cause", "said"),
    [("crash", "ended by SIGSEGV", "in crash"), ("leave", "exited with code 3", "remedy")],
)
def test_an_actor_that_ends_itself(new_victim: Any, method: str, cause: str, said: str) -> None:
    actor, member, _ = new_victim()
    wait_placed(member)
    text = autopsy_of(getattr(actor, method).remote(), member)
    assert cause in text.splitlines()[0]
    assert said in text


def test_a_stopped_actor_is_found_and_ended(new_victim: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """R8: a wait for a process that is stopped ends in seconds, names it, and it can be ended all the same."""
    actor, member, pid = new_victim()
    wait_placed(member)
    monkeypatch.setattr(ROSTER, "limit_s", 3.0)
    os.kill(pid, signal.SIGSTOP)
    began = time.monotonic()
    done, frozen = ROSTER.wait([actor.hold.remote()], [member], 120)
    assert (done, frozen) == ([], member)
    assert time.monotonic() - began < 60
    text = str(death(member, "score"))
    assert text.startswith(f"{member.name} is frozen in phase score: ")
    ROSTER.end(member)
    deadline = time.monotonic() + 20
    while os.path.exists(f"/proc/{pid}") and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not os.path.exists(f"/proc/{pid}")


def test_an_actor_that_is_slow_is_not_called_dead(new_victim: Any) -> None:
    actor, member, _ = new_victim()
    ref = actor.hold.remote()
    wait_placed(member)
    assert ROSTER.wait([ref], [member], 1.5) == ([], None)
    text = str(silence(member, "learn", 1.5, "resources.step_timeout_s"))
    assert "gave no answer in phase learn: alive" in text
    assert "resources.step_timeout_s" in text


def report(rss: list[int], available: int, kills: int = 0, limit: int | None = None, log: str = "") -> ProcessReport:
    return ProcessReport(rss, max(rss, default=0), log, "", kills, Memory(64 * GIB, available, limit))


@pytest.mark.parametrize(
    ("said", "seen", "cause", "remedy"),
    [
        (SIGKILLED, report([GIB], 40 * GIB), "somebody or a batch system", "--resume"),
        (SIGKILLED, report([GIB], 40 * GIB, kills=1), "kernel's out-of-memory killer", "max_tokens_per_micro_batch"),
        # 30 GiB are free now, of which it held 29: it died with 1 of 64 left.
        (SIGKILLED, report([29 * GIB], 30 * GIB), "for want of memory", "memory_mb"),
        (SIGKILLED, report([7 * GIB], int(7.2 * GIB), limit=8 * GIB), "for want of memory", "memory_mb"),
        (SIGKILLED, report([GIB], 40 * GIB, log="MemoryError"), "out of memory, as its log says", "memory_mb"),
        ("Task was killed due to the node running low on memory.", report([], 0), "Ray's memory monitor", "memory_mb"),
        ("The process receives a SIGTERM. Exit code: 1", report([], 0), "ended by SIGTERM", "--resume"),
        ("The actor died because its node has died.", report([], 0), "its node left", "raylet.out"),
        (SIGKILLED, report([], 0, log="*** SIGABRT received at\nCUDA out of memory"), "GPU memory", "zero_stage"),
        (
            SIGKILLED,
            report([], 0, log="*** SIGABRT received at\nstd::bad_alloc"),
            "SIGABRT, out of memory",
            "memory_mb",
        ),
    ],
)
def test_the_cause_is_told_from_the_traces(said: str, seen: ProcessReport, cause: str, remedy: str) -> None:
    """What Ray says, what the kernel counts, what the log ends with."""
    verdict = diagnose(said, seen)
    assert cause in verdict.cause
    assert remedy in verdict.remedy


def test_a_curve_shows_the_highest_of_each_stretch() -> None:
    assert curve([0, 4, 8]) == "▁▅█"
    assert len(curve(list(range(300)))) == 40
    assert curve([1, 1, 100, *[1] * 97])[1] == "█", "one sample of the second two and a half"
