"""The policy losses that imitate the policy's own completions: one section each, told apart by `name`.

Which completions they see is for `objective.filter.members` to say.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from rlvr.recipe.section import Section


class ImitationLoss(Section):
    """Negative log-likelihood of what trains: expert iteration (2203.14465) with filter.members correct."""

    name: Literal["imitation"]
    weight: Literal["one", "advantage"] = Field(
        "one", description="What a token counts: 1, or its advantage (REINFORCE without a ratio)."
    )


class IwSftLoss(Section):
    """Imitation weighted by how far the policy has left the reference (iw-SFT, 2507.12856)."""

    name: Literal["iw_sft"]
    anchor: Literal["reference"] = Field("reference", description="What the policy's distance is measured from.")
    level: Literal["completion", "token"] = Field(
        "completion", description="One weight per completion, at most 16, or per token, within [0.2, 1.8]."
    )
    temperature: float = Field(1.0, ge=0, description="Multiplies the (mean) log ratio before the exponential.")


class RlscLoss(Section):
    """-(p_old(y) + alpha) log p(y): no reward at all (RLSC, 2506.06395); on long completions alpha times imitation."""

    name: Literal["rlsc"]
    alpha: float = Field(0.1, ge=0, description="What is added to the completion's probability.")


class OrealLoss(Section):
    """Cloning of correct completions, policy gradient on wrong ones (OREAL, 2502.06781).

    The paper adds advantage rloo, filter.members one_of_each, token weight balanced_halves, objective.kl 0.01, and a
    token-level model of the outcome, `outcome_term`.
    """

    name: Literal["oreal"]
    negative_scale: float = Field(0.5, ge=0, description="Weight of the tokens whose advantage is not positive.")
    clone: Literal["advantage", "one"] = Field(
        "advantage", description="Weight of the tokens with positive advantage: that advantage, or 1."
    )
    outcome_term: str | None = Field(
        None,
        description="Step term (fn token_outcome) whose belief p in a right outcome weighs tokens: max(2 p - 1, 0) at "
        "positive advantages, max(1 - 2 p, 0) at the others. null weighs all alike.",
    )


class HirLoss(Section):
    """Imitation under the instruction that was fulfilled, and contrast with the others (HIR, 2302.05206).

    A loss of whole groups: of a completion under each instruction of `objective.relabel`, which it needs.
    """

    name: Literal["hir"]
    anchor: Literal["none"] = Field("none", description="Logprobs themselves are compared, without a reference.")
    imitation: float = Field(1.0, ge=0, description="Weight of the mean NLL under the instruction that was fulfilled.")
    contrast: float = Field(1.0, ge=0, description="Weight of -log of its share in the likelihoods under all of them.")
    smoothing: float = Field(0.2, ge=0, lt=1, description="Part of the contrast that goes to the other instructions.")


class BalancedHalves(Section):
    """Tokens of positive advantage and the others weigh the same in sum, each with a denominator of its own (OREAL)."""

    name: Literal["balanced_halves"]


SECTIONS: tuple[type[Section], ...] = (ImitationLoss, IwSftLoss, RlscLoss, OrealLoss, HirLoss)
ImitationLosses = ImitationLoss | IwSftLoss | RlscLoss | OrealLoss | HirLoss
