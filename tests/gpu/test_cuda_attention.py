"""Packed attention on CUDA: the flash kernel takes each call, and packed equals padded equals alone, in bfloat16."""

from __future__ import annotations

import pytest
import torch

from rlvr.learner.attention import Documents, varlen_sdpa
from tests.gpu.conftest import needs

# Lengths that share calls (padded by less than a quarter) and lengths that do not.
LENGTHS = [1024, 1000, 900, 300, 290, 17, 1]


def inputs(dtype: torch.dtype, device: str = "cuda") -> tuple[torch.Tensor, ...]:
    """Grouped-query attention of 14 heads over 2, the size of Qwen2.5-0.5B's."""
    torch.manual_seed(0)
    total = sum(LENGTHS)
    shapes = [(1, 14, total, 64), (1, 2, total, 64), (1, 2, total, 64)]
    return tuple(torch.randn(shape, device=device, dtype=dtype, requires_grad=True) for shape in shapes)


def one_by_one(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """Softmax attention from its definition in float64, document by document; [1, H, N, D] -> [1, N, H, D]."""
    outputs, start = [], 0
    for length in LENGTHS:
        q, k, v = (tensor[0, :, start : start + length].double() for tensor in (query, key, value))
        k, v = (tensor.repeat_interleave(q.shape[0] // tensor.shape[0], 0) for tensor in (k, v))
        future = torch.ones(length, length, dtype=torch.bool, device=q.device).triu(1)
        scores = (q @ k.transpose(1, 2) / q.shape[-1] ** 0.5).masked_fill(future, -torch.inf)
        outputs.append((scores.softmax(-1) @ v).transpose(0, 1))
        start += length
    return torch.cat(outputs)[None]


@needs()
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.bfloat16, 3e-2)])
def test_equals_documents_alone_forward_and_backward(dtype: torch.dtype, tolerance: float) -> None:
    tensors = inputs(dtype)
    ours, _ = varlen_sdpa(torch.nn.Module(), *tensors, None, documents=Documents.of_lengths(LENGTHS, "cuda"))
    theirs = one_by_one(*tensors)
    factors = torch.randn_like(theirs)
    assert ours.dtype == dtype
    assert (ours - theirs).abs().max() < tolerance
    gradients = torch.autograd.grad((ours.double() * factors).sum(), tensors)
    expected = torch.autograd.grad((theirs * factors).sum(), tensors)
    for mine, reference in zip(gradients, expected, strict=True):
        # Relative to the largest entry: keys of early tokens collect the gradient of all later ones.
        assert (mine - reference).abs().max() < tolerance * reference.abs().max()


@needs()
def test_every_call_is_one_that_the_flash_kernel_takes() -> None:
    """A mask, or padding inside a document, would send it to a kernel with [L, L] memory; here that raises."""
    from torch.nn.attention import SDPBackend, sdpa_kernel

    tensors = inputs(torch.bfloat16)
    documents = Documents.of_lengths(LENGTHS, "cuda")
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
        flash, _ = varlen_sdpa(torch.nn.Module(), *tensors, None, documents=documents)
        flash.sum().backward()
    assert (flash - one_by_one(*tensors)).abs().max() < 2e-2


@needs()
def test_memory_grows_with_tokens_and_not_with_their_square() -> None:
    """16,384 tokens of 14 heads: one head's [N, N] scores alone would be 512 MiB in bfloat16; inputs are 36 MiB."""
    lengths = [16_384]
    query = torch.randn(1, 14, 16_384, 64, device="cuda", dtype=torch.bfloat16)
    key, value = (torch.randn(1, 2, 16_384, 64, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    varlen_sdpa(torch.nn.Module(), query, key, value, None, documents=Documents.of_lengths(lengths, "cuda"))
    assert torch.cuda.max_memory_allocated() - before < 256 << 20


@needs("flash_attn")
def test_equals_flash_attentions_own_varlen_kernel() -> None:
    from flash_attn import flash_attn_varlen_func

    tensors = inputs(torch.bfloat16)
    documents = Documents.of_lengths(LENGTHS, "cuda")
    ours, _ = varlen_sdpa(torch.nn.Module(), *tensors, None, documents=documents)
    bounds = torch.tensor(documents.cu_seqlens, dtype=torch.int32, device="cuda")
    rows = [tensor[0].transpose(0, 1) for tensor in tensors]
    theirs = flash_attn_varlen_func(*rows, bounds, bounds, max(LENGTHS), max(LENGTHS), causal=True)
    assert (ours[0] - theirs).abs().max() < 2e-2
