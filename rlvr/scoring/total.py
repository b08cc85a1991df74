"""From outcomes to rewards: the expression of the recipe, with what becomes of rollouts whose reward is unknown."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from rlvr.errors import RunStopped
from rlvr.metrics import Metrics
from rlvr.recipe.schema import RewardConfig
from rlvr.records import Abstain, Failure, Group, Rollout, Score
from rlvr.scoring.expression.batch import Batch
from rlvr.scoring.expression.evaluate import Evaluation
from rlvr.scoring.expression.program import compile_total
from rlvr.scoring.expression.references import literal
from rlvr.scoring.expression.sample import Sample
from rlvr.scoring.expression.statistics import quantile
from rlvr.scoring.expression.values import Value, merged
from rlvr.scoring.functions import kind_of
from rlvr.scoring.noise import NoiseCorrection
from rlvr.scoring.quarantine import Quarantine

MAX_SAMPLES = 3
SAMPLE_CHARACTERS = 400


class RewardTotal:
    """Gives rollouts their rewards by the expression of a reward section. RecipeError if that is faulty.

    Its state is what earlier steps have left: the scores that calibrated thresholds have seen, the appeals that an
    error rate is estimated from, the failures that put a verifier into quarantine.
    """

    def __init__(self, config: RewardConfig, state: Mapping[str, Any] | None = None) -> None:
        """`state` is what `state()` returned before a checkpoint."""
        kinds = {name: kind_of(term) for name, term in config.terms.items()}
        self.program = compile_total(config, kinds)
        known = state or {}
        self._quarantine = Quarantine(config.on_failure.quarantine, list(config.terms), known.get("quarantine"))
        noise, noisy = config.noise, config.noise and (config.noise.term or config.correct_term)
        self._noise = NoiseCorrection(noise, noisy, known.get("noise")) if noise and noisy else None
        self._seen: dict[str, list[tuple[int, list[float]]]] = {text: [] for text in self.program.calibrations}
        for text, steps in known.get("calibrated", {}).items():
            if text in self._seen:
                self._seen[text] = [(int(step), list(values)) for step, values in steps]

    def assign(self, groups: Sequence[Group], step: int, learn: bool = True) -> Metrics:
        """Sets `reward`, `shares`, `unscored` and `references` of every rollout; returns what to log.

        The groups must come in an order that does not depend on timing; statistics of the batch are over all of them.
        `step` counts from 0 within the stage. Without `learn` (evaluation) calibrated thresholds see nothing of it.

        Metrics, each (number, count): `gate/<name>`, how often a gate was closed over how often it was asked;
        `reward_share/<term>`, mean share in the reward; `reward_non_finite`, rollouts whose total is no finite number;
        with `learn` those of `Quarantine.apply` and `NoiseCorrection.observe`.
        """
        metrics = self._hear(groups) if learn else {}
        members = [[rollout for rollout in group.rollouts if rollout.failure is None] for group in groups]
        samples = [[self._sample(rollout) for rollout in rollouts] for rollouts in members]
        batch = Batch(self.program, samples, step, self._thresholds(step))
        gates: Counter[str] = Counter()
        asked: Counter[str] = Counter()
        for index, rollouts in enumerate(members):
            for member, rollout in enumerate(rollouts):
                evaluation = batch.evaluation(index, member)
                _settle(rollout, evaluation)
                for name, (closed, count) in evaluation.gates.items():
                    gates[name] += closed
                    asked[name] += count
        for rollout in (r for group in groups for r in group.rollouts if r.failure is not None):
            rollout.reward, rollout.shares, rollout.unscored, rollout.references = None, [], rollout.failure, {}
        if learn:
            self._observe(batch, step)
        metrics |= {f"gate/{name}": (float(gates[name]), float(count)) for name, count in asked.items()}
        return metrics | _share_metrics([rollout for rollouts in members for rollout in rollouts])

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps, as JSON values."""
        return {
            "calibrated": {text: [[step, values] for step, values in seen] for text, seen in self._seen.items()},
            "quarantine": self._quarantine.state(),
            "noise": self._noise.state() if self._noise else {},
        }

    def _hear(self, groups: Sequence[Group]) -> Metrics:
        """What the step's outcomes say about the verifiers themselves, before any of it is counted."""
        metrics = self._quarantine.apply(groups)
        return metrics | (self._noise.observe(groups) if self._noise else {})

    def _sample(self, rollout: Rollout) -> Sample:
        sample = sample_of(rollout)
        if self._noise is None:
            return sample
        return replace(sample, outcomes=self._noise.corrected(rollout.outcomes))

    def _thresholds(self, step: int) -> dict[str, float | None]:
        """calibrated(x, quantile, window): the quantile of x over the last `window` steps before this one."""
        found: dict[str, float | None] = {}
        for text, node in self.program.calibrations.items():
            before = [values for seen, values in self._seen[text] if seen < step]
            values = [value for step_values in before[-int(literal(node.args[2])) :] for value in step_values]
            initial = node.get("initial")
            otherwise = None if initial is None else literal(initial)
            found[text] = quantile(values, literal(node.args[1])) if values else otherwise
        return found

    def _observe(self, batch: Batch, step: int) -> None:
        for text, node in self.program.calibrations.items():
            seen = self._seen[text]
            if not seen or seen[-1][0] != step:  # else another round of the same step
                seen.append((step, []))
            places = ((g, m) for g, members in enumerate(batch.groups) for m in range(len(members)))
            values = (batch.value_of(node.args[0], g, m) for g, m in places)
            seen[-1][1].extend(value for value in values if value is not None)
            del seen[: -int(literal(node.args[2])) - 1]


def sample_of(rollout: Rollout) -> Sample:
    """What an expression reads of a rollout."""
    return Sample(
        rollout.outcomes, rollout.num_sampled_tokens, rollout.sampling.max_completion_tokens, rollout.truncated
    )


def _settle(rollout: Rollout, evaluation: Evaluation) -> None:
    total = evaluation.total()
    rollout.reward = total.number if isinstance(total, Value) else None
    rollout.shares = merged(total.shares) if isinstance(total, Value) else []
    rollout.unscored = None if isinstance(total, Value) else total
    rollout.references = dict(evaluation.read)


def _share_metrics(rollouts: Sequence[Rollout]) -> Metrics:
    scored = [rollout for rollout in rollouts if rollout.reward is not None]
    sums: defaultdict[str, float] = defaultdict(float)
    for share in (share for rollout in scored for share in rollout.shares):
        sums[share.term or "constant"] += share.total
    broken = [rollout for rollout in rollouts if _is_non_finite(rollout)]
    shares = {f"reward_share/{term}": (total, float(len(scored))) for term, total in sums.items()}
    return shares | {"reward_non_finite": (float(len(broken)), float(len(rollouts)))}


def _is_non_finite(rollout: Rollout) -> bool:
    """Whether the expression itself came to no finite number, rather than one of its terms."""
    unscored = rollout.unscored
    return isinstance(unscored, Failure) and unscored.kind == "non_finite" and not rollout.failures


def apply_failure_policy(groups: Sequence[Group], config: RewardConfig) -> Metrics:
    """Marks unscored rollouts, or their whole groups, as dropped; returns what to log about a step's reward calls.

    `Rollout.dropped` becomes `failed`, `abstained`, or `failed_group` for the other members under `then: drop_group`;
    a rollout that was dropped before keeps its reason. Raises RunStopped, with samples, if the share of failed calls,
    or of rollouts whose total is no finite number, exceeds `max_failure_rate`.

    Metrics, each (number, calls): `reward_calls/failed`, `reward_calls/<failure kind>`, `reward_calls/abstained`.
    """
    rollouts = [rollout for group in groups for rollout in group.rollouts]
    for group in groups:
        _drop_unscored(group, config)
    metrics = _call_metrics(rollouts)
    num_failed, num_calls = metrics["reward_calls/failed"]
    if num_calls and num_failed / num_calls > config.on_failure.max_failure_rate:
        raise RunStopped(_stop_message(rollouts, int(num_failed), int(num_calls), config))
    broken = [rollout for rollout in rollouts if _is_non_finite(rollout)]
    if len(broken) > config.on_failure.max_failure_rate * len(rollouts):
        raise RunStopped(_non_finite_message(broken, len(rollouts), config))
    return metrics


def _drop_unscored(group: Group, config: RewardConfig) -> None:
    for rollout in group.kept:
        if rollout.reward is None:
            rollout.dropped = "abstained" if isinstance(rollout.unscored, Abstain) else "failed"
    if config.on_failure.then == "drop_group" and any(isinstance(r.unscored, Failure) for r in group.rollouts):
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
        "(docs/rewards/writing.md shows how to run it alone), or raise the limit.\n" + "\n".join(samples)
    )


def _non_finite_message(broken: Sequence[Rollout], num_rollouts: int, config: RewardConfig) -> str:
    samples = [
        _sample(rollout, "reward.total", rollout.unscored)
        for rollout in broken[:MAX_SAMPLES]
        if isinstance(rollout.unscored, Failure)
    ]
    return (
        f"reward.total is no finite number for {len(broken)} of {num_rollouts} rollouts "
        f"(reward.on_failure.max_failure_rate={config.on_failure.max_failure_rate:g}); guard what divides, or takes a "
        "logarithm or a root, with max(...) or a gate.\n" + "\n".join(samples)
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
