"""Rules on preference losses, imitation losses, members of groups and replay."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rlvr.recipe.imitation_losses import HirLoss, OrealLoss
from rlvr.recipe.objective import ObjectiveConfig, SpanWeight
from rlvr.recipe.preference_losses import SECTIONS, AdpoLoss, AStarPoLoss
from rlvr.recipe.replay import SuccessReplay
from rlvr.recipe.schema import RlStage

TOKEN_OUTCOME = "token_outcome"

Fault = tuple[tuple[str | int, ...], Any, str]


def preference_faults(stage: RlStage) -> Iterator[Fault]:
    """(path below `objective`, value, fault with remedy) of every broken rule."""
    yield from _groups(stage)
    yield from _members(stage)
    yield from _outcome_term(stage)
    yield from _replay(stage)
    yield from _relabel(stage)


def terms_read(objective: ObjectiveConfig) -> set[str]:
    """Terms that an objective reads beside the reward."""
    anchor, loss = objective.credit.anchor, objective.policy_loss
    found = {anchor.outcome, anchor.steps} if anchor is not None else set()
    if isinstance(loss, OrealLoss) and loss.outcome_term is not None:
        found.add(loss.outcome_term)
    return found | {weight.term for weight in objective.token_weights if isinstance(weight, SpanWeight) and weight.term}


def _groups(stage: RlStage) -> Iterator[Fault]:
    objective, loss = stage.objective, stage.objective.policy_loss
    if not isinstance(loss, SECTIONS):
        return
    knows_value = isinstance(loss, AStarPoLoss) and (loss.value_column is not None or loss.reference_samples > 0)
    if isinstance(loss, AStarPoLoss) and loss.value_column is not None and loss.reference_samples:
        text = "policy_loss.value_column says where V* comes from; remove one of the two"
        yield ("policy_loss", "reference_samples"), loss.reference_samples, text
    if isinstance(loss, AStarPoLoss) and knows_value and objective.kl.anchor.name != "fixed":
        text = "V* belongs to the weights that its samples came from, and the reference would leave them; use fixed"
        yield ("kl", "anchor", "name"), objective.kl.anchor.name, text
    if stage.rollout.group_size < 2 and not knows_value:
        # A*-PO draws one sample per prompt in the paper, with V* from others; here V* comes from the group itself.
        why = "takes V* from" if isinstance(loss, AStarPoLoss) else "compares"
        yield (
            ("policy_loss", "name"),
            loss.name,
            f"{why} the completions of a prompt; rollout.group_size=1 gives it one, use at least 2",
        )
    adaptive = loss.adaptive if isinstance(loss, AdpoLoss) else None
    if adaptive is not None:
        for key, (low, high) in (("reward_range", adaptive.reward_range), ("low", (adaptive.low, adaptive.high))):
            if not low < high:
                yield ("policy_loss", "adaptive", key), low, f"must lie below {high:g}"
    if objective.filter.members != "all":
        text = f"policy loss {loss.name!r} compares members of a group and needs all of them; use all"
        yield ("filter", "members"), objective.filter.members, text
    if objective.critic is not None:
        yield ("critic",), None, f"policy loss {loss.name!r} reads rewards and no advantages; remove it"


def _members(stage: RlStage) -> Iterator[Fault]:
    objective = stage.objective
    if objective.filter.members != "one_of_each":
        if isinstance(objective.policy_loss, OrealLoss) and objective.filter.members == "correct":
            text = "policy loss 'oreal' learns from wrong completions too; use one_of_each or all"
            yield ("filter", "members"), "correct", text
        return
    if stage.rollout.group_size < 2:
        text = "needs a correct and a wrong completion of each prompt; raise rollout.group_size to at least 2"
        yield ("filter", "members"), "one_of_each", text


def _outcome_term(stage: RlStage) -> Iterator[Fault]:
    loss = stage.objective.policy_loss
    if not isinstance(loss, OrealLoss) or loss.outcome_term is None:
        return
    have = [name for name, term in stage.reward.terms.items() if term.fn == TOKEN_OUTCOME]
    if loss.outcome_term not in have:
        known = f"those that are: {', '.join(have)}" if have else f"add one, with a model of kind {TOKEN_OUTCOME}"
        yield ("policy_loss", "outcome_term"), loss.outcome_term, f"names no term of fn {TOKEN_OUTCOME}; {known}"


def _relabel(stage: RlStage) -> Iterator[Fault]:
    relabel, loss, template = stage.objective.relabel, stage.objective.policy_loss, stage.task.template
    if relabel is None:
        if isinstance(loss, HirLoss):
            yield ("relabel",), None, "policy loss 'hir' compares instructions; name them here"
        return
    if isinstance(loss, HirLoss) and len({relabel.asked, *(label.text for label in relabel.labels)}) < 2:
        yield ("relabel", "labels"), relabel.asked, "is the only instruction; policy loss 'hir' contrasts at least two"
    if loss.name not in ("imitation", "hir"):
        text = f"policy loss {loss.name!r} compares probabilities under the prompt that was asked; use imitation or hir"
        yield ("relabel",), None, text
    if stage.rollout.scheme.name != "single_turn":
        yield ("relabel",), None, "prompts of environments are not rewritten; use rollout.scheme single_turn"
    if stage.objective.replay is not None:
        yield ("relabel",), None, "replayed completions keep the prompt they had; remove objective.replay"
    if relabel.asked not in template.text + (template.system or ""):
        yield ("relabel", "asked"), relabel.asked, "stands neither in task.template.text nor in system; add it there"


def _replay(stage: RlStage) -> Iterator[Fault]:
    objective, replay = stage.objective, stage.objective.replay
    weighs = any(weight.name == "replay_importance" for weight in objective.token_weights)
    if replay is None:
        if weighs:
            yield ("token_weights",), "replay_importance", "there is nothing to weigh; set objective.replay"
        return
    at = ("replay", "name")
    if objective.critic is not None:
        yield at, replay.name, "values of replayed completions are not estimated anew; remove objective.critic"
    if objective.old_policy == "engine":
        text = "the ratio of replayed tokens starts at 1 from the trainer's own logprobs; use trainer"
        yield ("old_policy",), "engine", text
    if isinstance(replay, SuccessReplay):
        if objective.filter.zero_variance != "keep":
            text = "drops all-wrong groups before their replayed successes join; use keep"
            yield ("filter", "zero_variance"), objective.filter.zero_variance, text
        if objective.credit.placement != "uniform" or objective.credit.normalise != "total":
            text = "what each step of a replayed completion was worth is not kept; use objective.credit uniform, total"
            yield at, replay.name, text
    elif isinstance(objective.policy_loss, SECTIONS) or objective.policy_loss.name == "group":
        text = f"policy loss {objective.policy_loss.name!r} compares rollouts of one group; use replay 'success'"
        yield at, replay.name, text
