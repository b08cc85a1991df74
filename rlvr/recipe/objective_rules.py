"""Rules on the objective of an rl stage that no single field can hold."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from rlvr.recipe.arithmetic import divisors_near
from rlvr.recipe.critic_rules import critic_faults
from rlvr.recipe.exploration_rules import auxiliary_faults
from rlvr.recipe.objective import SpanWeight
from rlvr.recipe.preference_rules import preference_faults
from rlvr.recipe.schema import RlStage
from rlvr.slots import is_path, table_names

Fault = tuple[tuple[str | int, ...], Any, str]


def objective_faults(stage: RlStage) -> Iterator[Fault]:
    """(path below `objective`, value, fault with remedy) of every broken rule."""
    yield from _policy_loss(stage)
    yield from _mismatch(stage)
    yield from critic_faults(stage)
    yield from preference_faults(stage)
    yield from _spans(stage)
    yield from auxiliary_faults(stage, is_group_loss(stage.objective.policy_loss.name))


def _mismatch(stage: RlStage) -> Iterator[Fault]:
    objective = stage.objective
    if objective.mismatch and objective.old_policy == "engine":
        yield (
            ("mismatch",),
            None,
            "with old_policy engine the ratio holds this difference already; remove one of the two",
        )
    if objective.mismatch and is_group_loss(objective.policy_loss.name):
        yield ("mismatch",), None, f"policy loss {objective.policy_loss.name!r} has no losses per token; remove it"
    for index, correction in enumerate(objective.mismatch):
        at, low, high = ("mismatch", index), correction.low, correction.high
        if low is not None and high is not None and low >= high:
            yield (*at, "low"), low, f"must lie below high={high:g}"
        if correction.action == "mask" and low is None and high is None:
            yield (*at, "action"), "mask", "nothing is outside without a bound; set low or high"
        if correction.action == "clamp" and (correction.metric != "ratio" or not correction.weigh):
            yield (
                (*at, "action"),
                "clamp",
                "a clamp bounds the ratio it weighs with; use mask for other metrics or gates",
            )


def _spans(stage: RlStage) -> Iterator[Fault]:
    found = [weight for weight in stage.objective.token_weights if isinstance(weight, SpanWeight)]
    if len(found) > 1:
        yield ("token_weights",), "span", f"stands there {len(found)} times; join the patterns with |"
    for weight in found[:1]:
        at = ("token_weights", "span")
        if (weight.pattern is None) == (weight.term is None):
            yield at, None, "give exactly one of pattern and term"
        if weight.term is not None and weight.term not in stage.reward.terms:
            yield (*at, "term"), weight.term, f"names no term; the terms are {', '.join(stage.reward.terms)}"
        if weight.inside == weight.outside:
            yield (*at, "inside"), weight.inside, "equals outside, so that no token stands out; remove span"
        try:
            re.compile(weight.pattern or "")
        except re.error as error:
            yield (*at, "pattern"), weight.pattern, f"is no regular expression: {error}"


def is_group_loss(name: str) -> bool:
    """Whether a policy loss is one of whole groups."""
    return name == "group" or name in table_names("rlvr.objectives.group_losses", "GROUP_LOSSES")


def _policy_loss(stage: RlStage) -> Iterator[Fault]:
    loss: Any = stage.objective.policy_loss
    dual = getattr(loss, "dual_clip", None)
    if dual is not None and dual <= 1 + loss.clip_high:
        yield ("policy_loss", "dual_clip"), dual, f"must exceed 1 + clip_high = {1 + loss.clip_high}"
    if loss.name == "group" and not is_path(loss.fn):
        yield ("policy_loss", "fn"), loss.fn, "must be path/to/file.py:function"
    if is_group_loss(loss.name):
        prompts, parts = stage.rollout.prompts_per_step, stage.learner.mini_batches
        if prompts % parts:
            near = " or ".join(map(str, divisors_near(prompts, parts)))
            text = (
                f"a loss of whole groups needs learner.mini_batches={parts} to divide the {prompts} prompts of a step"
            )
            yield ("policy_loss", "name"), loss.name, f"{text}; nearest: {near}"
        if stage.objective.token_weights:
            yield ("token_weights",), None, f"policy loss {loss.name!r} has no losses per token; remove them"
