"""Why a worker is gone, in one text: which, doing what, the cause, its memory over time, its last words, a remedy."""

from __future__ import annotations

import itertools
import re
import time
from dataclasses import dataclass

from ray.exceptions import OutOfMemoryError, RayTaskError

from rlvr.cluster.roster import ROSTER, Member, actor_record
from rlvr.cluster.watch import Memory, ProcessReport
from rlvr.errors import WorkerDied

BARS = "▁▂▃▄▅▆▇█"
CURVE_WIDTH = 40
GIB = 1 << 30
NEARLY_FULL = 0.05  # of a node's memory, left free: then a SIGKILL was most likely for want of memory
KERNEL_S = 1.0  # for Ray's records and the kernel's counters to follow
RESUME = "go on with the same command and --resume"
LESS_MEMORY = (
    "the node ran out of memory: lower rollout.max_concurrent_rollouts or rollout.kv_cache_gb (engines), "
    "learner.max_tokens_per_micro_batch (learners), reward.memory_mb or resources.rewards.processes (rewards), "
    f"or use a node with more; then {RESUME}"
)
LESS_GPU_MEMORY = (
    "lower rollout.gpu_memory_utilization (engines) or learner.max_tokens_per_micro_batch, raise learner.zero_stage "
    f"or set learner.offload (learners); then {RESUME}"
)
GPU_OOM = re.compile(r"CUDA out of memory|OutOfMemoryError|CUBLAS_STATUS_ALLOC_FAILED")
HOST_OOM = re.compile(r"\bMemoryError\b|bad_alloc|[Cc]annot allocate memory|can't allocate memory")
SIGNAL_IN_LOG = re.compile(r"\*\*\* (SIG[A-Z]+) received")
EXIT_CODE = re.compile(r"exit code (\d+)")


@dataclass(frozen=True, slots=True)
class Verdict:
    """A cause, and what to do."""

    cause: str
    remedy: str


def death(member: Member, phase: str, error: BaseException | None = None) -> WorkerDied:
    """The autopsy of a member that died, froze, or failed while it was in `phase`, to be raised."""
    error = error or member.lost
    if member.frozen and actor_record(member.actor).get("State") == "DEAD":
        member.frozen = ""  # it has died since
    said = _said(member, error)
    report = ROSTER.report(member)
    if member.frozen and not member.lost:
        fate, verdict = "is frozen", frozen(member.frozen)
    elif isinstance(error, RayTaskError) and not _is_dead(error):
        fate, verdict = "failed", failed(error)
    else:
        fate, verdict = "died", diagnose(said, report)
    return WorkerDied(render(member, fate, phase, verdict, report))


def silence(member: Member, phase: str, seconds: float, knob: str) -> WorkerDied:
    """The autopsy of a member that lives and answers, but has not done its work by the deadline that `knob` sets."""
    if member.pid is None:
        verdict = Verdict(
            f"not placed and started within {seconds:.0f} s",
            f"see what it waits for with `ray status`; raise {knob} if it was about to start",
        )
        return WorkerDied(render(member, "did not start", phase, verdict, ProcessReport()))
    verdict = Verdict(
        f"alive, and not done within {seconds:.0f} s",
        f"raise {knob} if the work is that long; else see where it hangs: `py-spy dump --pid {member.pid or 'PID'}`",
    )
    return WorkerDied(render(member, "gave no answer", phase, verdict, ROSTER.report(member)))


def out_of_memory(error: RayTaskError) -> bool:
    """Whether a worker raised for want of memory, of the host or of the GPU."""
    cause = repr(error.cause) if error.cause is not None else str(error)
    return bool(GPU_OOM.search(cause) or HOST_OOM.search(cause))


def diagnose(said: str, report: ProcessReport) -> Verdict:
    """The cause of a death from what Ray `said` of it, the node's counters and the process's last words."""
    signal_in_log = SIGNAL_IN_LOG.search(report.log)
    if "running low on memory" in said or "memory monitor" in said.lower():
        return Verdict("killed by Ray's memory monitor, because the node was running low on memory", LESS_MEMORY)
    if "killed by `ray.kill`" in said:
        return Verdict("ended by ray.kill", RESUME)
    if re.search(r"its node has died|NODE_DIED|node is dead|was preempted", said):
        return Verdict("its node left the cluster", f"look at the node's raylet.out; {RESUME} once it is back")
    if "SIGTERM" in said:
        return Verdict("ended by SIGTERM: somebody, or a batch system, asked it to end", RESUME)
    if signal_in_log:
        name = signal_in_log.group(1)
        if GPU_OOM.search(report.log):
            return Verdict(f"ended by {name}, out of GPU memory", LESS_GPU_MEMORY)
        if HOST_OOM.search(report.log):
            return Verdict(f"ended by {name}, out of memory", LESS_MEMORY)
        return Verdict(f"ended by {name}, a crash in compiled code", f"its stack is in the log; {RESUME}")
    if code := EXIT_CODE.search(said):
        return Verdict(f"exited with code {code.group(1)}", f"its log says why; {RESUME}")
    if HOST_OOM.search(report.log):
        return Verdict("out of memory, as its log says", LESS_MEMORY)
    if "creation task failed" in said or "__init__" in said:
        return Verdict(" ".join(said.split())[-400:], "mend what the error names")
    return _silent_death(report)


def _silent_death(report: ProcessReport) -> Verdict:
    """No signal handler ran, nothing was written: SIGKILL."""
    if report.oom_kills:
        return Verdict("killed by the kernel's out-of-memory killer (SIGKILL)", LESS_MEMORY)
    memory = report.memory
    # What it held is free by now.
    if memory and report.rss and memory.available - report.rss[-1] < NEARLY_FULL * _size(memory):
        return Verdict("killed by SIGKILL, most likely by the kernel for want of memory", LESS_MEMORY)
    return Verdict(
        "killed by SIGKILL; the kernel reports no lack of memory, so somebody or a batch system did it",
        f"look for limits of the batch system; {RESUME}",
    )


def frozen(how: str) -> Verdict:
    """The verdict on a process that lives and does nothing."""
    if "stopped" in how:
        return Verdict(how, f"`kill -CONT PID` would have woken it; {RESUME}")
    return Verdict(how, f"see where it hangs with `py-spy dump --pid PID` before it is ended; {RESUME}")


def failed(error: RayTaskError) -> Verdict:
    """The verdict on a worker that lives, and raised."""
    cause = repr(error.cause) if error.cause is not None else str(error)
    if GPU_OOM.search(cause):
        return Verdict(f"out of GPU memory: {_first_line(str(error.cause))}", LESS_GPU_MEMORY)
    if HOST_OOM.search(cause):
        return Verdict(f"out of memory: {_first_line(str(error.cause))}", LESS_MEMORY)
    return Verdict(cause, f"mend what the error names; {RESUME}")


def render(member: Member, fate: str, phase: str, verdict: Verdict, report: ProcessReport) -> str:
    """The autopsy. Its first line says it all to somebody who reads no further."""
    place = f" ({ROSTER.where})" if ROSTER.where else ""
    lines = [f"{member.name} {fate} in phase {phase}{place}: {verdict.cause}"]
    if member.pid is not None:
        age = time.monotonic() - member.started
        lines.append(f"  process  pid {member.pid} on {member.host or 'this node'}, {age:.0f} s after its start")
    if report.rss:
        lines.append(f"  memory   {curve(report.rss)}  {_gib(report.rss[0])} -> {_gib(report.rss[-1])} GiB in the last")
        lines[-1] += f" {len(report.rss)} s, {_gib(report.peak)} at most"
    if report.memory:
        lines.append(f"  node     {_node(report)}")
    if report.log:
        lines.append(f"  log      last lines of {report.log_file}:")
        lines += [f"    {line[:300]}" for line in report.log.splitlines()]
    lines.append(f"  remedy   {verdict.remedy.replace('PID', str(member.pid or 'PID'))}")
    return "\n".join(lines)


def curve(samples: list[int], width: int = CURVE_WIDTH) -> str:
    """A sparkline from 0 to the highest sample, each bar the highest of the samples that it stands for."""
    top = max(samples)
    width = min(width, len(samples))
    cuts = [round(i * len(samples) / width) for i in range(width + 1)]
    heights = [max(samples[a:b]) for a, b in itertools.pairwise(cuts)]
    return "".join(BARS[min(len(BARS) - 1, height * len(BARS) // max(top, 1))] for height in heights)


def _said(member: Member, error: BaseException | None) -> str:
    """What Ray says of a death: the error, with what its records hold, which follow a moment later."""
    said = f"{type(error).__name__}: {error}" if error is not None else ""
    if isinstance(error, OutOfMemoryError):
        said += " running low on memory"
    record: dict[str, object] = {}
    deadline = time.monotonic() + KERNEL_S
    while not member.frozen and time.monotonic() < deadline:
        record = actor_record(member.actor)
        if record.get("State") == "DEAD" or (isinstance(error, RayTaskError) and not _is_dead(error)):
            break
        time.sleep(0.05)
    return f"{said} {record.get('DeathCause') or ''}"


def _is_dead(error: RayTaskError) -> bool:
    return isinstance(error.cause, SystemExit)


def _node(report: ProcessReport) -> str:
    memory = report.memory
    assert memory is not None
    limit = f" under a limit of {_gib(memory.limit)} GiB" if memory.limit is not None else ""
    kills = f"{report.oom_kills} processes" if report.oom_kills else "nothing"
    return (
        f"{_gib(memory.available)} of {_gib(memory.total)} GiB free{limit}; "
        f"the kernel has killed {kills} for want of memory since it started"
    )


def _size(memory: Memory) -> int:
    return memory.total if memory.limit is None else min(memory.limit, memory.total)


def _gib(number: int) -> str:
    return f"{number / GIB:.2f}"


def _first_line(text: str) -> str:
    return text.strip().splitlines()[0] if text.strip() else ""
