"""Attention over packed sequences without flash-attn: one causal SDPA for documents of similar length.

Legend: N = tokens of the packed row, H = heads, D = head size, n = documents of a bucket, L = longest of them.

Documents in a bucket are padded on the right to L. Under a causal mask a token never looks to its right, so padding
changes no real token and needs no mask; the outputs at padding are never read. No [N, N] mask exists anywhere.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from rlvr.errors import RecipeError

MAX_PADDING = 0.25  # share of padded positions that a bucket may have over its real ones


@dataclass(frozen=True, slots=True)
class Bucket:
    """Documents that share one SDPA call: tokens start:end of the row, `shape` (n, L).

    `gather` [n * L] indexes the tokens start:end (padding repeats the document's first token), `restore` [end - start]
    indexes the n * L outputs; both are None where all documents have length L.
    """

    start: int
    end: int
    shape: tuple[int, int]
    gather: Tensor | None
    restore: Tensor | None


@dataclass(frozen=True, slots=True)
class Documents:
    """Where each document of a packed row stands. `cu_seqlens` are the boundaries: 0, then the end of each."""

    cu_seqlens: tuple[int, ...]
    buckets: tuple[Bucket, ...]

    @staticmethod
    def of_lengths(lengths: Sequence[int], device: torch.device | str) -> Documents:
        """Groups neighbours of similar length; the fewest calls come of lengths that are sorted."""
        cu_seqlens = [0]
        for length in lengths:
            cu_seqlens.append(cu_seqlens[-1] + length)
        buckets, first = [], 0
        while first < len(lengths):
            last, longest, total = first, 0, 0
            while last < len(lengths):
                longest_with, total_with = max(longest, lengths[last]), total + lengths[last]
                if (last + 1 - first) * longest_with > (1 + MAX_PADDING) * total_with:
                    break
                longest, total, last = longest_with, total_with, last + 1
            buckets.append(_bucket(lengths[first:last], cu_seqlens[first], device))
            first = last
        return Documents(tuple(cu_seqlens), tuple(buckets))


def _bucket(lengths: Sequence[int], start: int, device: torch.device | str) -> Bucket:
    count, longest, total = len(lengths), max(lengths), sum(lengths)
    if count * longest == total:
        return Bucket(start, start + total, (count, longest), None, None)
    sizes = torch.tensor(lengths)
    first = torch.cumsum(sizes, 0) - sizes
    offsets = torch.arange(longest)
    real = offsets < sizes[:, None]
    gather = torch.where(real, first[:, None] + offsets, first[:, None])
    restore = torch.arange(count * longest).view(count, longest)[real]
    return Bucket(start, start + total, (count, longest), gather.flatten().to(device), restore.to(device))


def varlen_sdpa(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    documents: Documents | None = None,
    sliding_window: int | None = None,
    sequence: Any = None,
    **unused: Any,
) -> tuple[Tensor, None]:
    """transformers' attention interface: query [1, H, N, D], key and value [1, H_kv, N, D] -> [1, N, H, D].

    Without `documents` the row is one document. With a `sequence` group (`rlvr.learner.sequence_parallel`) N counts
    this rank's tokens, and documents are those of the whole row. Raises NotImplementedError for what it would get
    wrong.
    """
    assert attention_mask is None, "packed rows have no mask"
    assert query.shape[0] == 1, f"packed rows are alone in their batch: {query.shape}"
    for name in ("softcap", "s_aux"):
        if unused.get(name) is not None:
            raise NotImplementedError(f"learner.attention='varlen_sdpa': the model uses {name}; choose 'sdpa'")
    if sequence is not None:
        query, key, value = (sequence.to_heads(tensor) for tensor in (query, key, value))
    documents = documents or Documents.of_lengths([query.shape[2]], query.device)
    rows = [tensor[0].transpose(0, 1) for tensor in (query, key, value)]  # [N, H, D]
    outputs = []
    for bucket in documents.buckets:
        queries, keys, values = (_batched(row[bucket.start : bucket.end], bucket) for row in rows)
        window = _window(bucket.shape[1], sliding_window, query.device)
        output = F.scaled_dot_product_attention(
            queries,
            keys,
            values,
            attn_mask=window,
            is_causal=window is None,
            scale=scaling,
            dropout_p=dropout,
            enable_gqa=query.shape[1] != key.shape[1],
        )
        flat = output.transpose(1, 2).flatten(0, 1)  # [n * L, H, D]
        outputs.append(flat if bucket.restore is None else flat.index_select(0, bucket.restore))
    whole = (torch.cat(outputs) if len(outputs) > 1 else outputs[0])[None].contiguous()
    return whole if sequence is None else sequence.to_tokens(whole), None


def _batched(row: Tensor, bucket: Bucket) -> Tensor:
    """[end - start, H, D] -> [n, H, L, D]."""
    if bucket.gather is not None:
        row = row.index_select(0, bucket.gather)
    return row.unflatten(0, bucket.shape).transpose(1, 2)


def _window(length: int, sliding_window: int | None, device: torch.device) -> Tensor | None:
    """[L, L], True where a token may look, for documents longer than the window; None: plain causal."""
    if sliding_window is None or length <= sliding_window:
        return None
    distance = torch.arange(length, device=device)[:, None] - torch.arange(length, device=device)
    return (distance >= 0) & (distance < sliding_window)


def implementation(name: str) -> str:
    """The `attn_implementation` for transformers behind the recipe's choice; registers ours.

    With `sdpa` and `flash_attention_2` transformers itself finds the documents from position_ids that restart.
    """
    if name == "varlen_sdpa":
        from transformers import AttentionInterface
        from transformers.masking_utils import AttentionMaskInterface

        AttentionInterface.register(name, varlen_sdpa)
        AttentionMaskInterface.register(name, _no_mask)
    elif name == "flash_attention_2" and importlib.util.find_spec("flash_attn") is None:
        raise RecipeError(
            "learner.attention='flash_attention_2': the package flash-attn is not installed; install it, "
            "or choose 'varlen_sdpa', which needs nothing"
        )
    return name


def _no_mask(*arguments: Any, **options: Any) -> None:
    """Documents carry the structure; a mask would only cost memory."""
