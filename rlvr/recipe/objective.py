"""The objective section of a recipe: a method, as a choice in each slot."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from rlvr.recipe.advantage import AdvantageOptions
from rlvr.recipe.auxiliary import Auxiliary, TeacherConfig
from rlvr.recipe.credit import CreditConfig
from rlvr.recipe.critic import CriticConfig
from rlvr.recipe.exploration import DownSampling, RepresentationBonus
from rlvr.recipe.imitation_losses import BalancedHalves
from rlvr.recipe.kl import KlConfig as KlConfig
from rlvr.recipe.policy_losses import ClipLoss, PolicyLoss
from rlvr.recipe.relabel import Relabel
from rlvr.recipe.replay import Replay, ReplayImportance
from rlvr.recipe.schedule import Anneal
from rlvr.recipe.section import Section


class FilterConfig(Section):
    """Which groups and members train."""

    zero_variance: Literal["keep", "drop", "refill"] = Field(
        "keep",
        description="Groups whose rewards are all equal: keep them (advantage 0), drop them, or drop and generate "
        "others until the batch is full (DAPO's dynamic sampling).",
    )
    variance_of: Literal["reward", "correct"] = Field(
        "reward",
        description="What must differ within a group: the total reward, or whether completions are correct "
        "(`reward.correct`), which DAPO asks for, as shaping alone makes no signal.",
    )
    max_generation_rounds: int = Field(10, ge=1, description="Limit of refilling; then the batch trains as it is.")
    mask_truncated: bool = Field(False, description="Truncated completions leave the loss (overlong filtering).")
    members: Literal["all", "correct", "one_of_each"] = Field(
        "all",
        description="Which completions of a group train, after the baseline: all, those that are correct "
        "(`reward.correct`; expert iteration), or one correct and one wrong (OREAL), none where a group lacks either.",
    )
    correct_range: tuple[float, float] = Field(
        (0.0, 1.0),
        description="Groups whose share of correct completions (`reward.correct`) lies outside this range, bounds "
        "included, are dropped; PRIME keeps 0.2 to 0.8. With zero_variance refill others are generated.",
    )
    keep_top_std: float | None = Field(
        None,
        gt=0,
        le=1,
        description="Share of the step's groups that train: those of largest standard deviation in reward (StarPO-S: "
        "0.25). Rounded down, one at least; null keeps all.",
    )


class EntropyForks(Section):
    """The policy loss on the tokens of highest entropy only (2506.01939)."""

    name: Literal["entropy_forks"]
    share: float = Field(0.2, gt=0, le=1, description="Share of the mini-batch's tokens that keep their loss.")


class SignalTokens(Section):
    """The policy loss on the tokens of largest |advantage| * entropy only: D3S at the level of tokens (2509.22115)."""

    name: Literal["signal"]
    share: float = Field(0.2, gt=0, le=1, description="Share of the mini-batch's tokens that keep their loss.")
    anneal: Anneal | None = Field(None, description="Changes the share over steps: D3S relaxes it. Values not known.")


class SpanWeight(Section):
    """One weight for the tokens of some spans of a completion, another for the rest: span masks. One of these at most.

    Give exactly one of `pattern` and `term`. A token that reaches into a span belongs to it.
    """

    name: Literal["span"]
    pattern: str | None = Field(
        None,
        description="Regular expression over the text of the completion (`.` meets line feeds too): each match is a "
        "span, or its first group where there is one.",
    )
    term: str | None = Field(None, description="Step term whose steps are the spans.")
    inside: float = Field(1.0, ge=0, description="What the policy loss of the spans' tokens is multiplied with.")
    outside: float = Field(0.0, ge=0, description="And that of all others.")


TokenWeight = Annotated[
    EntropyForks | SignalTokens | BalancedHalves | ReplayImportance | SpanWeight, Field(discriminator="name")
]


class MismatchCorrection(Section):
    """A weight for what the trainer's probabilities and the engine's differ by (docs/objectives/mismatch.md)."""

    level: Literal["token", "sequence", "geometric"] = Field(
        "token",
        description="Ratio w of trainer to engine: of the token, the product over its rollout, or the geometric mean.",
    )
    action: Literal["clamp", "mask"] = Field(
        description="Weights outside the bounds are moved to them, or become 0 (the tokens stay in the denominator)."
    )
    metric: Literal["ratio", "k1", "k3"] = Field(
        "ratio",
        description="What mask bounds: w, |log w|, or exp(log w) - log w - 1 (averaged over the rollout where level is "
        "not token).",
    )
    low: float | None = Field(None, ge=0, description="Lower bound; null is none.")
    high: float | None = Field(None, gt=0, description="Upper bound; null is none.")
    weigh: bool = Field(True, description="Multiply by w where it is kept; false only masks.")
    normalise: Literal["none", "batch"] = Field(
        "none",
        description="batch divides the weights, bounds applied, by their mean over the mini-batch: over its tokens, or "
        "over its rollouts where level is not token. Needs a forward pass before the first step.",
    )


class ObjectiveConfig(Section):
    """A method, as a choice in each slot."""

    advantage: str = Field(
        "grpo", description="Name in `rlvr.objectives.advantages`, path/to/file.py:function, or gae (with `critic`)."
    )
    advantage_options: AdvantageOptions = AdvantageOptions()
    credit: CreditConfig = CreditConfig()
    critic: CriticConfig | None = Field(
        None, description="The value model that advantage gae reads; null is critic-free, as are all other advantages."
    )
    policy_loss: PolicyLoss = Field(ClipLoss(), description="What is minimised: a loss of tokens, or of whole groups.")
    old_policy: Literal["trainer", "engine"] = Field(
        "trainer",
        description="Whose logprobs stand below the ratio: the trainer's at the start of the batch, or the engine's as "
        "sampled. The second needs no forward pass and puts the mismatch of the two inside the clip.",
    )
    mismatch: tuple[MismatchCorrection, ...] = Field(
        (), description="Corrections for the difference of engine and trainer; their product weighs the policy loss."
    )
    token_weights: tuple[TokenWeight, ...] = Field(
        (), description="Functions whose product multiplies each token's policy loss."
    )
    token_weight_denominator: Literal["all", "selected"] = Field(
        "all", description="What the loss is divided by: all loss tokens, or those that token_weights leave above 0."
    )
    auxiliary: tuple[Auxiliary, ...] = Field((), description="Terms that are added to the policy loss.")
    teacher: TeacherConfig | None = Field(None, description="What the term `distillation` learns from.")
    exploration: RepresentationBonus | None = Field(None, description="A reward for being unlike; null gives none.")
    down_sampling: DownSampling | None = Field(None, description="Rollouts that train, by their advantages; null: all.")
    aggregation: Literal["token_mean", "sequence_mean", "sequence_sum_constant"] = Field(
        "token_mean",
        description="Mean over the batch's tokens (DAPO), mean over sequences of token means (GRPO), or token sums "
        "over max_completion_tokens, averaged over sequences (Dr.GRPO).",
    )
    kl: KlConfig = KlConfig()
    filter: FilterConfig = FilterConfig()
    relabel: Relabel | None = Field(
        None, description="Trains completions under the instruction that they fulfilled; null leaves prompts alone."
    )
    replay: Replay | None = Field(
        None, description="Brings completions of earlier steps back; null trains fresh ones only."
    )


def needs_reference(objective: ObjectiveConfig) -> bool:
    """Whether anything of an objective reads logprobs of the reference policy."""
    in_loss = getattr(objective.policy_loss, "anchor", None) == "reference"
    return objective.kl.coefficient > 0 or in_loss or objective.exploration is not None
