"""Rules on auxiliary terms and on what is tried and trained, of an rl stage."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from rlvr.recipe.arithmetic import divisors_near
from rlvr.recipe.auxiliary import SftMix
from rlvr.recipe.schema import (
    AdditionSource,
    CountdownSource,
    EnvironmentScheme,
    FilterConfig,
    ProgramRepairSource,
    RlStage,
)

PROCEDURAL = AdditionSource | CountdownSource | ProgramRepairSource

GROUP_FILTERS = ("zero_variance", "mask_truncated", "correct_range", "keep_top_std", "members")

Fault = tuple[tuple[str | int, ...], Any, str]


def rollout_faults(stage: RlStage) -> Iterator[Fault]:
    """(path below `rollout`, value, fault with remedy) of every broken rule."""
    rollout = stage.rollout
    if rollout.oversample is not None and rollout.oversample.completions <= rollout.group_size:
        yield (
            ("oversample", "completions"),
            rollout.oversample.completions,
            f"must be more than rollout.group_size={rollout.group_size}, of which so many train; or remove oversample",
        )
    yield from _window_faults(stage)
    schedule = rollout.temperature_schedule
    if schedule is not None and schedule.end <= 0:
        yield ("temperature_schedule", "end"), schedule.end, "training rollouts are sampled: it must be above 0"
    if rollout.hints is None:
        return
    for name in ("{prompt}", "{hint}"):
        if name not in rollout.hints.text:
            yield ("hints", "text"), repr(rollout.hints.text), f"must hold {name}"
    if isinstance(rollout.scheme, EnvironmentScheme):
        yield ("hints",), rollout.hints.column, "hints are for single turns; remove them, or the environment"


def _window_faults(stage: RlStage) -> Iterator[Fault]:
    """What cannot be where the completions of a prompt end in different steps."""
    rollout, objective = stage.rollout, stage.objective
    window, limit = rollout.window_tokens, rollout.max_completion_tokens
    if window is None:
        return
    at = ("window_tokens",)
    if limit % window:
        near = " or ".join(map(str, divisors_near(limit, window)))
        yield at, window, f"must divide rollout.max_completion_tokens={limit}; nearest: {near}"
    if objective.critic is None or objective.critic.turn_gamma is not None:
        text = "what is cut has no reward yet, and only a critic's values stand for it; set objective.critic"
        yield at, window, f"{text}, without turn_gamma"
    chosen, neutral = objective.filter, FilterConfig()
    of_groups = {
        "rollout.scheme": isinstance(rollout.scheme, EnvironmentScheme),
        "rollout.greedy_baseline": rollout.greedy_baseline,
        "rollout.oversample": rollout.oversample is not None,
        "rollout.hints": rollout.hints is not None,
        "objective.down_sampling": objective.down_sampling is not None,
        "objective.replay": objective.replay is not None,
        **{f"objective.filter.{key}": getattr(chosen, key) != getattr(neutral, key) for key in GROUP_FILTERS},
        **{f"reward.terms.{name}": term.scope == "batch" for name, term in stage.reward.terms.items()},
    }
    for name in (name for name, found in of_groups.items() if found):
        yield at, window, f"the completions of a prompt end in different steps, which {name} does not know; remove one"


def auxiliary_faults(stage: RlStage, group_loss: bool) -> Iterator[Fault]:
    """(path below `objective`, value, fault with remedy) of every broken rule."""
    objective = stage.objective
    names = Counter(term.name for term in objective.auxiliary)
    for name, count in names.items():
        if count > 1:
            yield ("auxiliary",), name, f"stands there {count} times; add up the coefficients"
    if names["distillation"] and objective.teacher is None:
        yield ("teacher",), None, "the term distillation needs it: {path: ...} or {from_stage: ...}"
    if objective.teacher is not None:
        given = objective.teacher.path, objective.teacher.from_stage
        if not names["distillation"]:
            yield ("teacher",), given[0] or given[1], "only the term distillation asks it; add that, or remove teacher"
        if (given[0] is None) == (given[1] is None):
            yield ("teacher",), None, "give exactly one of path and from_stage"
    for term in objective.auxiliary:
        if isinstance(term, SftMix):
            yield from _mix_faults(stage, term, group_loss)
    credit = objective.credit
    if objective.exploration is not None and (
        objective.critic is not None or credit.placement != "uniform" or credit.normalise != "total"
    ):
        text = "the bonus belongs to whole rollouts; use credit placement uniform, normalise total, and no critic"
        yield ("exploration",), None, text


def _mix_faults(stage: RlStage, term: SftMix, group_loss: bool) -> Iterator[Fault]:
    at = ("auxiliary", "sft_mix")
    source = stage.task.train
    if not isinstance(source, PROCEDURAL) and source.columns.solution is None:
        yield at, None, "imitates demonstrations; name their column in task.train.columns.solution"
    if group_loss:
        yield at, stage.objective.policy_loss.name, "a loss of whole groups has no place for demonstrations"
    balance = term.balance
    if balance is not None and not balance.low <= balance.share <= balance.high:
        yield (*at, "balance", "share"), balance.share, f"must lie within low={balance.low} and high={balance.high}"
    if balance is not None and term.anneal is not None:
        yield (*at, "anneal"), None, "balance sets the coefficient; remove one of the two"
