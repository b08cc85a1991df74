"""Chunked logprobs on CUDA at a real vocabulary: values, gradients and memory against the full logits."""

from __future__ import annotations

import pytest
import torch

from rlvr.learner.logprobs import chunked_logprobs
from tests.gpu.conftest import needs

VOCABULARY, HIDDEN, TOKENS, CHUNK = 151_936, 896, 1024, 64


def case(dtype: torch.dtype, tokens: int = TOKENS) -> tuple[torch.Tensor, ...]:
    torch.manual_seed(0)
    hidden = torch.randn(tokens, HIDDEN, device="cuda").to(dtype).requires_grad_()
    weight = (torch.randn(VOCABULARY, HIDDEN, device="cuda") * HIDDEN**-0.5).to(dtype).requires_grad_()
    return hidden, weight, torch.randint(0, VOCABULARY, (tokens,), device="cuda")


def full(
    hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor, temperature: float
) -> tuple[torch.Tensor, ...]:
    distribution = (torch.nn.functional.linear(hidden, weight).float() / temperature).log_softmax(-1)
    return distribution.gather(-1, targets[:, None])[:, 0], -(distribution.exp() * distribution).sum(-1)


@needs()
@pytest.mark.parametrize(
    ("dtype", "values", "gradients"),
    # bfloat16 resolves logits between 2 and 4 to 0.016, here over the temperature; either side may round either way.
    [(torch.float32, 1e-4, 1e-4), (torch.bfloat16, 5e-2, 3e-2)],
)
def test_equal_to_full_logits_with_gradients(dtype: torch.dtype, values: float, gradients: float) -> None:
    hidden, weight, targets = case(dtype)
    factors = torch.randn(2, TOKENS, device="cuda")

    def both(results: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        return torch.autograd.grad((torch.stack(list(results)) * factors).sum(), (hidden, weight))

    ours = chunked_logprobs(hidden, weight, None, targets, 0.7, CHUNK)
    ours_gradients = both(ours)
    theirs = full(hidden, weight, targets, 0.7)
    for mine, reference in zip(ours, theirs, strict=True):
        assert mine.dtype == torch.float32
        assert (mine - reference).abs().max() < values
    for mine, reference in zip(ours_gradients, both(theirs), strict=True):
        assert mine.dtype == dtype
        assert (mine - reference).abs().max() < gradients * reference.abs().max()


@needs()
def test_at_most_an_eighth_of_the_memory_of_full_logits() -> None:
    """R21. Chunks of 64 among 1,024 tokens hold a sixteenth of the logits at a time."""

    def peak(side: object) -> int:
        hidden, weight, targets = case(torch.float32)
        weight.requires_grad_(False)  # its gradient is the same on both sides, and no activation
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        logprobs, entropies = side(hidden, weight, targets)  # type: ignore[operator]
        (logprobs.sum() + entropies.sum()).backward()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before

    ours = peak(lambda hidden, weight, targets: chunked_logprobs(hidden, weight, None, targets, 1.0, CHUNK))
    theirs = peak(lambda hidden, weight, targets: full(hidden, weight, targets, 1.0))
    assert ours <= theirs / 8, f"{ours / 2**20:.0f} MiB against {theirs / 2**20:.0f} MiB"


@needs()
def test_gradients_do_not_depend_on_the_chunk() -> None:
    hidden, weight, targets = case(torch.float32, tokens=128)
    results = [
        torch.autograd.grad(chunked_logprobs(hidden, weight, None, targets, 1.0, chunk)[0].sum(), (hidden, weight))
        for chunk in (1, 128)
    ]
    for narrow, wide in zip(*results, strict=True):
        assert (narrow - wide).abs().max() < 1e-5 * wide.abs().max()
