"""Rules of what saves memory: ZeRO stages, offload, 8-bit optimizers, sequence parallelism."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rlvr.recipe.schema import LearnerConfig, ModelConfig, ResourcesConfig

Fault = tuple[tuple[str, ...], object, str]


def memory_faults(learner: LearnerConfig, resources: ResourcesConfig, model: ModelConfig) -> Iterator[Fault]:
    """(key under `learner`, value, fault with its remedy)."""
    stage, offload, kind = learner.zero_stage, learner.offload, learner.optimizer.kind
    if offload == "parameters" and stage != 3:
        yield ("offload",), offload, "only ZeRO 3 shards parameters; set learner.zero_stage=3"
    if offload == "optimizer" and stage == 0:
        yield ("offload",), offload, "needs learner.zero_stage 1, 2 or 3"
    if kind != "adamw":
        if offload != "none":
            text = f"its kernels work on the GPU, and learner.offload={offload} steps on the CPU; choose one of the two"
            yield ("optimizer", "kind"), kind, text
        if stage not in (1, 2):
            text = f"works with learner.zero_stage 1 and 2, and it is {stage}; set learner.zero_stage=2"
            yield ("optimizer", "kind"), kind, text
    yield from _sequence(learner, resources, model)


def _sequence(learner: LearnerConfig, resources: ResourcesConfig, model: ModelConfig) -> Iterator[Fault]:
    size, ranks = learner.sequence_parallel, resources.learners.count
    if size == 1:
        return
    heads = heads_of(model)
    shared = math.gcd(ranks, *heads) if heads else ranks
    feasible = [str(d) for d in range(1, shared + 1) if shared % d == 0]
    if ranks % size or any(count % size for count in heads or ()):
        has = f", {heads[0]} heads and {heads[1]} key/value heads" if heads else ""
        text = f"must divide what its ranks share: {ranks} learner ranks{has}; feasible here: {', '.join(feasible)}"
        yield ("sequence_parallel",), size, text
    if learner.attention != "varlen_sdpa":
        text = f"needs learner.attention=varlen_sdpa, which exchanges heads for tokens; {learner.attention} does not"
        yield ("sequence_parallel",), size, text


def heads_of(model: ModelConfig) -> tuple[int, int] | None:
    """(attention heads, key/value heads) where the recipe or a local directory says so."""
    if model.init is not None:
        return model.init.num_heads, model.init.num_kv_heads
    config = model_config(model)
    heads = config.get("num_attention_heads")
    return (heads, config.get("num_key_value_heads") or heads) if heads else None


def model_config(model: ModelConfig) -> dict[str, Any]:
    """config.json of a local model, its text part where it has several; empty for a hub id."""
    file = Path(model.path or "") / "config.json"
    if model.path is None or not file.is_file():
        return {}
    config: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return config | config.get("text_config", {})
