"""From scored groups to what the learner trains on: filters, advantages, sequences. Every drop has a reason."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import torch

from rlvr.controller.advantages import NO_BASELINE, advantage_of, finished, greedy_rewards, is_greedy
from rlvr.controller.auxiliary import marks_of, set_marks
from rlvr.controller.credit import is_anchored, is_plain, token_advantages
from rlvr.controller.estimates import Estimate
from rlvr.controller.members import choose_members
from rlvr.controller.optimal_values import has_value, value_facts
from rlvr.controller.outcome_weights import outcome_weights
from rlvr.controller.replay import replay_columns
from rlvr.controller.selecting import down_sample
from rlvr.controller.span_weights import span_weights
from rlvr.controller.windows import earlier_tokens
from rlvr.learner.batch import TrainSequence
from rlvr.recipe.schema import FilterConfig, ObjectiveConfig, RolloutConfig
from rlvr.records import Group, Rollout
from rlvr.scoring.total import is_correct

ZERO_VARIANCE, TRUNCATED, TOO_SMALL, ABSTAINED = "zero_variance", "truncated", "too_small", "abstained"
DIFFICULTY, LOW_STD = "difficulty", "low_std"


def members_per_prompt(rollout: RolloutConfig) -> int:
    """Completions of one group: those that are sampled, with the greedy one where the recipe asks for it."""
    sampled = rollout.oversample.completions if rollout.oversample is not None else rollout.group_size
    return sampled + rollout.greedy_baseline


def has_variance(group: Group, config: FilterConfig, correct_term: str) -> bool:
    """Whether the kept rollouts of a group differ in reward, or in being correct (DAPO: 0 < correct < group size)."""
    if config.variance_of == "correct":
        return len({is_correct(rollout, correct_term) for rollout in group.kept}) > 1
    return len({rollout.reward for rollout in group.kept}) > 1


def drop_groups(groups: Sequence[Group], config: FilterConfig, correct_term: str) -> None:
    """Marks groups that do not train: too few scored rollouts, too easy or too hard, or without variance."""
    low, high = config.correct_range
    for group in groups:
        if sum(not is_greedy(rollout) for rollout in group.rollouts) > 1 and len(group.kept) == 1:
            _drop(group, TOO_SMALL)
        elif group.kept and not low <= np.mean([is_correct(r, correct_term) for r in group.kept]) <= high:
            _drop(group, DIFFICULTY)
        elif config.zero_variance != "keep" and group.kept and not has_variance(group, config, correct_term):
            _drop(group, ZERO_VARIANCE)


def keep_top_std(groups: Sequence[Group], config: FilterConfig) -> None:
    """Marks all but the share of groups whose rewards differ most. StarPO-S of RAGEN (2504.20073): the top 25%.

    The share is of the groups that still train, rounded down, but one group at least; of equal ones those first in
    `group_order` stay.
    """
    if config.keep_top_std is None:
        return
    training = sorted((group for group in groups if group.kept), key=group_order)
    spread = {id(group): float(np.std([float(r.reward or 0.0) for r in group.kept])) for group in training}
    ranked = sorted(training, key=lambda group: -spread[id(group)])
    for group in ranked[max(1, int(config.keep_top_std * len(ranked))) :]:
        _drop(group, LOW_STD)


def assemble(
    groups: Sequence[Group],
    objective: ObjectiveConfig,
    penalties: Callable[[list[Rollout]], Sequence[float | np.ndarray]] | None = None,
    tokenizer: Any = None,
    estimate: Callable[[list[Rollout]], list[Estimate]] | None = None,
    bonus: Callable[[list[Rollout], torch.Tensor], torch.Tensor] | None = None,
    correct_term: str = "",
    stage_step: int = 0,
) -> list[TrainSequence]:
    """Advantages over each group's kept rollouts, spread over their tokens; one sequence per segment.

    Truncated rollouts that the recipe masks are marked as dropped here: after the baseline, before the loss; those that
    lack what the credit is anchored at (a verifier abstained), or a value of their prompt, before the baseline.
    `penalties` gives what to subtract from each reward (KL in the reward): a number, or one per sampled token, each
    token then pays for itself and for what follows it. `tokenizer` says which tokens stand in a
    step, where the credit asks. `estimate` gives the advantages of a critic. `bonus` gives
    what is added to the rewards of rollouts in groups. `correct_term` marks what is correct, where an auxiliary term
    asks; at `stage_step` the recipe's down-sampling leaves out what it does. The order follows the prompts' ids, not
    the order in which groups finished, so that a run does not depend on timing.
    """
    for rollout in (rollout for group in groups for rollout in group.kept):
        if not is_anchored(rollout, objective.credit.anchor):
            rollout.dropped = ABSTAINED
        elif not has_value(rollout, objective):
            rollout.dropped = NO_BASELINE
    ordered = sorted((group for group in groups if group.kept), key=group_order)
    rollouts = [rollout for group in ordered for rollout in group.kept]
    if not rollouts:
        return []
    # One that goes on in a later step has none yet; the critic's value at the cut stands for it.
    rewards = torch.tensor([0.0 if r.open else r.reward for r in rollouts], dtype=torch.float32)
    subtracted = penalties(rollouts) if penalties is not None else [0.0] * len(rollouts)
    if penalties is not None:
        rewards = rewards - torch.tensor([float(np.sum(penalty)) for penalty in subtracted], dtype=torch.float32)
    group_of = torch.tensor([index for index, group in enumerate(ordered) for _ in group.kept])
    if bonus is not None:
        rewards = rewards + bonus(rollouts, group_of)
    advantages: Sequence[float | np.ndarray]
    columns: Sequence[Mapping[str, np.ndarray]] = [{}] * len(rollouts)
    if estimate is not None:
        estimated = estimate(rollouts)
        advantages, columns = [each.advantages for each in estimated], [each.columns for each in estimated]
    else:
        advantage_of_rollouts = advantage_of(objective, rollouts, greedy_rewards(ordered))
        if is_plain(objective.credit) and all(np.ndim(penalty) == 0 for penalty in subtracted):
            advantages = advantage_of_rollouts(rewards, group_of).tolist()
        else:
            advantages = token_advantages(
                rollouts, rewards, subtracted, group_of, objective, tokenizer, advantage_of_rollouts
            )
    advantages = finished(advantages, rollouts, group_of, objective.advantage_options)
    down_sample(rollouts, advantages, objective.down_sampling, stage_step)
    choose_members(ordered, objective.filter.members, correct_term)
    marks = marks_of(rollouts, group_of, objective, correct_term)
    sequences = []
    for index, (rollout, advantage) in enumerate(zip(rollouts, advantages, strict=True)):
        if rollout.dropped:
            continue
        if objective.filter.mask_truncated and rollout.truncated:
            # It has counted in its group's baseline; its own tokens leave the loss.
            rollout.dropped = TRUNCATED
        else:
            more = replay_columns(rollout) | earlier_tokens(rollout) | span_weights(rollout, objective, tokenizer)
            more |= outcome_weights(rollout, advantage, objective)
            of_rollout = to_sequences(rollout, index, advantage, {**columns[index], **more})
            for sequence in of_rollout:
                sequence.group = int(group_of[index])
                sequence.facts = {"reward": float(rewards[index])} | value_facts(rollout, objective)
                set_marks(sequence, marks[index])
            sequences += of_rollout
    return sequences


def group_order(group: Group) -> tuple[str, int]:
    """Sorts groups the same way however their generation was timed."""
    return group.prompt.id, group.rollouts[0].member


def to_sequences(
    rollout: Rollout,
    index: int,
    advantage: float | np.ndarray,
    columns: Mapping[str, np.ndarray] = MappingProxyType({}),
) -> list[TrainSequence]:
    """The rollout's segments as training sequences; `index` is the rollout's number in the batch.

    `advantage` is that of the rollout, or of each of its sampled tokens in order over the segments, as in `columns`.
    """
    sequences = []
    position = 0
    for segment in rollout.segments:
        prompt_length = len(segment.prompt_ids)
        total = prompt_length + len(segment.completion_ids)
        loss_mask = np.zeros(total, dtype=bool)
        loss_mask[prompt_length:] = segment.loss_mask
        behavior = np.zeros(total, dtype=np.float32)
        behavior[prompt_length:] = segment.behavior_logprobs
        by_token = {name: np.zeros(total, dtype=np.float32) for name in ("advantage", *columns)}
        num_sampled = int(loss_mask.sum())
        for name, column in (("advantage", advantage), *columns.items()):
            by_token[name][loss_mask] = _of_segment(column, position, num_sampled)
        position += num_sampled
        sequences.append(
            TrainSequence(
                token_ids=np.array([*segment.prompt_ids, *segment.completion_ids], dtype=np.int32),
                loss_mask=loss_mask,
                behavior_logprobs=behavior,
                advantage=by_token.pop("advantage"),
                rollout=index,
                columns=by_token,
            )
        )
    return sequences


def _of_segment(advantage: float | np.ndarray, position: int, length: int) -> float | np.ndarray:
    return advantage[position : position + length] if isinstance(advantage, np.ndarray) else advantage


def _drop(group: Group, reason: str) -> None:
    for rollout in group.kept:
        rollout.dropped = reason
