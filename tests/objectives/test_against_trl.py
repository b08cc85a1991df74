"""The whole loss against TRL's GRPO code, run on the same numbers: per-token loss, KL, aggregation, gradient."""

import warnings
from collections import defaultdict
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from rlvr.objectives.aggregation import token_weights, weighted_sum
from rlvr.objectives.kl import k3
from rlvr.objectives.policy_loss import clip_fractions, clip_loss

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # about the vLLM version, which plays no part here
    GRPOTrainer = pytest.importorskip("trl").GRPOTrainer
MAX_COMPLETION_TOKENS = 12
LOSS_TYPES = {"grpo": "sequence_mean", "bnpo": "token_mean", "dapo": "token_mean", "dr_grpo": "sequence_sum_constant"}


def inputs() -> dict[str, torch.Tensor]:
    """Five completions of 1..8 tokens; log ratios wide enough that both sides and the dual clip are hit."""
    generator = torch.Generator().manual_seed(11)
    lengths = torch.tensor([8, 1, 5, 3, 8])
    old = -2 * torch.rand(5, 8, generator=generator, dtype=torch.float64)
    return {
        "lengths": lengths,
        "mask": torch.arange(8) < lengths[:, None],
        "old": old,
        "logprobs": old + 0.9 * torch.randn(5, 8, generator=generator, dtype=torch.float64),
        "ref": old + 0.5 * torch.randn(5, 8, generator=generator, dtype=torch.float64),
        "advantages": torch.tensor([1.5, -0.5, -0.5, -2.0, 0.8], dtype=torch.float64),
    }


def trl_loss(data: dict[str, torch.Tensor], logprobs: torch.Tensor, loss_type: str, beta: float, delta: float | None):
    """TRL's `_compute_loss`, unbound: a namespace stands in for the trainer, the logprobs for its forward pass."""
    trainer: Any = SimpleNamespace(
        _get_per_token_logps_and_entropies=lambda *args, **kwargs: (logprobs, torch.zeros_like(logprobs), None),
        accelerator=SimpleNamespace(
            gather=lambda value: value, reduce=lambda value, reduction: value, num_processes=1, sync_gradients=True
        ),
        args=SimpleNamespace(delta=delta, use_bias_correction_kl=False, steps_per_generation=1),
        model=SimpleNamespace(training=True),
        _metrics={"train": defaultdict(list)},
        _entropy_bonus_enabled=False,
        aux_loss_enabled=False,
        top_entropy_quantile=1.0,
        off_policy_mask_threshold=None,
        importance_sampling_level="token",
        epsilon_low=0.2,
        epsilon_high=0.28,
        loss_type=loss_type,
        beta=beta,
        use_vllm=False,
        current_gradient_accumulation_steps=1,
        max_completion_length=MAX_COMPLETION_TOKENS,
    )
    ids = torch.zeros(5, 8, dtype=torch.long)
    batch = {
        "prompt_ids": ids[:, :1],
        "prompt_mask": torch.ones(5, 1, dtype=torch.long),
        "completion_ids": ids,
        "completion_mask": data["mask"].long(),
        "advantages": data["advantages"],
        "old_per_token_logps": data["old"],
        "ref_per_token_logps": data["ref"],
        "num_items_in_batch": data["mask"].sum(),
    }
    return GRPOTrainer._compute_loss(trainer, None, batch), trainer._metrics["train"]


def our_loss(data: dict[str, torch.Tensor], logprobs: torch.Tensor, mode: str, beta: float, dual_clip: float | None):
    loss = clip_loss(logprobs - data["old"], data["advantages"][:, None], 0.2, 0.28, dual_clip)
    loss = loss + beta * k3(logprobs, data["ref"])
    weights = torch.tensor(token_weights(data["lengths"].tolist(), mode, MAX_COMPLETION_TOKENS), dtype=torch.float64)
    return weighted_sum(loss, weights[:, None] * data["mask"])


@pytest.mark.parametrize("loss_type", list(LOSS_TYPES))
@pytest.mark.parametrize("beta", [0.0, 0.04])
@pytest.mark.parametrize("delta", [None, 3.0])
def test_loss_and_gradient_equal_trl(loss_type, beta, delta):
    data = inputs()
    theirs_in, ours_in = (data["logprobs"].clone().requires_grad_() for _ in range(2))
    theirs, metrics = trl_loss(data, theirs_in, loss_type, beta, delta)
    ours = our_loss(data, ours_in, LOSS_TYPES[loss_type], beta, delta)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-13)
    (their_gradient,) = torch.autograd.grad(theirs, theirs_in)
    (our_gradient,) = torch.autograd.grad(ours, ours_in)
    torch.testing.assert_close(our_gradient, their_gradient, rtol=0, atol=1e-13)
    low, high = clip_fractions(data["logprobs"] - data["old"], data["advantages"][:, None], 0.2, 0.28)
    for side, clipped in (("low", low), ("high", high)):
        share = clipped[data["mask"]].double().mean().item()
        assert share > 0
        # TRL applies delta to the ratio before it counts, but delta is beyond both bounds: the counts are the same.
        assert share == pytest.approx(metrics[f"clip_ratio/{side}_mean"][0], abs=1e-6)
    assert (our_gradient[~data["mask"]] == 0).all()
    assert (our_gradient[data["mask"]] != 0).any()
