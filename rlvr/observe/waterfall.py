"""The token waterfall: what became of every token that the policy sampled in a step."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from rlvr.metrics import Metrics
from rlvr.records import Group

# The order in which a step loses tokens; a reason not named here follows, in alphabetical order.
REASONS = (
    "failed",
    "failed_group",
    "abstained",
    "greedy_baseline",
    "not_selected",
    "too_small",
    "zero_variance",
    "truncated",
    "down_sampled",
    "not_a_member",
)
# Dropped after the baseline, in which they have counted: a group may owe its signal to them.
IN_THE_BASELINE = ("", "truncated", "down_sampled", "not_a_member")


@dataclass(frozen=True)
class Waterfall:
    """Sampled tokens of one step: generated = the sum over lost + trained, exactly.

    `lost` maps each reason of `Rollout.dropped` to its tokens, in the order of the waterfall. `no_signal` is the part
    of `trained` in groups whose rewards are all equal: in the loss, but with advantage 0 under a group baseline.
    """

    generated: int
    lost: dict[str, int]
    trained: int
    no_signal: int

    def __post_init__(self) -> None:
        assert self.generated == sum(self.lost.values()) + self.trained, self
        assert 0 <= self.no_signal <= self.trained, self

    def rows(self) -> list[tuple[str, int]]:
        """Top to bottom: generated, then minus what each reason took, then trained."""
        losses = [(reason, -tokens) for reason, tokens in self.lost.items() if tokens]
        return [("generated", self.generated), *losses, ("trained", self.trained)]

    def metrics(self) -> Metrics:
        """tokens/generated, tokens/<reason>, tokens/trained, tokens/no_signal; each per step."""
        counts = {"generated": self.generated, **self.lost, "trained": self.trained, "no_signal": self.no_signal}
        return {f"tokens/{name}": (float(tokens), 1.0) for name, tokens in counts.items()}


def waterfall(groups: Iterable[Group]) -> Waterfall:
    """Counts ALL groups that a step generated, those that were dropped or refilled included.

    Only sampled tokens count (loss_mask True): observations and tool outputs were not generated, and what an earlier
    step sampled was counted there. A rollout stands under its `dropped` reason, or under trained.
    """
    generated = trained = no_signal = 0
    lost: dict[str, int] = {}
    for group in groups:
        flat = len({rollout.reward for rollout in group.rollouts if rollout.dropped in IN_THE_BASELINE}) <= 1
        for rollout in group.rollouts:
            tokens = rollout.num_sampled_tokens - rollout.trained_tokens
            generated += tokens
            if rollout.dropped:
                lost[rollout.dropped] = lost.get(rollout.dropped, 0) + tokens
            else:
                trained += tokens
                no_signal += tokens if flat and not rollout.open else 0
    order = [*REASONS, *sorted(set(lost) - set(REASONS))]
    return Waterfall(generated, {reason: lost.get(reason, 0) for reason in order}, trained, no_signal)
