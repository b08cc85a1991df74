"""What a step's groups amount to: rewards, lengths, fractions, the token waterfall; and the alarms on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rlvr.controller.advantages import is_greedy
from rlvr.errors import RunStopped
from rlvr.metrics import Metrics, means, of_values
from rlvr.observe.waterfall import waterfall
from rlvr.recipe.schema import MonitorConfig, RlStage
from rlvr.records import Group, Outcome, Score, Steps
from rlvr.scoring.total import is_correct


def account(groups: Sequence[Group], stage: RlStage) -> Metrics:
    """Metrics of one step over every sampled rollout, trained on or not; greedy ones have a metric of their own."""
    rollouts = [rollout for group in groups for rollout in group.rollouts if not is_greedy(rollout)]
    # What a hint led to says nothing of what the policy does without one.
    scored = [rollout for rollout in rollouts if rollout.reward is not None and not rollout.guided]
    ended = [rollout for rollout in rollouts if not rollout.open]
    metrics: Metrics = {
        "reward": of_values(rollout.reward for rollout in scored if rollout.reward is not None),
        "accuracy": of_values(is_correct(rollout, stage.reward.correct_term) for rollout in scored),
        "completion_tokens": of_values(rollout.num_completion_tokens for rollout in ended),
        "truncated": of_values(rollout.truncated for rollout in ended),
        "failed": of_values(bool(rollout.failures) for rollout in rollouts),
        "zero_variance": of_values(
            len({r.reward for r in group.rollouts if r.reward is not None and not is_greedy(r)}) <= 1
            for group in groups
            if not all(rollout.open for rollout in group.rollouts)
        ),
    }
    if any(rollout.turns for rollout in rollouts):
        metrics["turns"] = of_values(len(rollout.turns) for rollout in rollouts)
        metrics["segments"] = of_values(len(rollout.segments) for rollout in rollouts)
    greedy = [rollout for group in groups for rollout in group.rollouts if is_greedy(rollout)]
    if greedy:
        metrics["greedy_reward"] = of_values(rollout.reward for rollout in greedy if rollout.reward is not None)
    for term in stage.reward.terms:
        values = [rollout.outcomes[term] for rollout in rollouts if term in rollout.outcomes]
        metrics[f"reward/{term}"] = of_values(number for value in values for number in _numbers(value))
    return metrics | waterfall(groups).metrics()


def _numbers(outcome: Outcome) -> tuple[float, ...]:
    """The score, or those of the steps: `reward/<term>` of a step term is the mean over all steps of all rollouts."""
    if isinstance(outcome, Steps):
        return outcome.values
    return (outcome.value,) if isinstance(outcome, Score) else ()


def check_alarms(learnt: Metrics, monitor: MonitorConfig) -> None:
    """Stops the run before weights are pushed when engine and trainer have come apart, or nothing can be stepped."""
    values = means(learnt)
    limit = monitor.max_logprob_difference
    difference = values.get("logprob_difference")
    if limit is not None and difference is not None and not difference <= limit:
        raise RunStopped(
            f"monitor.max_logprob_difference={limit}: engine and trainer logprobs differ by {difference:.4g} nats per "
            "token on average: the engine holds other weights, or computes another distribution. Look at "
            "logprob_difference in metrics.jsonl; raise the limit only for a known cause (bfloat16, quantisation)"
        )
    skipped = learnt.get("skipped_steps", (0.0, 1.0))[0]
    if skipped and skipped >= learnt["skipped_steps"][1]:
        raise RunStopped(
            "learner: loss or gradients were not finite in every mini-batch of this step; nothing was stepped, saved "
            "or pushed. Lower learner.optimizer.lr or use learner.dtype=float32; the last checkpoint is intact"
        )


def warnings_on(values: Mapping[str, float], monitor: MonitorConfig) -> list[str]:
    """What a user should look at now although the run goes on."""
    found = []
    if values.get("truncated", 0.0) > monitor.max_truncated_fraction:
        found.append(
            f"warning: {values['truncated']:.0%} of the completions hit rollout.max_completion_tokens; their answers "
            "are cut off. Raise the limit, or add the `overlong` reward"
        )
    if values.get("skipped_steps"):
        found.append("warning: an optimizer step was skipped, its loss or gradients were not finite")
    return found
