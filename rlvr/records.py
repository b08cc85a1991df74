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
FailureKind = Literal[
    "timeout",
    "memory",
    "crash",
    "exception",
    "signature",
    "non_finite",
    "bad_return",
    "lost",
    "unavailable",  # a model endpoint or sandbox service did not answer, after all retries
    "unparseable",  # a judge answered, and its answer holds no verdict
]
SpanUnit = Literal["character", "token"]
Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Score:
    """A verifier's verdict: a finite number, with whatever the verifier wants to have logged beside it."""

    value: float
    info: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        if not math.isfinite(self.value):
            raise ValueError(f"Score.value={self.value!r} is not finite; return a Failure or None instead")


@dataclass(frozen=True, slots=True)
class Steps:
    """A verdict per step: one finite value for each span, in order; none for a completion without steps.

    Spans are half-open. In characters they count in the completion (`Rollout.text`), in tokens over the sampled tokens
    of all segments in order. They may leave gaps but must not overlap.
    """

    values: tuple[float, ...]
    spans: tuple[Span, ...]
    unit: SpanUnit = "character"
    info: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        if len(self.values) != len(self.spans):
            raise ValueError(f"Steps: {len(self.values)} values for {len(self.spans)} spans; give one value per span")
        if not all(map(math.isfinite, self.values)):
            raise ValueError(f"Steps.values={self.values!r:.200} holds a value that is not finite")
        ends = [0, *(end for _, end in self.spans)]
        for before, (start, end) in zip(ends, self.spans, strict=False):
            if not before <= start <= end:
                raise ValueError(f"Steps: span ({start}, {end}) overlaps the one before it or runs backwards")


@dataclass(frozen=True, slots=True)
class Abstain:
    """The verifier has no opinion (a reward function returned None); the term is left out of the total."""

    reason: str = ""


@dataclass(frozen=True, slots=True)
class Failure:
    """The verifier broke. Never a zero: the failure policy of the recipe decides what becomes of the rollout."""

    kind: FailureKind
    message: str = ""


Outcome = Score | Steps | Abstain | Failure


@dataclass(frozen=True, slots=True)
class Share:
    """What one term gave to a total reward: one number per span, or a single one for the completion as a whole.

    The shares of a rollout sum to its reward. `term` is "" for constants of the expression.
    """

    term: str
    values: tuple[float, ...]
    spans: tuple[Span, ...] | None = None
    unit: SpanUnit = "character"

    @property
    def total(self) -> float:
        return math.fsum(self.values)


@dataclass(frozen=True, slots=True)
class Step:
    """What an environment answers to an action (`rlvr.rollout.environments`).

    `observation` is text, or a list of chat messages; nobody reads it once `done`. `rewards` are finite numbers by
    name; what they are worth is for the reward section of the recipe to say.
    """

    observation: str | Sequence[Mapping[str, str]]
    rewards: Mapping[str, float] = field(default_factory=dict)
    done: bool = False


@dataclass(frozen=True, slots=True)
class Turn:
    """One action of the policy in an environment: where its tokens stand, and what the environment made of it.

    Tokens `start:end` of the completion of segment number `segment`, all of them sampled. `observation` is what the
    environment answered ("" after the last turn), `scores` the rewards it gave at this turn, by name.
    """

    segment: int
    start: int
    end: int
    text: str
    observation: str = ""
    scores: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Prompt:
    """One question, tokenised once. `columns` are the other fields of its row, passed to reward functions.

    `question` is what the row says before any template: text, or chat messages as ({"role", "content"}, ...).
    """

    id: str
    token_ids: tuple[int, ...]
    text: str
    answer: str | None = None
    domain: str = "default"
    columns: Mapping[str, Any] = field(default_factory=dict)
    question: str | tuple[Mapping[str, str], ...] = ""


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

    `text` is what the policy wrote: with `turns`, their texts joined by a newline; observations are not in it.
    `reward` is None until scored, and stays None when a failed term makes the total unknowable. `shares` say which
    term gave how much of it, and to which part of the completion; they sum to it.
    `failure` is set when its environment broke: then it is worth nothing, which is not 0.
    `unscored` says why `reward` is None. `references` are the numbers that the reward took from elsewhere than this
    rollout, by the text of the expression that they come from: group and batch statistics, annealed values, thresholds.
    `dropped` is empty for a rollout that trains, else the reason that the waterfall counts it under.
    `guided` says that it was sampled with a hint in sight that its segments do not show (`rlvr.controller.hints`),
    `replayed` that an earlier step sampled it (`rlvr.controller.replay`).
    `open` says that a window cut it and that a later step goes on with it: it has no reward yet. Its first
    `trained_tokens` sampled tokens have trained in earlier steps (`rlvr.controller.windows`).
    """

    prompt: Prompt
    member: int
    seed: int
    segments: list[Segment]
    text: str
    sampling: SamplingParams
    turns: list[Turn] = field(default_factory=list)
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    reward: float | None = None
    shares: list[Share] = field(default_factory=list)
    dropped: str = ""
    failure: Failure | None = None
    unscored: Abstain | Failure | None = None
    references: dict[str, float] = field(default_factory=dict)
    guided: bool = False
    replayed: bool = False
    open: bool = False
    trained_tokens: int = 0

    @property
    def num_completion_tokens(self) -> int:
        return sum(len(segment.completion_ids) for segment in self.segments)

    @property
    def num_sampled_tokens(self) -> int:
        """Tokens that the policy sampled, over all segments; the sampled eos included, observations not."""
        return sum(sum(map(bool, segment.loss_mask)) for segment in self.segments)

    @property
    def truncated(self) -> bool:
        """True when the completion hit its token limit instead of ending by itself; one that goes on has not."""
        return self.cut and not self.open

    @property
    def cut(self) -> bool:
        """True when a limit ended the last request, of the completion or of its window."""
        return self.segments[-1].finish_reason == "length"

    @property
    def failures(self) -> dict[str, Failure]:
        broken = {"environment": self.failure} if self.failure is not None else {}
        return broken | {name: outcome for name, outcome in self.outcomes.items() if isinstance(outcome, Failure)}


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
