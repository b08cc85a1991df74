"""The driver's side of generation: groups submitted continuously over the rollout workers, returned as they finish."""

from __future__ import annotations

import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import RayActorError, RayTaskError

from rlvr.cluster.autopsy import death, silence
from rlvr.cluster.environment import engine_environment
from rlvr.cluster.roster import HEALTH, ROSTER, Member
from rlvr.cluster.watch import SAMPLE_EVERY_S
from rlvr.errors import WorkerDied
from rlvr.records import Group, Prompt, SamplingParams, derive_seed
from rlvr.rollout.engine import EngineSpec
from rlvr.rollout.trajectory import EnvironmentSpec
from rlvr.rollout.worker import RolloutWorker

IDEMPOTENT = ("sleep", "wake")  # calls that a new engine in the place of a dead one may simply be given again


class EngineDied(WorkerDied):
    """A rollout worker is gone; `index` says which."""

    def __init__(self, message: str, index: int = -1) -> None:
        super().__init__(message)
        self.index = index


@dataclass(slots=True)
class _Job:
    """A group to generate: the members of a prompt with their seeds, and the worker that has it."""

    prompt: Prompt
    members: list[tuple[int, int]]
    worker: int = -1


class RolloutPool:
    """Rollout workers behind one queue: the next group goes to the worker with the fewest sequences in flight.

    A worker that dies or freezes is replaced `restarts` times, in all, by a new one; its groups are generated again
    with their seeds, so that nothing shows that it happened. `restore(i)` must give worker i the weights that the
    others hold; without it a new one keeps those of `spec.model_dir`.
    """

    def __init__(
        self,
        spec: EngineSpec,
        count: int,
        timeout_s: float,
        actor_options: Sequence[Mapping[str, Any]] | None = None,
        restarts: int = 0,
        environments: Sequence[Mapping[str, str]] | None = None,
    ) -> None:
        """`actor_options[i]` are extra Ray options (GPUs, placement) of worker i, `environments[i]` extra variables.

        Call `start` before anything else.
        """
        self.spec = spec
        self.timeout_s = timeout_s
        self.pids: list[int] = []
        self.restarts = restarts
        self.restore: Callable[[int], None] | None = None
        self.check_stop: Callable[[], None] = lambda: None  # raises to end generation early
        self._start_timeout_s = timeout_s
        self._options, self._environments = actor_options, environments
        self.workers: list[Any] = [self._create(index) for index in range(count)]
        self.members: list[Member] = [self._enlist(index) for index in range(count)]

    def start(self, timeout_s: float) -> list[int]:
        """Waits until every engine has decoded its warm-up; process ids."""
        self._start_timeout_s = timeout_s
        self.pids = self.on_all("start", timeout_s=timeout_s)
        return self.pids

    def generate(
        self,
        prompts: Iterable[Prompt],
        group_size: int,
        sampling: SamplingParams,
        seed_key: Sequence[object],
        environment: EnvironmentSpec | None = None,
        greedy_last: bool = False,
    ) -> Iterator[Group]:
        """Groups in the order they finish. Member m of a prompt is seeded by (seed_key, prompt id, m).

        Rollouts are single completions, or played in an `environment`; with `greedy_last` the last of each group is
        greedy.

        Raises EngineDied when an engine dies that is not replaced, WorkerDied when no group finishes within the step
        timeout.
        """
        waiting = deque(_jobs(prompts, group_size, seed_key))
        limit = self.spec.max_concurrent + group_size
        load = [0] * len(self.workers)
        running: dict[ray.ObjectRef, _Job] = {}
        deadline = time.monotonic() + self.timeout_s
        while waiting or running:
            while waiting:
                index = min(range(len(load)), key=load.__getitem__)
                if load[index] and load[index] + group_size > limit:
                    break
                job = waiting.popleft()
                job.worker = index
                generate = self.workers[index].generate
                running[generate.remote(job.prompt, job.members, sampling, environment, greedy_last)] = job
                load[index] += group_size
            done, frozen = ROSTER.wait(list(running), self.members, min(SAMPLE_EVERY_S, deadline - time.monotonic()))
            self.check_stop()
            try:
                if frozen is not None:
                    raise self._lost(self.members.index(frozen), "generate")
                if not done:
                    if time.monotonic() > deadline:
                        slow = self.members[next(iter(running.values())).worker]
                        raise silence(slow, "generate", self.timeout_s, "resources.step_timeout_s")
                    continue
                rollouts = self.result(done[0], running[done[0]].worker, "generate")
            except EngineDied as lost:
                self.replace(lost)
                again = [ref for ref, job in running.items() if job.worker == lost.index]
                waiting.extendleft(running.pop(ref) for ref in reversed(again))
                load[lost.index] = 0
                deadline = time.monotonic() + self.timeout_s
                continue
            job = running.pop(done[0])
            load[job.worker] -= group_size
            yield Group(job.prompt, rollouts)
            deadline = time.monotonic() + self.timeout_s

    def on_all(self, method: str, *args: Any, timeout_s: float | None = None) -> list[Any]:
        """Calls a method on every worker at once and waits for all of them, by the deadline."""
        calls = [getattr(worker, method).remote(*args) for worker in self.workers]
        deadline = time.monotonic() + (timeout_s or self.timeout_s)
        results = []
        for index, call in enumerate(calls):
            try:
                results.append(self.result(call, index, method, max(0.0, deadline - time.monotonic())))
            except EngineDied as lost:
                if method not in IDEMPOTENT:
                    raise
                self.replace(lost)
                results.append(self.result(getattr(self.workers[index], method).remote(*args), index, method))
        return results

    def replace(self, lost: EngineDied, restore: bool = True) -> None:
        """Starts a worker in the place of one that is lost; raises `lost` where that has been done often enough.

        It serves once it has the weights of the others, unless `restore` is False because they are about to be sent.
        """
        if self.restarts <= 0:
            raise lost
        self.restarts -= 1
        logging.getLogger(__name__).warning("%s\nanother engine is started in its place", lost)
        before = self.members[lost.index]
        ROSTER.end(before)
        self.workers[lost.index] = self._create(lost.index)
        self.members[lost.index] = self._enlist(lost.index)
        ROSTER.dismiss([before])
        started = self.workers[lost.index].start.remote()
        self.pids[lost.index] = self.result(started, lost.index, "start", self._start_timeout_s)
        if restore and self.restore is not None:
            self.restore(lost.index)

    def result(self, ref: ray.ObjectRef, index: int, phase: str, timeout_s: float | None = None) -> Any:
        """What worker `index` answers. EngineDied when it is gone, WorkerDied when it fails or is late."""
        member = self.members[index]
        limit_s = timeout_s if timeout_s is not None else self.timeout_s
        done, frozen = ROSTER.wait([ref], [member], limit_s)
        if frozen is not None:
            raise self._lost(index, phase)
        if not done:
            knob = "resources.start_timeout_s" if phase == "start" else "resources.step_timeout_s"
            raise silence(member, phase, limit_s, knob)
        try:
            return ray.get(ref, timeout=self.timeout_s)
        except RayActorError as error:
            raise self._lost(index, phase, error) from error
        except RayTaskError as error:
            raise death(member, phase, error) from error

    def close(self) -> None:
        """Ends the workers; their requests are dropped."""
        for worker in self.workers:
            ray.kill(worker)
        ROSTER.dismiss(self.members)

    def _create(self, index: int) -> Any:
        # A pulse must be felt while ten thousand requests wait, so it has a thread of its own.
        actor: Any = ray.remote(concurrency_groups={HEALTH: 1})(RolloutWorker)  # type: ignore[call-overload]
        environment = engine_environment(self.spec.threads, self.spec.device, self.spec.sleep_mode)
        environment |= self._environments[index] if self._environments else {}
        return actor.options(
            **{
                "num_cpus": 0,
                "max_concurrency": 10_000,
                # Ray would bring it back with the weights it was born with: `replace` does better.
                "max_restarts": 0,
                "runtime_env": {"env_vars": environment},
                **(self._options[index] if self._options else {}),
            }
        ).remote(self.spec)

    def _enlist(self, index: int) -> Member:
        return ROSTER.enlist(f"engine {index} ({self.spec.kind})", self.workers[index], pulse=True)

    def _lost(self, index: int, phase: str, error: BaseException | None = None) -> EngineDied:
        return EngineDied(str(death(self.members[index], phase, error)), index)


def _jobs(prompts: Iterable[Prompt], group_size: int, seed_key: Sequence[object]) -> Iterator[_Job]:
    seen: Counter[str] = Counter()
    for prompt in prompts:
        # A prompt that is drawn twice gets other members, hence other seeds, the second time.
        first = seen[prompt.id] * group_size
        seen[prompt.id] += 1
        yield _Job(prompt, [(m, derive_seed(*seed_key, prompt.id, m)) for m in range(first, first + group_size)])
