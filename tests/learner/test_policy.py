"""The policy module: what loading changes, and what the probe catches. No ranks, no DeepSpeed."""

from __future__ import annotations

import pytest
import torch
from learner_setup import config

from rlvr.errors import RecipeError
from rlvr.learner.policy import check_probe, load_policy, probe_batches


@pytest.mark.parametrize("attention", ["varlen_sdpa", "sdpa"])
def test_probe_accepts_our_attention(model_dir: str, attention: str) -> None:
    learner = config(attention=attention)
    policy = load_policy(model_dir, learner, trust_remote_code=False)
    packed, alone = probe_batches(40, "cpu")
    with torch.no_grad():
        ours, entropies = policy(packed, 0.7)
        own, own_entropies = policy(alone, 0.7, through_logits=True)
    check_probe(ours, own, model_dir, learner)
    torch.testing.assert_close(ours, own, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(entropies, own_entropies, rtol=1e-5, atol=1e-5)


def test_probe_catches_a_leak_between_documents(model_dir: str) -> None:
    learner = config()
    policy = load_policy(model_dir, learner, trust_remote_code=False)
    packed, alone = probe_batches(40, "cpu")
    packed.documents = None  # type: ignore[assignment] # attention then sees one long document
    with torch.no_grad():
        ours, own = policy(packed, 1.0)[0], policy(alone, 1.0, through_logits=True)[0]
    with pytest.raises(RecipeError, match="cannot be packed"):
        check_probe(ours, own, model_dir, learner)


def test_dropout_is_off_in_training(make_model) -> None:  # type: ignore[no-untyped-def]
    """With it the ratio of an unchanged policy would not be 1."""
    directory = make_model(attention_dropout=0.5)
    policy = load_policy(directory, config(gradient_checkpointing=True), trust_remote_code=False).train()
    batch, _ = probe_batches(40, "cpu")
    assert torch.equal(policy(batch, 1.0)[0], policy(batch, 1.0)[0])


@pytest.mark.parametrize("checkpointing", [True, False])
def test_gradient_checkpointing_recomputes_each_layer(model_dir: str, checkpointing: bool) -> None:
    policy = load_policy(model_dir, config(gradient_checkpointing=checkpointing), trust_remote_code=False)
    calls = []
    for layer in policy.model.model.layers:
        layer.mlp.register_forward_pre_hook(lambda *_: calls.append(1))
    policy(probe_batches(40, "cpu")[0], 1.0)[0].sum().backward()
    assert len(calls) == (4 if checkpointing else 2), "two layers, each once more in the backward pass"
