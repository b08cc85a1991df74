"""Frozen reward models: a sequence classification model in a Ray actor, and the driver's side of it."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import ray
from ray.exceptions import RayActorError, RayTaskError

from rlvr.cluster.autopsy import death, out_of_memory, silence
from rlvr.cluster.environment import learner_environment
from rlvr.cluster.roster import HEALTH, ROSTER
from rlvr.errors import RlvrError, WorkerDied
from rlvr.models.scored_text import Candidate, UnscorableError, candidate_of, scored_ids
from rlvr.recipe.trained_models import ClassifierModel
from rlvr.records import Failure, Group, Outcome, Score

if TYPE_CHECKING:
    import torch


def outcome_of(logit: float, output: str) -> Outcome:
    """A reward model's logit as a term's outcome. Cooper (2508.05613) rewards with the sigmoid."""
    if not math.isfinite(logit):
        return Failure("non_finite", f"the reward model's logit is {logit}")
    if output == "raw":
        return Score(logit)
    value = 1 / (1 + math.exp(-logit)) if logit >= 0 else math.exp(logit) / (1 + math.exp(logit))
    return Score(value if output == "sigmoid" else float(value > 0.5), {"logit": logit})


class RewardModelWorker:
    """One classifier. A plain class; `FrozenRewardModel` makes it a Ray actor."""

    def __init__(self, config: ClassifierModel) -> None:
        self.config = config

    def ping(self) -> int:
        """The process id; answers while another method runs."""
        return os.getpid()

    def pulse(self) -> float:
        """That this process answers."""
        return 0.0

    def load(self) -> None:
        """Loads model and tokenizer. RlvrError for a model of more than one output."""
        import torch
        from transformers import AutoModelForSequenceClassification, AutoTokenizer
        from transformers.utils.logging import disable_progress_bar

        disable_progress_bar()
        config = self.config
        torch.set_num_threads(config.threads)
        self.device = "cuda" if config.gpus else "cpu"
        remote = config.trust_remote_code
        self.tokenizer = AutoTokenizer.from_pretrained(config.path, trust_remote_code=remote)
        model = AutoModelForSequenceClassification.from_pretrained(
            config.path, dtype=getattr(torch, config.dtype), trust_remote_code=remote
        )
        if model.config.num_labels != 1:
            raise RlvrError(
                f"path={config.path!r}: the model has {model.config.num_labels} outputs, a reward model has 1; train "
                "one with `rlvr rm`, or name a Bradley-Terry model"
            )
        self.model = model.to(self.device).eval()

    def score(self, candidates: Sequence[Candidate]) -> list[Outcome]:
        """An outcome per text, in order. What is wrong with one text is its own Failure."""
        outcomes: list[Outcome | None] = [None] * len(candidates)
        rows: list[tuple[int, list[int]]] = []
        for index, candidate in enumerate(candidates):
            try:
                rows.append((index, scored_ids(candidate, self.config, self.tokenizer)))
            except UnscorableError as error:
                outcomes[index] = Failure("exception", str(error))
        rows.sort(key=lambda row: len(row[1]))
        for start in range(0, len(rows), self.config.batch_size):
            batch = rows[start : start + self.config.batch_size]
            logits = self._logits([ids for _, ids in batch]).tolist()
            for (index, _), logit in zip(batch, logits, strict=True):
                outcomes[index] = outcome_of(logit, self.config.output)
        return [outcome for outcome in outcomes if outcome is not None]

    def _logits(self, rows: Sequence[Sequence[int]]) -> torch.Tensor:
        """[B] at each row's last token, which is known by its length: the padding token may end a text as well."""
        import torch

        longest = max(map(len, rows))
        lengths = torch.tensor([len(row) for row in rows])
        ids = torch.tensor([[*row, *([0] * (longest - len(row)))] for row in rows], device=self.device)
        mask = (torch.arange(longest) < lengths[:, None]).long().to(self.device)
        with torch.inference_mode():
            if not hasattr(self.model, "score"):  # encoders pool a token of their own
                return self.model(input_ids=ids, attention_mask=mask).logits[:, 0].float()
            hidden = self.model.base_model(input_ids=ids, attention_mask=mask).last_hidden_state
            last = hidden[torch.arange(len(rows), device=self.device), (lengths - 1).to(self.device)]
            return self.model.score(last)[:, 0].float()


class FrozenRewardModel:
    """The actor as the controller sees it. Raises WorkerDied, naming the model, if it dies or does not answer."""

    def __init__(self, name: str, config: ClassifierModel, start_timeout_s: float, step_timeout_s: float) -> None:
        self.name = name
        self.config = config
        self._timeout_s = step_timeout_s
        device = "cuda" if config.gpus else "cpu"
        # A ping must be answered while texts are scored, so it has a thread of its own.
        actor: Any = ray.remote(concurrency_groups={HEALTH: 1})(RewardModelWorker)  # type: ignore[call-overload]
        self._worker = actor.options(
            num_cpus=0,
            num_gpus=config.gpus,
            max_restarts=0,
            runtime_env={"env_vars": learner_environment(config.threads, device)},
        ).remote(config)
        self._member = ROSTER.enlist(f"reward.models.{name}", self._worker, pulse=True)
        ping = self._worker.ping.options(concurrency_group=HEALTH).remote()
        self._pid: int | None = self._get(ping, start_timeout_s, "start")
        self._get(self._worker.load.remote(), start_timeout_s, "start")

    def score(self, groups: Iterable[Group], terms: Sequence[str]) -> Iterator[Group]:
        """Yields the groups with the outcomes of `terms`, each sent off as soon as `groups` brings it forth."""
        open_jobs: dict[Any, Group] = {}
        for group in groups:
            rollouts = [rollout for rollout in group.rollouts if rollout.failure is None]
            open_jobs[self._worker.score.remote([candidate_of(rollout) for rollout in rollouts])] = group
            done, _ = ray.wait(list(open_jobs), num_returns=len(open_jobs), timeout=0)
            yield from (self._settle(ref, open_jobs.pop(ref), terms) for ref in done)
        while open_jobs:
            done, frozen = ROSTER.wait(list(open_jobs), [self._member], self._timeout_s)
            if frozen is not None:
                raise death(frozen, "score")
            if not done:
                raise self._late("score", self._timeout_s)
            yield from (self._settle(ref, open_jobs.pop(ref), terms) for ref in done)

    def pid(self) -> int | None:
        """The actor's process id."""
        return self._pid

    def close(self) -> None:
        """Ends the actor."""
        ray.kill(self._worker)
        ROSTER.dismiss([self._member])

    def _settle(self, ref: Any, group: Group, terms: Sequence[str]) -> Group:
        outcomes = iter(self._get(ref, self._timeout_s, "score"))
        for rollout in group.rollouts:
            outcome = rollout.failure if rollout.failure is not None else next(outcomes)
            rollout.outcomes |= dict.fromkeys(terms, outcome)
        return group

    def _get(self, ref: Any, timeout_s: float, phase: str) -> Any:
        done, frozen = ROSTER.wait([ref], [self._member], timeout_s)
        if frozen is not None:
            raise death(frozen, phase)
        if not done:
            raise self._late(phase, timeout_s)
        try:
            return ray.get(ref, timeout=timeout_s)
        except RayActorError as error:
            raise death(self._member, phase, error) from error
        except RayTaskError as error:
            if isinstance(error.cause, RlvrError):
                raise type(error.cause)(f"reward.models.{self.name}: {error.cause}") from None
            if out_of_memory(error):
                raise death(self._member, phase, error) from error
            raise

    def _late(self, phase: str, seconds: float) -> WorkerDied:
        knob = "resources.start_timeout_s" if phase == "start" else "resources.step_timeout_s"
        wanted = f" (it asks for {self.config.gpus:g} GPUs; are they free?)" if self.config.gpus else ""
        return silence(self._member, phase, seconds, knob + wanted)
