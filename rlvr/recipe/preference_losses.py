"""The policy losses that compare the completions of a prompt: one section each, told apart by `name`.

Every one is a loss of whole groups (`rlvr.objectives.group_preferences`), which reads rewards and no advantages. Its
`anchor` is what a completion's logprobs are compared with: the reference, or the policy at the start of the batch.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from rlvr.recipe.section import Section

Pairs = Literal["all", "best_worst"]
Rollouts = Literal["all", "best_worst"]
PAIRS = "All pairs of a group that differ in reward, or its best with its worst."
ROLLOUTS = "All rollouts of a group are fitted, or its best and its worst."
ANCHOR = "What the log ratios are against: the reference policy, or the policy at the start of the batch."
FIXED = "What the log ratios are against; the method knows nothing else."
SCALE = (
    "Null: the completion with the larger reward is preferred for certain. Otherwise Bradley-Terry: "
    "sigmoid(reward difference / scale)."
)


class DpoLoss(Section):
    """-log sigmoid(beta (D_w - D_l)) over in-group pairs (online DPO, 2305.18290 and 2402.04792)."""

    name: Literal["dpo"]
    anchor: Literal["reference", "old"] = Field("reference", description=ANCHOR)
    beta: float = Field(0.1, gt=0, description="Per nat: how soon a pair counts as told apart.")
    label_smoothing: float = Field(0.0, ge=0, lt=0.5, description="Chance that the rewards of a pair are swapped.")
    pairs: Pairs = Field("all", description=PAIRS)


class IpoLoss(Section):
    """((D_w - D_l) - 1 / (2 tau))^2 over in-group pairs (2310.12036)."""

    name: Literal["ipo"]
    anchor: Literal["reference", "old"] = Field("reference", description=ANCHOR)
    tau: float = Field(0.1, gt=0, description="Pull to the anchor: the gap that is asked for is 1 / (2 tau) nats.")
    per_token: bool = Field(True, description="D are means per token, as in the authors' experiments; false: sums.")
    pairs: Pairs = Field("all", description=PAIRS)


class XpoLoss(Section):
    """DPO plus an optimistic bonus (2405.21046); the reference's samples are reweighted in-group rollouts."""

    name: Literal["xpo"]
    anchor: Literal["reference"] = Field("reference", description=FIXED)
    beta: float = Field(0.1, gt=0, description="As in dpo.")
    alpha: float = Field(1e-5, ge=0, description="Weight of the bonus: how hard what the reference says is avoided.")
    pairs: Pairs = Field("all", description=PAIRS)


class DnoLoss(Section):
    """DPO over pairs whose winner is good in itself, by a margin (DNO-Prct, 2404.03715)."""

    name: Literal["dno"]
    anchor: Literal["reference", "old"] = Field("old", description=ANCHOR + " The paper's is the latter.")
    beta: float = Field(0.1, gt=0, description="As in dpo.")
    min_positive: float = Field(1.0, description="A winner has at least this reward (the paper: 5 of 6).")
    margin: float = Field(0.5, ge=0, description="A loser's reward is at least this much lower (the paper: 1 of 6).")
    alpha: float = Field(0.005, ge=0, description="Weight of the winners' negative log-likelihood.")


class NashMdLoss(Section):
    """Policy gradient on the win rate against a mixture of policy and reference (2312.00886)."""

    name: Literal["nash_md"]
    anchor: Literal["reference"] = Field("reference", description=FIXED)
    tau: float = Field(0.008, ge=0, description="Weight of the KL to the reference.")
    mixture: float = Field(
        0.125, ge=0, le=1, description="Share of the reference in the opponent; 0 is self-play, 1 the reference."
    )
    preference_scale: float | None = Field(None, gt=0, description=SCALE)


class SppoLoss(Section):
    """(D - (win rate - 1/2) / beta)^2 (SPPO, 2405.00675)."""

    name: Literal["sppo"]
    anchor: Literal["reference", "old"] = Field("old", description=ANCHOR)
    beta: float = Field(0.001, gt=0, description="1 / eta: the smaller, the further a win rate moves a completion.")
    rollouts: Rollouts = Field("all", description=ROLLOUTS)
    preference_scale: float | None = Field(None, gt=0, description=SCALE)


class GpoLoss(Section):
    """(D - mean preference score / beta)^2 / 2, the score of a pair being its reward difference (GPO, 2410.02197)."""

    name: Literal["gpo"]
    anchor: Literal["reference", "old"] = Field("old", description=ANCHOR)
    beta: float = Field(0.001, gt=0, description="As in sppo.")
    rollouts: Rollouts = Field("all", description=ROLLOUTS + " The paper: the latter.")


class TrpaLoss(Section):
    """Preferences between levels of reward, on mean log ratios (TRPA, 2504.04524).

    The paper's trust region is `objective.auxiliary`: old_policy_kl with coefficient 0.001.
    """

    name: Literal["trpa"]
    anchor: Literal["reference", "old"] = Field("reference", description=ANCHOR)
    beta: float = Field(0.1, gt=0, description="Per nat and token.")
    top_factor: float = Field(2.5, gt=0, description="Multiplies beta where the winner is of the best level.")
    levels: tuple[float, ...] = Field(
        (1.0,),
        min_length=1,
        description="Smallest reward of each level but the last, best first; (1.0, 0.5, 0.0) makes four levels.",
    )


class AdaptiveTemperature(Section):
    """tau * (1 + entropy * H + reward * (1 - H)(1 - R)) per group, H and R in [0, 1], within the bounds (ADPO).

    H: the entropy of the group's softmax at `tau`, over its largest. R: the group's mean reward on `reward_range`. Both
    readings are ours; the factors are those of the authors' verl recipe (1.0 in their TRL one).
    """

    entropy: float = Field(0.5, ge=0, description="How much a softmax that is still flat warms it.")
    reward: float = Field(0.5, ge=0, description="How much a sharp softmax over bad completions warms it.")
    reward_range: tuple[float, float] = Field((0.0, 1.0), description="Rewards that count as R = 0 and R = 1.")
    low: float = Field(0.05, gt=0, description="Least temperature. Not verified.")
    high: float = Field(10.0, gt=0, description="Largest temperature. Not verified.")


class AdpoLoss(Section):
    """Cross entropy of a softmax of log ratios with one of z-scored rewards, per group (ADPO, 2510.18913)."""

    name: Literal["adpo"]
    anchor: Literal["reference", "old"] = Field("old", description=ANCHOR)
    tau: float = Field(0.8, gt=0, description="Temperature of the policy's softmax, nats.")
    target_temperature: float = Field(0.5, gt=0, description="Temperature of the rewards' softmax.")
    adaptive: AdaptiveTemperature | None = Field(None, description="Adapt tau to each group; null keeps it.")


class AStarPoLoss(Section):
    """(beta D - (r - V*))^2 (A*-PO, 2505.20686)."""

    name: Literal["a_star_po"]
    anchor: Literal["reference"] = Field("reference", description=FIXED)
    beta: float = Field(0.001, gt=0, description="beta2: worth of a nat of log ratio in units of reward.")
    value_beta: float = Field(
        0.5, ge=0, description="beta1 of V*: 0 is the mean reward of the samples, small values are near their best."
    )
    value_column: str | None = Field(
        None,
        description="Column of the rows that holds V*, from samples of the reference as in the paper; one completion "
        "per prompt is then enough.",
    )
    reference_samples: int = Field(
        0,
        ge=0,
        description="Completions per prompt that the starting weights sample before the first step, for V* (the "
        "paper: 8). 0, without value_column, takes V* from the group, which the policy itself sampled.",
    )


class RrhfLoss(Section):
    """A hinge on mean logprobs out of order, plus the best completion's likelihood (RRHF, 2304.05302)."""

    name: Literal["rrhf"]
    anchor: Literal["none"] = Field("none", description="Logprobs themselves are ranked, without a reference.")
    imitation: float = Field(1.0, ge=0, description="Weight of the best completion's mean negative logprob.")


class RrtfLoss(Section):
    """As rrhf, each completion against the best only, times the reward difference (RRTF, 2307.14936)."""

    name: Literal["rrtf"]
    anchor: Literal["none"] = Field("none", description="Logprobs themselves are ranked, without a reference.")
    imitation: float = Field(1.0, ge=0, description="Weight of the best completion's mean negative logprob.")


class MpoLoss(Section):
    """A mixture of DPO, BCO and imitation (MPO, 2411.10442; Skywork R1V2)."""

    name: Literal["mpo"]
    anchor: Literal["reference", "old"] = Field("reference", description=ANCHOR)
    beta: float = Field(0.1, gt=0, description="As in dpo, and for BCO.")
    preference: float = Field(0.8, ge=0, description="Weight of DPO.")
    quality: float = Field(0.2, ge=0, description="Weight of BCO: each rollout by itself, against the mean.")
    generation: float = Field(1.0, ge=0, description="Weight of the negative log-likelihood of the better rollouts.")
    pairs: Pairs = Field("all", description=PAIRS)


GroupPreference = (
    DpoLoss
    | IpoLoss
    | XpoLoss
    | DnoLoss
    | NashMdLoss
    | SppoLoss
    | GpoLoss
    | TrpaLoss
    | AdpoLoss
    | AStarPoLoss
    | RrhfLoss
    | RrtfLoss
    | MpoLoss
)
SECTIONS: tuple[type[Section], ...] = GroupPreference.__args__
