"""What an objective must know of a batch before its optimizer steps: forward passes, and who needs which."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rlvr.learner.batch import MicroBatch
from rlvr.learner.covariance import selects
from rlvr.learner.kl_term import set_reference
from rlvr.learner.linearised import is_group_loss
from rlvr.learner.mismatch import normalises
from rlvr.learner.policy_losses import needs_whole_rollouts
from rlvr.recipe.objective import ObjectiveConfig

if TYPE_CHECKING:
    from rlvr.learner.engine import TrainingEngine
    from rlvr.learner.reference import Reference


def keeps_rollouts_together(objective: ObjectiveConfig) -> bool:
    """Whether all tokens of a rollout must stand in one micro-batch."""
    # A token's share of its rollout's entropy bonus is a softmax over the rollout.
    by_rollout = any(term.name == "token_entropy" for term in objective.auxiliary)
    ratios = any(correction.level != "token" for correction in objective.mismatch)
    return needs_whole_rollouts(objective.policy_loss) or by_rollout or ratios


def keeps_groups_together(objective: ObjectiveConfig) -> bool:
    """Whether all rollouts of a prompt must stand in one mini-batch."""
    return is_group_loss(objective.policy_loss)


def needs_old_logprobs(objective: ObjectiveConfig, num_steps: int) -> bool:
    """Whether old logprobs and entropies must be known before the optimizer steps of a batch.

    With a single step per batch the policy that it starts from is the policy that it differentiates, so that a forward
    pass of its own would only say the same again.
    """
    several = num_steps > 1 and objective.old_policy == "trainer"
    critical = objective.kl.critical if needs_reference(objective) else None
    reads_entropy = bool(objective.token_weights) or (critical is not None and critical.entropy_of == "old")
    by_rollout = any(term.name == "token_entropy" for term in objective.auxiliary)
    reads_logprobs = by_rollout or selects(objective.policy_loss) or normalises(objective.mismatch)
    return several or reads_entropy or reads_logprobs or keeps_groups_together(objective)


def needs_reference(objective: ObjectiveConfig) -> bool:
    """Whether the loss reads logprobs of the reference policy."""
    in_loss = objective.kl.coefficient > 0 and objective.kl.placement == "loss"
    return in_loss or getattr(objective.policy_loss, "anchor", None) == "reference"


def fill(
    engine: TrainingEngine,
    reference: Reference | None,
    batches: Sequence[MicroBatch],
    objective: ObjectiveConfig,
    temperature: float,
    num_steps: int,
) -> bool:
    """Fills `ref_logprobs`, `old_logprobs`, `entropies` where the objective needs them. Collective.

    True where the old logprobs are the trainer's own, from a forward pass.
    """
    asked = needs_old_logprobs(objective, num_steps)
    for batch in batches if asked else ():
        batch.old_logprobs, batch.entropies = engine.forward(batch, temperature)
    if needs_reference(objective):
        assert reference is not None, "setup(reference=True) is needed for a KL term"
        with reference.visit():
            for batch in batches:
                set_reference(batch, reference, objective.kl, temperature, batch.entropies)
    return asked
