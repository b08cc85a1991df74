"""What a pass keeps for its backward pass: with and without recomputation, against the arithmetic of `rlvr check`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from learner_reference import make_sequences
from learner_setup import config

from rlvr.learner.batch import collate, make_shard
from rlvr.learner.policy import Policy, load_policy
from rlvr.recipe.memory import Shape, rank_memory


def _pass(policy: Policy, batch: object) -> tuple[int, int, dict[str, torch.Tensor]]:
    """(bytes kept for the backward pass beside parameters, calls of a layer, gradients)."""
    parameters = {parameter.untyped_storage().data_ptr() for parameter in policy.parameters()}
    kept: dict[int, int] = {}
    calls = 0

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    def count(*arguments: object) -> None:
        nonlocal calls
        calls += 1

    handle = policy.model.model.layers[0].mlp.register_forward_pre_hook(count)
    policy.zero_grad()
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        logprobs, _ = policy(batch, 1.0)
        held = sum(kept.values())
    logprobs.sum().backward()
    handle.remove()
    gradients = {name: p.grad.clone() for name, p in policy.named_parameters() if p.grad is not None}
    return held, calls, gradients


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_recomputation_keeps_the_inputs_of_layers_and_the_same_gradients(
    make_model: Callable[..., str], dtype: str
) -> None:
    """Also: what is kept is what `rlvr check` says, to a fifth; its formula counts tensors, not what a kernel adds."""
    sequences = [replace(s, columns={}) for s in make_sequences(0)]
    shard = make_shard(sequences, [1.0] * len(sequences), [[list(range(len(sequences)))]])
    batch = collate(shard, shard.mini_batches[0][0], "cpu")
    model = make_model()
    plain = config(dtype=dtype, zero_stage=0, max_tokens_per_micro_batch=1)
    recomputing = plain.model_copy(update={"gradient_checkpointing": True})
    kept, calls, gradients = _pass(load_policy(model, plain, False), batch)
    kept_less, calls_more, same_gradients = _pass(load_policy(model, recomputing, False), batch)
    assert (calls, calls_more) == (1, 2)
    assert gradients.keys() == same_gradients.keys()
    for name, gradient in gradients.items():
        assert torch.equal(gradient, same_gradients[name]), name

    tokens = batch.input_ids.shape[1]
    shape = Shape(0, layers=2, hidden=64, intermediate=96, queries=64, keys=32, vocabulary=40)
    by_arithmetic = {name.strip(): size for name, size, _ in rank_memory(shape, plain, 1, tokens, False)}
    # The head keeps hidden states and a few numbers per token beside the layers.
    assert by_arithmetic["activations"] == pytest.approx(kept, rel=0.2)
    assert kept_less < 0.2 * kept
