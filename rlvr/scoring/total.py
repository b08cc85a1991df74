"""From outcomes to rewards: the weighted sum, with what becomes of rollouts whose verifier broke."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from rlvr.errors import RunStopped
from rlvr.metrics import Metrics
from rlvr.recipe.schema import RewardConfig
from rlvr.records import Abstain, Failure, Group, Outcome, Rollout, Score

MAX_SAMPLES = 3
SAMPLE_CHARACTERS = 400


def total(outcomes: Mapping[str, Outcome], config: RewardConfig) -> float | None:
    """The sum of weight x score over the terms that have an opinion.

    None, and never a number, if any term failed or all abstained: then nobody knows what the completion is worth.
    """
    assert outcomes.keys() == config.terms.keys(), (sorted(outcomes), sorted(config.terms))
    if any(isinstance(outcome, Failure) for outcome in outcomes.values()):
        return None
    scores = {name: outcome.value for name, outcome in outcomes.items() if isinstance(outcome, Score)}
    if not scores:
        return None
    return sum(config.terms[name].weight * value for name, value in scores.items())


def apply_failure_policy(groups: Sequence[Group], config: RewardConfig) -> Metrics:
    """Marks unscored rollouts, or their whole groups, as dropped; returns what to log about a step's reward calls.

    `Rollout.dropped` becomes `failed`, `abstained`, or `failed_group` for the other members under `then: drop_group`;
    a rollout that was dropped before keeps its reason. Raises RunStopped, with samples, if the share of failed calls
    exceeds `max_failure_rate`.

    Metrics, each (number, calls): `reward_calls/failed`, `reward_calls/<failure kind>`, `reward_calls/abstained`.
    """
    rollouts = [rollout for group in groups for rollout in group.rollouts]
    for group in groups:
        _drop_unscored(group, config)
    metrics = _call_metrics(rollouts)
    num_failed, num_calls = metrics["reward_calls/failed"]
    if num_calls and num_failed / num_calls > config.on_failure.max_failure_rate:
        raise RunStopped(_stop_message(rollouts, int(num_failed), int(num_calls), config))
    return metrics


def _drop_unscored(group: Group, config: RewardConfig) -> None:
    for rollout in group.kept:
        if rollout.reward is None:
            rollout.dropped = "failed" if rollout.failures else "abstained"
    if config.on_failure.then == "drop_group" and any(rollout.failures for rollout in group.rollouts):
        for rollout in group.kept:
            rollout.dropped = "failed_group"


def _call_metrics(rollouts: Iterable[Rollout]) -> Metrics:
    outcomes = [outcome for rollout in rollouts for outcome in rollout.outcomes.values()]
    counts = Counter({"failed": 0, "abstained": 0})
    for outcome in outcomes:
        if isinstance(outcome, Failure):
            counts.update(("failed", outcome.kind))
        elif isinstance(outcome, Abstain):
            counts["abstained"] += 1
    return {f"reward_calls/{name}": (float(count), float(len(outcomes))) for name, count in counts.items()}


def _stop_message(rollouts: Sequence[Rollout], num_failed: int, num_calls: int, config: RewardConfig) -> str:
    failures = [(rollout, name, failure) for rollout in rollouts for name, failure in rollout.failures.items()]
    counts = Counter((name, failure.kind) for _, name, failure in failures)
    listed = ", ".join(f"{name}: {count} x {kind}" for (name, kind), count in counts.most_common())
    samples: list[str] = []
    seen: set[tuple[str, str]] = set()
    # Different faults before more of the same.
    for rollout, name, failure in sorted(failures, key=lambda item: -counts[item[1], item[2].kind]):
        if len(samples) < MAX_SAMPLES and (name, failure.kind) not in seen:
            seen.add((name, failure.kind))
            samples.append(_sample(rollout, name, failure))
    for rollout, name, failure in failures[1:]:
        if len(samples) < MAX_SAMPLES:
            samples.append(_sample(rollout, name, failure))
    limit = config.on_failure.max_failure_rate
    return (
        f"{num_failed} of {num_calls} reward calls failed ({num_failed / num_calls:.0%}; "
        f"reward.on_failure.max_failure_rate={limit:g}): {listed}. Mend the reward function or its data "
        "(docs/custom-rewards.md shows how to run it alone), or raise the limit.\n" + "\n".join(samples)
    )


def _sample(rollout: Rollout, name: str, failure: Failure) -> str:
    text = rollout.text if len(rollout.text) <= SAMPLE_CHARACTERS else "..." + rollout.text[-SAMPLE_CHARACTERS:]
    return (
        f"  prompt {rollout.prompt.id}, member {rollout.member}, answer {rollout.prompt.answer!r}\n"
        f"    completion: {text!r}\n"
        f"    {name}: {failure.kind}: {failure.message}"
    )


def is_correct(rollout: Rollout, term: str) -> bool:
    """True when the term that decides correctness scored at least 1; a failed or abstaining verifier is not."""
    outcome = rollout.outcomes.get(term)
    return isinstance(outcome, Score) and outcome.value >= 1.0
