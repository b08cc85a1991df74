"""Packed attention: equal to each document alone, whatever its neighbours."""

from __future__ import annotations

import pytest
import torch

from rlvr.errors import RecipeError
from rlvr.learner.attention import Documents, implementation, varlen_sdpa


def one_by_one(query, key, value, lengths, window=None):  # type: ignore[no-untyped-def]
    """Softmax attention from its definition, document by document; [1, H, N, D] -> [1, N, H, D]."""
    outputs, start = [], 0
    for length in lengths:
        q, k, v = (t[0, :, start : start + length] for t in (query, key, value))
        k, v = (t.repeat_interleave(q.shape[0] // t.shape[0], 0) for t in (k, v))
        distance = torch.arange(length)[:, None] - torch.arange(length)
        hidden = (distance < 0) | (distance >= (window or length))
        scores = (q @ k.transpose(1, 2) / q.shape[-1] ** 0.5).masked_fill(hidden, -torch.inf)
        outputs.append((scores.softmax(-1) @ v).transpose(0, 1))
        start += length
    return torch.cat(outputs)[None]


@pytest.mark.parametrize("lengths", [[5], [5, 5, 5], [9, 8, 8, 3, 1], [1, 30, 2, 29]])
@pytest.mark.parametrize("window", [None, 4])
def test_equals_documents_alone(lengths: list[int], window: int | None) -> None:
    torch.manual_seed(0)
    query = torch.randn(1, 4, sum(lengths), 8, dtype=torch.float64, requires_grad=True)
    key, value = (torch.randn(1, 2, sum(lengths), 8, dtype=torch.float64, requires_grad=True) for _ in range(2))
    documents = Documents.of_lengths(lengths, "cpu")
    ours, _ = varlen_sdpa(torch.nn.Module(), query, key, value, None, documents=documents, sliding_window=window)
    theirs = one_by_one(query, key, value, lengths, window)
    torch.testing.assert_close(ours, theirs)
    factors = torch.randn_like(ours)
    torch.testing.assert_close(
        torch.autograd.grad((ours * factors).sum(), (query, key, value)),
        torch.autograd.grad((theirs * factors).sum(), (query, key, value)),
    )


def test_similar_lengths_share_a_call() -> None:
    """10, 9, 9 padded to 30 for 28 tokens: within a quarter. Adding the 2 would make 40 for 30: a new bucket."""
    documents = Documents.of_lengths([10, 9, 9, 2], "cpu")
    assert documents.cu_seqlens == (0, 10, 19, 28, 30)
    assert [bucket.shape for bucket in documents.buckets] == [(3, 10), (1, 2)]


def test_missing_flash_attention_is_a_recipe_error() -> None:
    with pytest.raises(RecipeError, match=r"learner\.attention='flash_attention_2'.*varlen_sdpa"):
        implementation("flash_attention_2")
