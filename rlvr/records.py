"""The vocabulary of a training step: prompts, segments, rollouts, groups, reward outcomes.

Records carry facts from where they are known; nobody re-derives them. Token ids are the ones the engine
sampled and are never re-tokenised; masks come from positions, never from token values (pad may equal eos).
This module imports the standard library only, so that reward functions can use it anywhere.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

FinishReason = Literal["stop", "length", "abort"]
FailureKind = Literal["timeout", "memory", "crash", "exception", "signature", "non_finite", "bad_return", "lost"]


@dataclass(frozen=True, slots=True)
class Score:
    """A verifier's verdict: a finite number, with whatever the verifier wants to have logged beside it."""

    value: float
    info: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        if not math.isfinite(self.value):
            raise ValueError(f"Score.value={self.value!r} is not finite; return a Failure or None instead")


@dataclass(frozen=True, slots=True)
class Abstain:
    """The verifier has no opinion (a reward function returned None); the term is left out of the total."""

    reason: str = ""


@dataclass(frozen=True, slots=True)
class Failure:
    """The verifier broke. Never a zero: the failure policy of the recipe decides what becomes of the rollout."""

    kind: FailureKind
    message: str = ""


Outcome = Score | Abstain | Failure


@dataclass(frozen=True, slots=True)
class Prompt:
    """One question, tokenised once. `columns` are the other fields of its row, passed to reward functions."""

    id: str
    token_ids: tuple[int, ...]
    text: str
    answer: str | None = None
    domain: str = "default"
    columns: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """Every parameter that shapes the sampled distribution, all explicit; the model's own defaults are ignored.

    `temperature` 0 is greedy. `top_k` -1 and `top_p` 1 keep the whole vocabulary. Lengths are in tokens.
    """

    temperature: float
    max_completion_tokens: int
    top_p: float = 1.0
    top_k: int = -1
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    stop_token_ids: tuple[int, ...] = ()


@dataclass(slots=True)
class Segment:
    """One contiguous sequence that the policy saw: a prompt, then a completion. All lists but prompt_ids are [T].

    `loss_mask` is True where the policy sampled the token (the sampled eos included), False for observations.
    `behavior_logprobs` are the engine's processed logprobs (nats) of the sampled tokens, 0 where masked.
    `policy_versions` holds the weight version that sampled each token.
    """

    prompt_ids: Sequence[int]
    completion_ids: Sequence[int]
    loss_mask: Sequence[bool]
    behavior_logprobs: Sequence[float]
    policy_versions: Sequence[int]
    finish_reason: FinishReason

    def __post_init__(self) -> None:
        lengths = {
            len(self.completion_ids),
            len(self.loss_mask),
            len(self.behavior_logprobs),
            len(self.policy_versions),
        }
        assert len(lengths) == 1, f"segment columns differ in length: {sorted(lengths)}"


@dataclass(slots=True)
class Rollout:
    """One attempt at a prompt: its segments, its text, what each reward term said, and the reward they add up to.

    `reward` is None until scored, and stays None when a failed term makes the total unknowable.
    `dropped` is empty for a rollout that trains, else the reason that the waterfall counts it under.
    """

    prompt: Prompt
    member: int
    seed: int
    segments: list[Segment]
    text: str
    sampling: SamplingParams
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    reward: float | None = None
    dropped: str = ""

    @property
    def num_completion_tokens(self) -> int:
        return sum(len(segment.completion_ids) for segment in self.segments)

    @property
    def truncated(self) -> bool:
        """True when the completion hit its token limit instead of ending by itself."""
        return self.segments[-1].finish_reason == "length"

    @property
    def failures(self) -> dict[str, Failure]:
        return {name: outcome for name, outcome in self.outcomes.items() if isinstance(outcome, Failure)}


@dataclass(slots=True)
class Group:
    """The rollouts of one prompt: what a group baseline is taken over."""

    prompt: Prompt
    rollouts: list[Rollout]

    @property
    def kept(self) -> list[Rollout]:
        return [rollout for rollout in self.rollouts if not rollout.dropped]


def derive_seed(*parts: object) -> int:
    """A 63-bit seed from (run seed, prompt id, member, ...): stable over processes, platforms and Python versions."""
    digest = hashlib.sha256("\x1f".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
