"""Corrections for verifiers whose error rates are known or estimated.

The channel: R* in {0, 1} is the right verdict, R the verifier's. rho0 = P(R = 1 | R* = 0) is its false-positive rate,
rho1 = P(R = 0 | R* = 1) its false-negative rate, rho0 + rho1 < 1. "Reinforcement learning with verifiable yet noisy
rewards under imperfect verifiers" (2510.00915).

Both corrections are affine maps of a binary verdict. An advantage that centres or scales rewards over a group removes
any such map, so the corrected value must be the advantage itself: `objective.advantage: reward`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from rlvr.metrics import Metrics
from rlvr.recipe.reward import NoiseConfig
from rlvr.records import Failure, Group, Outcome, Rollout, Score, derive_seed

PSEUDO_COUNT = 1e-5  # of the paper, a and b
MAX_SEED = float(2**63)


def backward(verdict: float, false_positive: float, false_negative: float) -> float:
    """(R - rho0) / (1 - rho0 - rho1): an unbiased estimate of R*. ValueError if the rates sum to 1."""
    _check_rates(false_positive, false_negative)
    return (verdict - false_positive) / (1.0 - false_positive - false_negative)


def forward(verdict: float, false_negative: float) -> float:
    """rho1 for an accepted completion, rho1 - 1 for a rejected one: weights of the policy gradient.

    Their mean is 0 given R* = 1 and -(1 - rho0 - rho1) given R* = 0, so the expected update is parallel to the clean
    one; rho0 need not be known.
    """
    _check_rates(0.0, false_negative)
    return verdict + false_negative - 1.0


def false_negative_rate(num_overturned: float, fraction: float, num_accepted: float) -> float:
    """rho1 from appeals: overturned / fraction estimates all wrongly rejected completions of the batch.

    `num_overturned` of the appealed rejections, a `fraction` of all of them, were accepted by the second verifier;
    `num_accepted` were accepted by the first.
    """
    missed = num_overturned / fraction
    return (missed + PSEUDO_COUNT) / (missed + num_accepted + 2 * PSEUDO_COUNT)


def is_appealed(rollout: Rollout, fraction: float) -> bool:
    """Whether a rejected rollout is among the `fraction` that the second verifier sees; the same in every process."""
    return derive_seed("appeal", rollout.seed, rollout.prompt.id, rollout.member) / MAX_SEED < fraction


def with_added_noise(groups: Iterable[Group], config: NoiseConfig | None, term: str) -> Iterator[Group]:
    """Yields the groups with a share of the term's verdicts of 0 and 1 turned around, the same ones in every run.

    Those have `added_noise` in their info.
    """
    for group in groups:
        for rollout in group.rollouts:
            outcome = rollout.outcomes.get(term)
            if config is None or not isinstance(outcome, Score) or outcome.value not in (0.0, 1.0):
                continue
            rate = config.added_false_negative if outcome.value else config.added_false_positive
            if derive_seed("added noise", rollout.seed, rollout.prompt.id, rollout.member) / MAX_SEED < rate:
                rollout.outcomes[term] = Score(1.0 - outcome.value, {**(outcome.info or {}), "added_noise": True})
        yield group


class NoiseCorrection:
    """Corrects the verdicts of one term, with a false-negative rate that is given, or estimated from appeals."""

    def __init__(self, config: NoiseConfig, term: str, state: Mapping[str, Any] | None = None) -> None:
        """`term` is the noisy verifier; `state` what `state()` returned before a checkpoint."""
        self._config = config
        self._term = term
        window = config.appeals.window if config.appeals else 1
        self._appealed: deque[tuple[float, float]] = deque((state or {}).get("appealed", []), maxlen=window)

    @property
    def false_negative(self) -> float:
        """The rate in use: the given one until appeals have been heard."""
        if not self._config.appeals or not self._appealed:
            return self._config.false_negative
        overturned, accepted = (sum(column) for column in zip(*self._appealed, strict=True))
        estimate = false_negative_rate(overturned, self._config.appeals.fraction, accepted)
        # The correction divides by 1 - rho0 - rho1; an estimate from few appeals must not reach it.
        return min(estimate, self._config.max_false_negative)

    def corrected(self, outcomes: Mapping[str, Outcome]) -> Mapping[str, Outcome]:
        """The outcomes with the noisy term's verdict replaced; a verdict other than 0 and 1 becomes a Failure."""
        outcome = outcomes[self._term]
        if not isinstance(outcome, Score):
            return outcomes
        if self._overturned(outcomes):
            outcome = Score(1.0, outcome.info)
        if outcome.value not in (0.0, 1.0):
            text = f"reward.noise corrects verdicts of 0 and 1; {self._term} scored {outcome.value:g}"
            return {**outcomes, self._term: Failure("bad_return", text)}
        if self._config.correction == "backward":
            value = backward(outcome.value, self._config.false_positive, self.false_negative)
        elif self._config.correction == "forward":
            value = forward(outcome.value, self.false_negative)
        else:
            value = outcome.value
        return {**outcomes, self._term: Score(value, outcome.info)}

    def observe(self, groups: Iterable[Group]) -> Metrics:
        """Takes a step's appeals into the estimate. Metrics: `noise/false_negative`, `noise/overturned`."""
        appeals = self._config.appeals
        if appeals is None:
            return {}
        rollouts = [rollout for group in groups for rollout in group.rollouts]
        heard = [r for r in rollouts if isinstance(r.outcomes.get(appeals.by), Score)]
        overturned = sum(_accepted(rollout.outcomes[appeals.by]) for rollout in heard)
        accepted = sum(_accepted(rollout.outcomes.get(self._term)) for rollout in rollouts)
        if overturned + accepted:
            self._appealed.append((float(overturned), float(accepted)))
        return {
            "noise/false_negative": (self.false_negative, 1.0),
            "noise/overturned": (float(overturned), float(len(heard))),
        }

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"appealed": [list(pair) for pair in self._appealed]}

    def _overturned(self, outcomes: Mapping[str, Outcome]) -> bool:
        appeals = self._config.appeals
        return bool(appeals and appeals.overturn and _accepted(outcomes.get(appeals.by)))


def appeals_of(groups: Sequence[Group], config: NoiseConfig, term: str) -> list[Rollout]:
    """The rejected rollouts that the second verifier is asked about."""
    if config.appeals is None:
        return []
    rejected = [
        rollout
        for group in groups
        for rollout in group.rollouts
        if isinstance(rollout.outcomes.get(term), Score) and not _accepted(rollout.outcomes[term])
    ]
    return [rollout for rollout in rejected if is_appealed(rollout, config.appeals.fraction)]


def _accepted(outcome: Outcome | None) -> bool:
    return isinstance(outcome, Score) and outcome.value >= 1.0


def _check_rates(false_positive: float, false_negative: float) -> None:
    if not (false_positive >= 0 and false_negative >= 0 and false_positive + false_negative < 1):
        raise ValueError(
            f"false_positive={false_positive}, false_negative={false_negative}: rates must not be negative and must "
            "sum to less than 1; a verifier that errs more often tells nothing"
        )
