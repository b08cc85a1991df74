"""Buckets cut, packed and verified."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rlvr.transfer.buckets import Bucket, checksum, fused_name, mismatches, pack, plan_buckets, unpack

PACKED = {"qkv_proj": ["q_proj", "k_proj", "v_proj"], "gate_up_proj": ["gate_proj", "up_proj"]}


@given(st.lists(st.integers(1, 50), min_size=1, max_size=20), st.integers(1, 200))
def test_buckets_keep_the_order_and_the_cap(sizes: list[int], cap_items: int) -> None:
    """R21: no bucket exceeds the cap, but for one that holds a single larger tensor."""
    specs = [(f"t{i}", (size,)) for i, size in enumerate(sizes)]
    buckets = plan_buckets(specs, "float32", cap_bytes=4 * cap_items)
    assert [name for bucket in buckets for name in bucket.names] == [name for name, _ in specs]
    for bucket in buckets:
        assert bucket.num_bytes <= 4 * cap_items or len(bucket.names) == 1


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_unpack_returns_what_was_packed(dtype: str) -> None:
    tensors = {"a": torch.randn(3, 5), "b": torch.randn(7), "c": torch.randn(2, 2, 2)}
    bucket = Bucket(("a", "b", "c"), ((3, 5), (7,), (2, 2, 2)), dtype)
    buffer = pack(bucket, tensors)
    assert buffer.dtype == np.uint8
    assert buffer.nbytes == (15 + 7 + 8) * (4 if dtype == "float32" else 2)
    for name, view in unpack(bucket, buffer):
        assert torch.equal(view, tensors[name].to(getattr(torch, dtype)))


def test_checksum_is_the_sum_of_the_words() -> None:
    # 1.0 is 0x3F800000 = 1065353216 and 2.0 is 0x40000000 = 1073741824; their sum is 2139095040. Zeros add nothing.
    assert checksum(torch.tensor([1.0, 2.0, 0.0])) == 2139095040
    # In bfloat16: 0x3F80 = 16256 and 0x4000 = 16384.
    assert checksum(torch.tensor([1.0, 2.0], dtype=torch.bfloat16)) == 32640


def test_checksum_sees_one_changed_bit() -> None:
    weights = torch.randn(64, 64)
    changed = weights.clone()
    changed.view(torch.int32)[17, 3] ^= 1
    assert checksum(changed) != checksum(weights)


def test_a_fused_and_padded_matrix_matches_its_parts() -> None:
    q, k, v = torch.randn(8, 4), torch.randn(4, 4), torch.randn(4, 4)
    embedding = torch.randn(10, 4)
    sent = {f"layer.{n}_proj.weight": checksum(t) for n, t in (("q", q), ("k", k), ("v", v))}
    sent["embed.weight"] = checksum(embedding)
    held = {
        "layer.qkv_proj.weight": checksum(torch.cat([q, k, v])),
        "embed.weight": checksum(torch.cat([embedding, torch.zeros(6, 4)])),
    }
    assert mismatches(sent, [held], PACKED) == []
    held["layer.qkv_proj.weight"] = checksum(torch.cat([q, k, v + 1e-6]))
    assert mismatches(sent, [held], PACKED) == ["layer.qkv_proj.weight"]


def test_tensor_parallel_ranks_match_by_sum_or_by_being_equal() -> None:
    weight, norm = torch.randn(8, 4), torch.randn(4)
    sent = {"mlp.weight": checksum(weight), "norm.weight": checksum(norm)}
    ranks = [{"mlp.weight": checksum(weight[half]), "norm.weight": checksum(norm)} for half in (slice(4), slice(4, 8))]
    assert mismatches(sent, ranks, PACKED) == []
    ranks[1]["norm.weight"] += 1
    assert mismatches(sent, ranks, PACKED) == ["norm.weight"]


def test_a_tensor_that_the_engine_lacks_is_a_mismatch() -> None:
    assert mismatches({"a": 1}, [{}], {}) == ["a"]


def test_fused_names() -> None:
    assert fused_name("model.layers.0.self_attn.k_proj.bias", PACKED) == "model.layers.0.self_attn.qkv_proj.bias"
    assert fused_name("model.layers.0.mlp.down_proj.weight", PACKED) == "model.layers.0.mlp.down_proj.weight"
