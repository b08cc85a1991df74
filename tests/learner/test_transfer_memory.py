"""What gathering weights for a transfer costs in memory under ZeRO-3."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import torch
from learner_setup import VOCABULARY, config, inside

from rlvr.cluster.memory import family_peaks
from rlvr.learner.group import LearnerGroup
from rlvr.transfer.buckets import Bucket, plan_buckets

MB = 1 << 20


def _peak_of_gathering(worker: Any, buckets: list[Bucket]) -> int:
    """Bytes that a rank held at most beyond what it held before, while each bucket was gathered and let go."""
    own = os.getpid()
    worker.gather_bucket(buckets[0])
    family_peaks([own])
    before = family_peaks([own])[own]
    for bucket in buckets:
        worker.gather_bucket(bucket)
    return family_peaks([own])[own] - before


def test_a_gathered_model_is_never_whole(groups: Callable[[int], LearnerGroup], tmp_path_factory: Any) -> None:
    """R21: beyond its share a rank holds a bucket of at most the cap or the largest tensor, as parameters and packed.

    64 MiB of weights, of which no tensor has more than 4, in buckets of 2: the whole model would be 32 MiB more.
    """
    from transformers import Qwen2Config, Qwen2ForCausalLM

    model = Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=VOCABULARY,
            hidden_size=512,
            intermediate_size=2048,
            num_hidden_layers=4,
            num_attention_heads=8,
            num_key_value_heads=8,
            tie_word_embeddings=True,
        )
    )
    directory = tmp_path_factory.mktemp("larger")
    with torch.no_grad():
        model.save_pretrained(directory)
    group = groups(2)
    group.setup(directory, config(zero_stage=3), 1, 0, reference=False)
    specs = group.parameter_specs()
    whole = 4 * sum(torch.Size(shape).numel() for _, shape in specs)
    largest = 4 * max(torch.Size(shape).numel() for _, shape in specs)
    cap = 2 * MB
    assert whole > 60 * MB
    buckets = plan_buckets(specs, "float32", cap)
    assert len(buckets) > 20
    for peak in inside(group, _peak_of_gathering, buckets):
        # Twice, once gathered and once packed, and what the collective itself and malloc take on the way.
        assert peak < 2 * (cap + largest) + 4 * MB, f"{peak / MB:.1f} MiB"
