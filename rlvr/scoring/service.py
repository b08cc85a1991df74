"""Scoring as the controller sees it: groups go in as they finish, and come back with their outcomes."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import RayActorError, RayTaskError

from rlvr.cluster.autopsy import death, silence
from rlvr.cluster.roster import HEALTH, ROSTER, Member
from rlvr.errors import RecipeError, RlvrError
from rlvr.recipe.schema import RewardConfig, RewardResources
from rlvr.records import Abstain, Failure, Group, Outcome, Prompt
from rlvr.scoring.endpoints import endpoints_of
from rlvr.scoring.inputs import batch_inputs_of, gold_inputs_of, inputs_of
from rlvr.scoring.noise import appeals_of
from rlvr.scoring.worker import RewardWorker

MAX_LOSSES = 2  # a group that took so many actors down with it is answered with Failure("lost")
MAX_BAD_GOLDS = 5  # that an error shows
MAX_GOLD_CHARACTERS = 200
GROUPS_PER_ACTOR = 32  # threads of an actor: waiting groups, whose calls share the actor's processes


@dataclass(slots=True)
class _Job:
    """Groups at a worker, to be scored by some of the terms."""

    groups: list[Group]
    inputs: list[dict[str, Any]]
    terms: list[str]
    worker: int
    actor: Any = None
    losses: int = 0


class RewardService:
    """Reward workers as Ray actors. Raises RlvrError if a reward module cannot be imported, within `timeout_s`.

    The actors claim no CPUs: their work overlaps with generation, and what they run is bounded by their processes.
    """

    def __init__(
        self,
        config: RewardConfig,
        resources: RewardResources,
        timeout_s: float,
        served: Mapping[str, Mapping[str, str]] | None = None,
    ) -> None:
        # `served`: where the models of kind `vllm` are, by their names (`rlvr.scoring.hosted`).
        self._endpoints = endpoints_of(config, served or {}, resources.count * resources.processes)
        self._config = config
        self._processes = resources.processes
        self._timeout_s = timeout_s
        # A pulse must be felt while every thread waits for groups, so it has a thread of its own.
        self._actor_class: Any = ray.remote(concurrency_groups={HEALTH: 1})(RewardWorker)  # type: ignore[call-overload]
        self._workers: list[Any] = [None] * resources.count
        self._members: list[Member] = []
        self._jobs: dict[Any, _Job] = {}  # by the object ref of their outcomes
        appeals = config.noise.appeals if config.noise else None
        self._appeals_by = appeals.by if appeals else None
        heard = [(name, term) for name, term in config.terms.items() if name != self._appeals_by]
        self._group_terms = [name for name, term in heard if term.scope == "group"]
        self._batch_terms = [name for name, term in config.terms.items() if term.scope == "batch"]
        for index in range(resources.count):
            self._members.append(self._create(index))
        self._on_all("ready", [()] * resources.count)

    def score(self, groups: Iterable[Group]) -> Iterator[Group]:
        """Yields the groups with outcomes filled in, in order of completion.

        Each is submitted as soon as `groups` brings it forth. A worker that dies or freezes is replaced and its groups
        are scored again. Raises WorkerDied if no group finishes within `timeout_s`.
        """
        try:
            scored = self._streamed(groups) if self._group_terms else iter(groups)
            scored = self._as_batch(list(scored)) if self._batch_terms else scored
            yield from self._with_appeals(list(scored), self._appeals_by) if self._appeals_by else scored
        finally:
            self._jobs.clear()  # a caller that stops early must not find these groups in its next call

    def _streamed(self, groups: Iterable[Group]) -> Iterator[Group]:
        for group in groups:
            self._submit([group], [inputs_of(rollout) for rollout in group.rollouts], self._group_terms)
            yield from self._finished(wait_s=0.0)
        yield from self._remaining()

    def _as_batch(self, groups: list[Group]) -> Iterator[Group]:
        """All groups in one call of each term of scope `batch`, in an order that does not depend on timing."""
        groups = sorted(groups, key=lambda group: (group.prompt.id, group.rollouts[0].member))
        if groups:
            self._submit(groups, batch_inputs_of(groups), self._batch_terms)
        yield from self._remaining()

    def _with_appeals(self, groups: list[Group], by: str) -> list[Group]:
        """Asks the second verifier about a sample of what the first one rejected (`rlvr.scoring.noise`)."""
        assert self._config.noise is not None
        noisy = self._config.noise.term or self._config.correct_term
        for group in groups:
            for rollout in group.rollouts:
                rollout.outcomes[by] = Abstain("not appealed")
            appealed = appeals_of([group], self._config.noise, noisy)
            if appealed:
                self._submit([Group(group.prompt, appealed)], [inputs_of(rollout) for rollout in appealed], [by])
        for _ in self._remaining():
            pass
        return groups

    def _remaining(self) -> Iterator[Group]:
        while self._jobs:
            finished = list(self._finished(wait_s=self._timeout_s))
            if not finished and self._jobs:
                slow = self._members[next(iter(self._jobs.values())).worker]
                raise silence(slow, "score", self._timeout_s, "resources.step_timeout_s (or lower reward.timeout_s)")
            yield from finished

    def check_golds(self, prompts: Sequence[Prompt], where: str) -> None:
        """Raises RecipeError if a term's verifier cannot use the gold answer of a prompt; `where` names their source.

        Only terms whose module defines `check_gold` are asked, in the reward processes and under their limits.
        """
        count = len(self._workers)
        shares = [prompts[index::count] for index in range(count)]
        checked = self._on_all("check_golds", [([gold_inputs_of(prompt) for prompt in share],) for share in shares])
        bad = {
            prompt.id: (prompt, problems)
            for share, rows in zip(shares, checked, strict=True)
            for prompt, problems in zip(share, rows, strict=True)
            if problems
        }
        if bad:
            raise RecipeError(_bad_golds_message([bad[p.id] for p in prompts if p.id in bad], len(prompts), where))

    def pids(self) -> list[list[int]]:
        """For each worker the process ids of the actor and its children."""
        return ray.get([worker.pids.remote() for worker in self._workers], timeout=self._timeout_s)

    def close(self) -> None:
        """Ends the actors; their children end with them."""
        self._jobs.clear()
        for worker in self._workers:
            ray.kill(worker)
        ROSTER.dismiss(self._members)
        self._workers, self._members = [], []

    def _create(self, index: int) -> Member:
        self._workers[index] = self._actor_class.options(
            num_cpus=0, max_concurrency=GROUPS_PER_ACTOR, scheduling_strategy="SPREAD", max_restarts=0
        ).remote(self._config, self._processes, self._endpoints)
        return ROSTER.enlist(f"reward worker {index}", self._workers[index], pulse=True)

    def _replace(self, index: int, error: BaseException | None) -> None:
        before = self._members[index]
        autopsy = death(before, "score", error)
        logging.getLogger(__name__).warning("%s\nanother is started in its place", autopsy)
        ROSTER.end(before)
        self._members[index] = self._create(index)
        ROSTER.dismiss([before])

    def _on_all(self, method: str, arguments: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Calls a method on every worker, each with its own arguments; the first that fails or is late raises."""
        refs = [getattr(worker, method).remote(*each) for worker, each in zip(self._workers, arguments, strict=True)]
        deadline = time.monotonic() + self._timeout_s
        results = []
        for member, ref in zip(self._members, refs, strict=True):
            done, frozen = ROSTER.wait([ref], [member], deadline - time.monotonic())
            if frozen is not None:
                raise death(frozen, "start")
            if not done:
                raise silence(member, f"start ({method})", self._timeout_s, "resources.step_timeout_s")
            try:
                results.append(ray.get(ref))
            except (RayActorError, RayTaskError) as error:
                raise _cause(error, member, "start") from error
        return results

    def _submit(self, groups: list[Group], inputs: list[dict[str, Any]], terms: list[str]) -> None:
        load = [0] * len(self._workers)
        for job in self._jobs.values():
            load[job.worker] += 1
        self._send(_Job(groups, inputs, terms, load.index(min(load))))

    def _send(self, job: _Job) -> None:
        job.actor = self._workers[job.worker]
        self._jobs[job.actor.score_inputs.remote(job.inputs, job.terms)] = job

    def _finished(self, wait_s: float) -> Iterator[Group]:
        """Groups that are scored; waits up to `wait_s` for the first. Lost groups are sent again on the way."""
        deadline = time.monotonic() + wait_s
        while self._jobs:
            remaining = max(0.0, deadline - time.monotonic())
            refs, frozen = ROSTER.wait(list(self._jobs), self._members, remaining)
            if frozen is not None:
                self._replace(self._members.index(frozen), None)  # its groups come back as those of a dead one
                continue
            if refs:  # whatever else is there already comes along
                refs, _ = ray.wait(list(self._jobs), num_returns=len(self._jobs), timeout=0)
            groups = [group for ref in refs for group in self._collect(ref)]
            yield from groups
            if groups or remaining <= 0:
                return

    def _collect(self, ref: Any) -> list[Group]:
        """The scored groups, or none if their worker died and they were sent again."""
        job = self._jobs.pop(ref)
        try:
            outcomes: list[dict[str, Outcome]] = ray.get(ref)
        except RayActorError as error:
            job.losses += 1
            if self._workers[job.worker] is job.actor:  # else another of its groups has had it replaced
                self._replace(job.worker, error)
            if job.losses <= MAX_LOSSES:
                self._send(job)
                return []
            failure = Failure("lost", f"its reward worker died {job.losses} times: {error}"[:2000])
            outcomes = [dict.fromkeys(job.terms, failure) for _ in job.inputs]
        except RayTaskError as error:
            raise _cause(error, self._members[job.worker], "score") from error
        rollouts = [rollout for group in job.groups for rollout in group.rollouts]
        for rollout, new in zip(rollouts, outcomes, strict=True):
            if rollout.failure is not None:
                # Its environment broke: no verifier's opinion of what was said until then is its worth.
                new = dict.fromkeys(new, rollout.failure)
            known = rollout.outcomes | new  # the terms of the recipe give the order
            rollout.outcomes = {name: known[name] for name in [*self._config.terms, *known] if name in known}
        return job.groups


def _bad_golds_message(bad: Sequence[tuple[Prompt, dict[str, str]]], num_prompts: int, where: str) -> str:
    lines = []
    for prompt, problems in bad[:MAX_BAD_GOLDS]:
        gold = repr(prompt.answer if prompt.answer is None else prompt.answer[:MAX_GOLD_CHARACTERS])
        lines += [f"  prompt {prompt.id}, answer {gold}: reward.terms.{t}: {why}" for t, why in problems.items()]
    if len(bad) > MAX_BAD_GOLDS:
        lines.append(f"  ... and {len(bad) - MAX_BAD_GOLDS} more")
    return (
        f"{where}: {len(bad)} of {num_prompts} gold answers cannot be used by the reward functions:\n"
        + "\n".join(lines)
        + "\nMend these rows or drop them (a source `custom` can leave rows out), set columns.answer_pattern to cut "
        "the answer out of its column, or choose another reward.terms.<name>.fn"
    )


def _cause(error: Exception, member: Member, phase: str) -> RlvrError:
    """The RlvrError that a worker raised, out of Ray's wrapping; else the worker's autopsy."""
    cause = getattr(error, "cause", None) or error.__cause__
    if isinstance(cause, RlvrError):
        return type(cause)(str(cause))
    return death(member, phase, error)
