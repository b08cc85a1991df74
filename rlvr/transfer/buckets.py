"""Size-capped buckets of weights: planning, packing, checksums.

A bucket is one flat uint8 buffer that holds whole tensors back to back, so that one RPC moves many of them.
Checksums add the tensor's machine words modulo 2**64. They do not depend on the order of the elements, so the sum
over q, k and v equals that of an engine's fused qkv matrix, and zero padding (of a vocabulary) does not count:
what the learner sent is compared with what the engine computes with, not with what arrived on the wire.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import numpy as np
    import torch

ITEM_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
WORD_MODULUS = 1 << 64
CHECKSUM_WORDS = 1 << 20
PEFT_PREFIX = "base_model.model."  # of the names of an adapter's tensors, wherever adapters are kept

Form = Literal["weights", "base", "adapter", "peft"]
"""What of a policy travels: its weights, adapters added to them; without its adapters; the adapters alone, as an engine
applies them (their scaling in B); the adapters as peft writes them."""


@dataclass(frozen=True, slots=True)
class Bucket:
    """Which tensors travel together: names and full shapes, the dtype they travel in, what they are of the policy."""

    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    dtype: str
    form: Form = "weights"

    @property
    def num_bytes(self) -> int:
        return sum(map(math.prod, self.shapes)) * ITEM_BYTES[self.dtype]


def plan_buckets(
    specs: Iterable[tuple[str, tuple[int, ...]]], dtype: str, cap_bytes: int, form: Form = "weights"
) -> list[Bucket]:
    """Cuts (name, shape) in their order into buckets of at most cap_bytes; a larger tensor gets one of its own."""
    shapes = {name: tuple(shape) for name, shape in specs}
    sizes = {name: math.prod(shape) * ITEM_BYTES[dtype] for name, shape in shapes.items()}
    return [Bucket(names, tuple(shapes[name] for name in names), dtype, form) for names in cut(sizes, cap_bytes)]


def cut(sizes: Mapping[str, int], cap: int) -> list[tuple[str, ...]]:
    """The names in their order, as many together as have at most `cap`; one that has more stands alone."""
    portions: list[tuple[str, ...]] = []
    pending: list[str] = []
    held = 0
    for name, size in sizes.items():
        if pending and held + size > cap:
            portions.append(tuple(pending))
            pending, held = [], 0
        pending.append(name)
        held += size
    return [*portions, tuple(pending)] if pending else portions


def pack(bucket: Bucket, tensors: Mapping[str, torch.Tensor]) -> np.ndarray:
    """Casts the bucket's tensors to its dtype and lays them out in one uint8 array."""
    import numpy as np

    buffer = np.empty(bucket.num_bytes, dtype=np.uint8)
    for name, view in unpack(bucket, buffer):
        view.copy_(tensors[name].detach())
    return buffer


def unpack(bucket: Bucket, buffer: np.ndarray) -> list[tuple[str, torch.Tensor]]:
    """(name, tensor) views into the buffer; nothing is copied."""
    import torch

    assert buffer.nbytes == bucket.num_bytes, f"buffer of {buffer.nbytes} bytes for a bucket of {bucket.num_bytes}"
    with warnings.catch_warnings():
        # Ray hands out read-only arrays; the views of those are only ever read.
        warnings.filterwarnings("ignore", message=".*not writable.*")
        flat = torch.from_numpy(buffer)
    views, offset = [], 0
    for name, shape in zip(bucket.names, bucket.shapes, strict=True):
        num_bytes = math.prod(shape) * ITEM_BYTES[bucket.dtype]
        views.append((name, flat[offset : offset + num_bytes].view(getattr(torch, bucket.dtype)).view(shape)))
        offset += num_bytes
    return views


def checksum(tensor: torch.Tensor) -> int:
    """Sum of the tensor's elements read as integers of their own width, modulo 2**64."""
    import torch

    word = torch.int32 if tensor.element_size() == 4 else torch.int16
    # A CPU widens all that it sums at once to int64: in pieces that is no second and third copy of the tensor.
    pieces = tensor.detach().contiguous().view(word).flatten().split(CHECKSUM_WORDS)
    return int(torch.stack([piece.sum(dtype=torch.int64) for piece in pieces]).sum().item()) % WORD_MODULUS


def checksums(named: Iterable[tuple[str, torch.Tensor]]) -> dict[str, int]:
    """Checksum of each tensor by name."""
    return {name: checksum(tensor) for name, tensor in named}


def fused_name(name: str, packed_modules: Mapping[str, list[str]]) -> str:
    """The engine's name of a Hugging Face parameter: model.q_proj.weight -> model.qkv_proj.weight."""
    parts = name.split(".")
    for fused, members in packed_modules.items():
        for index, part in enumerate(parts):
            if part in members:
                return ".".join([*parts[:index], fused, *parts[index + 1 :]])
    return name


def mismatches(
    sent: Mapping[str, int], held: Iterable[Mapping[str, int]], packed_modules: Mapping[str, list[str]]
) -> list[str]:
    """Names of engine tensors whose words differ from what was sent.

    `held` has one mapping per tensor-parallel rank: a sharded tensor matches by its sum over the ranks, a replicated
    one by being equal on each.
    """
    expected: dict[str, int] = {}
    for name, value in sent.items():
        fused = fused_name(name, packed_modules)
        expected[fused] = (expected.get(fused, 0) + value) % WORD_MODULUS
    ranks = list(held)
    wrong = []
    for name, value in expected.items():
        parts = [rank.get(name) for rank in ranks]
        present = [part for part in parts if part is not None]
        replicated = bool(present) and all(part == value for part in present)
        if not replicated and (len(present) != len(ranks) or sum(present) % WORD_MODULUS != value):
            wrong.append(name)
    return wrong
