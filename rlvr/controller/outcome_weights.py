"""What a model of the outcome thinks that each token of a rollout counts (OREAL)."""

from __future__ import annotations

import numpy as np
import torch

from rlvr.learner.imitation_losses import OUTCOME_WEIGHT
from rlvr.objectives.reward_model import token_weights_of_outcome_model
from rlvr.recipe.imitation_losses import OrealLoss
from rlvr.recipe.objective import ObjectiveConfig
from rlvr.records import Rollout, Steps


def outcome_weights(
    rollout: Rollout, advantage: float | np.ndarray, objective: ObjectiveConfig
) -> dict[str, np.ndarray]:
    """The column of weights per sampled token: w+ at positive advantages, w- at the others. OREAL (2502.06781).

    Nothing for an objective without `policy_loss.outcome_term`; a rollout that the model could not score counts whole.
    """
    loss = objective.policy_loss
    if not isinstance(loss, OrealLoss) or loss.outcome_term is None:
        return {}
    outcome, length = rollout.outcomes.get(loss.outcome_term), rollout.num_sampled_tokens
    if not isinstance(outcome, Steps) or len(outcome.values) != length:
        return {OUTCOME_WEIGHT: np.ones(length, dtype=np.float32)}
    right, wrong = token_weights_of_outcome_model(torch.tensor(outcome.values, dtype=torch.float64))
    positive = np.broadcast_to(np.asarray(advantage) > 0, (length,))
    return {OUTCOME_WEIGHT: np.where(positive, right.numpy(), wrong.numpy()).astype(np.float32)}
