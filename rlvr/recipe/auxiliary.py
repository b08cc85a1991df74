"""The terms that a recipe can add to the policy loss: one section each, told apart by `name`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from rlvr.recipe.schedule import Anneal
from rlvr.recipe.section import Section


class EntropyBonus(Section):
    """- coefficient * entropy of the policy at the loss tokens, under the recipe's aggregation."""

    name: Literal["entropy_bonus"]
    coefficient: float = Field(description="Per nat; positive keeps the policy open, negative sharpens it.")
    anneal: Anneal | None = Field(None, description="Changes the coefficient over steps.")


class EntropyControl(Section):
    """An entropy bonus whose coefficient steps towards a target (Skywork-OR1, 2505.22312); kept in checkpoints."""

    name: Literal["entropy_control"]
    coefficient: float = Field(0.0, ge=0, description="Where the coefficient starts.")
    target: float = Field(
        0.2, ge=0, description="Entropy to hold, nats per token; above it the bonus is off. Not verified."
    )
    step: float = Field(0.005, gt=0, description="What the coefficient changes by, per step. Not verified.")


class TokenEntropy(Section):
    """TEA-RL (Light-IF, 2508.03178): an entropy bonus where advantage and logprob go together."""

    name: Literal["token_entropy"]
    coefficient: float = Field(1.0, ge=0, description="Of the whole term; the released scripts use 0.")
    anneal: Anneal | None = Field(None, description="Changes the coefficient over steps.")
    scale: float = Field(10.0, gt=0, description="Multiplies the softmax over a rollout's tokens.")
    maximum: float = Field(5.0, gt=0, description="Cap of a token's coefficient.")


class PositiveNll(Section):
    """VAPO's imitation of the correct completions of the batch (2504.05118): the mean NLL of their tokens."""

    name: Literal["positive_nll"]
    coefficient: float = Field(0.1, ge=0, description="mu.")
    anneal: Anneal | None = Field(None, description="Changes the coefficient over steps.")


class Distillation(Section):
    """KDRL (2506.02208): k2 to `objective.teacher` on the policy's own tokens."""

    name: Literal["distillation"]
    coefficient: float = Field(0.005, ge=0, description="beta at the first step.")
    anneal: Anneal | None = Field(
        None, description="Changes the coefficient over steps; {end: 0.001, steps: 80} is the paper's."
    )
    mask: Literal["all", "response", "group"] = Field(
        "all", description="Which rollouts: all, those that are wrong, or those of groups with none correct."
    )


class OldPolicyKl(Section):
    """k3 against the policy at the start of the batch: TRPA's trust region (2504.04524; coefficient 0.001 there).

    With a single step per batch the two are the same, and the term is 0.
    """

    name: Literal["old_policy_kl"]
    coefficient: float = Field(0.001, ge=0, description="Per nat.")
    anneal: Anneal | None = Field(None, description="Changes the coefficient over steps.")


class SftMix(Section):
    """Imitation of demonstrations beside RL: they join the batch and its denominator."""

    name: Literal["sft_mix"]
    batch_size: int = Field(ge=1, description="Demonstrations per step, drawn from those of the task.")
    coefficient: float = Field(1.0, ge=0, description="Weight of their NLL against the policy loss.")
    anneal: Anneal | None = Field(None, description="Changes the coefficient over steps.")
    balance: Balance | None = Field(None, description="Adapt it instead: an experiment of ours.")


class Balance(Section):
    """EXPERIMENT, not a published result: a share mu of imitation that follows entropy.

    mu + rate * (entropy - target) after each step, as coefficient mu / (1 - mu). From AMFT (2508.06944), which is
    withdrawn.
    """

    share: float = Field(0.5, gt=0, lt=1, description="mu at the first step.")
    target: float = Field(ge=0, description="Entropy, nats per token, above which imitation grows.")
    rate: float = Field(0.05, description="Change of mu per nat and step.")
    low: float = Field(0.05, gt=0, lt=1, description="Least mu.")
    high: float = Field(0.95, gt=0, lt=1, description="Largest mu.")


class TeacherConfig(Section):
    """The frozen model that `distillation` learns from; it shares the policy's tokenizer."""

    path: str | None = Field(None, description="Local directory or hub id of a Hugging Face causal language model.")
    from_stage: str | None = Field(
        None, description="Instead of `path`: name of the earlier stage of this run whose weights teach."
    )


SftMix.model_rebuild()

Auxiliary = Annotated[
    EntropyBonus | EntropyControl | TokenEntropy | PositiveNll | Distillation | OldPolicyKl | SftMix,
    Field(discriminator="name"),
]
