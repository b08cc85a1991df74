"""Completions that go on over steps: what a window cut trains now, and is continued in the next step (T-PPO).

Successive batching (2506.15050): a step continues all open completions by one window each and draws prompts for the
places of those that ended, so that the batch keeps its size. What is continued are the tokens that the engine sampled,
never their text; each token keeps the logprob and the policy version that it was sampled with.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rlvr.learner.batch import TrainSequence
from rlvr.metrics import Metrics
from rlvr.records import Group, Prompt, Rollout, SamplingParams, Segment

if TYPE_CHECKING:
    from rlvr.controller.context import StageContext
    from rlvr.recipe.schema import RlStage

EARLIER = "earlier_window"
"""Column of sequences that go on from an earlier step: 1 at the tokens that trained there."""

Sample = Callable[[Sequence[Prompt]], Iterable[Group]]


class Windows:
    """The completions of a stage that a window has cut and nothing has ended. Saved with its checkpoints."""

    def __init__(self, places: int, group_size: int, max_completion_tokens: int, decode: Callable[[list[int]], str]):
        """`places` rollouts make a step."""
        self.places, self.group_size = places, group_size
        self.limit = max_completion_tokens
        self.decode = decode
        self.open: list[Rollout] = []
        self._rested: list[Rollout] = []

    @property
    def num_prompts(self) -> int:
        """New prompts that the next step has room for."""
        return (self.places - len(self.open)) // self.group_size

    def advance(self, prompts: Sequence[Prompt], sample: Sample) -> Iterator[Group]:
        """Samples one window for every open completion and for `group_size` new ones per prompt.

        Yields those that have ended, one by one: the members of a prompt end in different steps. `sample` draws one
        completion per prompt, of at most a window.
        """
        waiting = {_place(rollout): rollout for rollout in self.open}
        asked = [_continuation(name, rollout) for name, rollout in waiting.items()]
        asked += [prompt for prompt in prompts for _ in range(self.group_size)]
        self.open = []
        for group in sample(asked):
            (rollout,) = group.rollouts
            if group.prompt.id in waiting:
                rollout = self._joined(waiting[group.prompt.id], rollout)
            rollout.sampling = replace(rollout.sampling, max_completion_tokens=self.limit)
            rollout.open = rollout.cut and rollout.num_completion_tokens < self.limit
            if rollout.open:
                self.open.append(rollout)
            else:
                yield Group(rollout.prompt, [rollout])
        # Not in the order in which they came: a run does not depend on timing.
        self.open.sort(key=lambda rollout: (rollout.prompt.id, rollout.member, rollout.seed))

    def rest(self) -> None:
        """Notes that a step is finished: what is open now is what a checkpoint holds until the next one is."""
        self._rested = list(self.open)

    def metrics(self) -> Metrics:
        """`windows/open`: the share of the step's places that go on in the next."""
        return {"windows/open": (float(len(self.open)), float(self.places))}

    def save(self, file: Path) -> None:
        """Writes the completions that were open when the last step was finished, one per line."""
        file.write_text("\n".join(json.dumps(_row(rollout)) for rollout in self._rested))

    def load(self, file: Path, prompts: Iterable[Prompt]) -> None:
        """Takes up what `save` wrote."""
        known = {prompt.id: prompt for prompt in prompts}
        self.open = [_rollout(json.loads(line), known) for line in file.read_text().splitlines()]
        self.rest()

    def _joined(self, before: Rollout, more: Rollout) -> Rollout:
        (old,), (new,) = before.segments, more.segments
        ids = [*old.completion_ids, *new.completion_ids]
        segment = Segment(
            prompt_ids=old.prompt_ids,
            completion_ids=ids,
            loss_mask=[*old.loss_mask, *new.loss_mask],
            behavior_logprobs=[*old.behavior_logprobs, *new.behavior_logprobs],
            policy_versions=[*old.policy_versions, *new.policy_versions],
            finish_reason=new.finish_reason,
        )
        trained = len(old.completion_ids)
        return replace(
            before, segments=[segment], text=self.decode(ids), sampling=more.sampling, trained_tokens=trained
        )


def windows_of(stage: RlStage, decode: Callable[[list[int]], str]) -> Windows | None:
    """What a stage with `rollout.window_tokens` keeps from step to step."""
    rollout = stage.rollout
    if rollout.window_tokens is None:
        return None
    places = rollout.prompts_per_step * rollout.group_size
    return Windows(places, rollout.group_size, rollout.max_completion_tokens, decode)


def num_prompts(context: StageContext[RlStage]) -> int:
    """Prompts that the batch of the next step has room for."""
    return context.windows.num_prompts if context.windows else context.stage.rollout.prompts_per_step


def completions(
    context: StageContext[RlStage], prompts: Sequence[Prompt], key: tuple[object, ...], stage_step: int, members: int
) -> Iterator[Group]:
    """The completions of a step as they end: `members` per prompt, and with windows those of earlier steps."""
    stage, session = context.stage, context.session
    sampling, environment = session.sampling(stage, stage_step), session.environment(stage)
    if context.windows:
        return context.windows.advance(prompts, lambda asked: session.rollouts.generate(asked, 1, sampling, key))
    greedy = stage.rollout.greedy_baseline
    return session.rollouts.generate(prompts, members, sampling, key, environment, greedy_last=greedy)


def unfinished(context: StageContext[RlStage]) -> list[Group]:
    """What the step has sampled and not ended, a group each: it trains without a reward."""
    return [Group(rollout.prompt, [rollout]) for rollout in context.windows.open] if context.windows else []


def earlier_tokens(rollout: Rollout) -> dict[str, np.ndarray]:
    """The column of the tokens that trained in earlier steps, per sampled token; none for a fresh completion."""
    if not rollout.trained_tokens:
        return {}
    column = np.zeros(rollout.num_sampled_tokens, dtype=np.float32)
    column[: rollout.trained_tokens] = 1.0
    return {EARLIER: column}


def this_window(sequences: Sequence[TrainSequence]) -> list[TrainSequence]:
    """The sequences with the loss on the tokens of this step alone: what came before is context."""
    return [
        replace(sequence, loss_mask=sequence.loss_mask & (sequence.columns[EARLIER] == 0))
        if EARLIER in sequence.columns
        else sequence
        for sequence in sequences
    ]


def _place(rollout: Rollout) -> str:
    return f"{rollout.prompt.id}/{rollout.member}/{rollout.seed}@{rollout.num_completion_tokens}"


def _continuation(name: str, rollout: Rollout) -> Prompt:
    """The engine's next request: everything so far as the prompt. Its name gives it a seed of its own."""
    (segment,) = rollout.segments
    return replace(rollout.prompt, id=name, token_ids=(*segment.prompt_ids, *segment.completion_ids))


def _row(rollout: Rollout) -> dict[str, Any]:
    (segment,) = rollout.segments
    return {
        "prompt": rollout.prompt.id,
        "member": rollout.member,
        "seed": rollout.seed,
        "text": rollout.text,
        "trained_tokens": rollout.trained_tokens,
        "sampling": asdict(rollout.sampling),
        "completion_ids": [int(token) for token in segment.completion_ids],
        "behavior_logprobs": [float(value) for value in segment.behavior_logprobs],
        "policy_versions": [int(version) for version in segment.policy_versions],
    }


def _rollout(row: dict[str, Any], prompts: dict[str, Prompt]) -> Rollout:
    prompt, ids = prompts[row["prompt"]], row["completion_ids"]
    logprobs, versions = row["behavior_logprobs"], row["policy_versions"]
    segment = Segment(prompt.token_ids, ids, [True] * len(ids), logprobs, versions, "length")
    stops = tuple(row["sampling"].pop("stop_token_ids"))
    sampling = SamplingParams(**row["sampling"], stop_token_ids=stops)
    made = Rollout(prompt, row["member"], row["seed"], [segment], row["text"], sampling)
    made.open, made.trained_tokens = True, row["trained_tokens"]
    return made
