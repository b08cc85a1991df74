"""What a learner rank will hold: parameters, gradients, optimizer state and activations, by arithmetic alone.

Legend: P = parameters, R = learner ranks, N = tokens of a micro-batch, L = layers, d = hidden size, V = vocabulary,
b = bytes of a number of `learner.dtype`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlvr.recipe.memory_rules import model_config
from rlvr.recipe.objective import needs_reference
from rlvr.recipe.schema import InitConfig, LearnerConfig, ModelConfig, Recipe, RlStage, SftStage

GIB = 1 << 30
CHARACTERS = 128  # words of a character tokenizer whose alphabet comes from the tasks, about


@dataclass(frozen=True, slots=True)
class Shape:
    """Of a dense decoder. `intermediate` is the width of its MLP, `queries` and `keys` those of its projections."""

    parameters: int
    layers: int
    hidden: int
    intermediate: int
    queries: int
    keys: int
    vocabulary: int


def shape_of(model: ModelConfig) -> Shape | None:
    """From `model.init`, or from a local directory's config.json and the headers of its weights; None if unknown."""
    if model.init is not None:
        return _of_init(model.init)
    config, parameters = model_config(model), _count(Path(model.path or ""))
    try:
        heads, hidden = config["num_attention_heads"], config["hidden_size"]
        size = config.get("head_dim") or hidden // heads
        keys = (config.get("num_key_value_heads") or heads) * size
        layers, width = config["num_hidden_layers"], config["intermediate_size"]
        return (
            Shape(parameters, layers, hidden, width, heads * size, keys, config["vocab_size"]) if parameters else None
        )
    except (KeyError, TypeError):
        return None


def memory_rows(recipe: Recipe, stage: SftStage | RlStage) -> list[tuple[str, str, str]]:
    """Rows of (quantity, GiB of a rank, how); none for a model whose size is not known here, or under LoRA."""
    shape, learner = shape_of(recipe.model), stage.learner
    if shape is None or learner.lora is not None:
        return []
    reference = isinstance(stage, RlStage) and needs_reference(stage.objective)
    ranks = recipe.resources.learners.count
    rows = rank_memory(shape, learner, ranks, _tokens(stage, ranks), reference)
    total = sum(size for _, size, _ in rows)
    rows.append(("memory of a learner rank", total, "the sum, about; without what torch and the driver take"))
    return [(name, _written(size), how) for name, size, how in rows]


def _tokens(stage: SftStage | RlStage, ranks: int) -> int:
    """Of the fullest micro-batch of a group of ranks that share sequences; a single turn for each rollout."""
    learner, rollout = stage.learner, stage.rollout
    longest = rollout.max_prompt_tokens + rollout.max_completion_tokens
    if not learner.packing:
        return longest
    if isinstance(stage, RlStage):
        sequences = rollout.prompts_per_step * rollout.group_size // learner.mini_batches
    else:
        sequences = stage.batch_size
    of_rank = -(-sequences * learner.sequence_parallel // ranks) * longest
    return max(longest, min(learner.max_tokens_per_micro_batch, of_rank))


def _written(size: float) -> str:
    return f"{size / GIB:,.2f} GiB" if size >= GIB / 2 else f"{size / (1 << 20):,.1f} MiB"


def rank_memory(
    shape: Shape, learner: LearnerConfig, ranks: int, tokens: int, reference: bool
) -> list[tuple[str, float, str]]:
    """(what, bytes on the device of a rank, how) for the weights, gradients, optimizer, reference and activations.

    tokens: of a micro-batch, over all ranks that share it.
    """
    stage, count, width = learner.zero_stage, shape.parameters, 4 if learner.dtype == "float32" else 2
    share = {name: ranks if stage >= least else 1 for name, least in (("weights", 3), ("gradients", 2), ("moments", 1))}
    of = {name: f" / {number} ranks" if number > 1 else "" for name, number in share.items()}
    # From stage 2 on, micro-batches add up in float32.
    summed = 4 if stage >= 2 else width
    # DeepSpeed keeps float32 masters of bfloat16 weights, and from stage 1 on a partitioned copy of float32 ones.
    masters = 4 if stage or width == 2 else 0
    moments = 8 if learner.optimizer.kind == "adamw" else 2
    on_host = "0: on the host"
    parameters_here = learner.offload != "parameters"
    optimizer_here = learner.offload == "none"
    rows: list[tuple[str, float, str]] = [
        (
            "  weights",
            count * width / share["weights"] * parameters_here,
            f"{count:,} parameters x {width} bytes{of['weights']}" if parameters_here else on_host,
        ),
        ("  gradients", count * summed / share["gradients"], f"x {summed} bytes{of['gradients']}"),
        (
            "  optimizer",
            count * (masters + moments) / share["moments"] * optimizer_here,
            f"x ({masters} masters + {moments} moments) bytes{of['moments']}" if optimizer_here else on_host,
        ),
    ]
    if reference:
        here = not learner.offload_reference and parameters_here
        held = count * width / share["weights"] * here
        rows.append(("  reference policy", held, f"as the weights: {width} bytes{of['weights']}" if here else on_host))
    tokens = -(-tokens // learner.sequence_parallel)
    activations, how = _activations(shape, learner, width)
    rows.append(("  activations", tokens * activations, f"{tokens:,} tokens x {activations:,} bytes: {how}"))
    chunk = 2 * learner.logprob_chunk_tokens * shape.vocabulary * 4
    rows.append(
        ("  logits", chunk, f"2 x {learner.logprob_chunk_tokens} tokens x {shape.vocabulary:,} words x 4 bytes")
    )
    return rows


def _activations(shape: Shape, learner: LearnerConfig, width: int) -> tuple[int, str]:
    """(bytes per token kept for the backward pass, how).

    A block of transformers' Llama and Qwen keeps, of d: both norms' inputs, normalised values and outputs, the two
    residual sums; of the projections: queries and keys before and after the rotation, values, the attention's output;
    of the MLP: gate, its activation, up and their product. Norms compute in float32.
    """
    d, q, k, ff = shape.hidden, shape.queries, shape.keys, shape.intermediate
    block = 2 * d * (4 + 2 * width) + width * (3 * q + 3 * k + 4 * ff)
    if learner.gradient_checkpointing:
        return shape.layers * d * width + block, "the input of each layer, and one layer that is recomputed"
    return shape.layers * block, f"{shape.layers} layers"


def _of_init(init: InitConfig) -> Shape:
    d, ff, size = init.hidden_size, init.intermediate_size, init.hidden_size // init.num_heads
    keys = init.num_kv_heads * size
    block = 2 * d * d + 2 * d * keys + 3 * d * ff + 2 * d
    words = len(init.tokenizer.characters or "") or CHARACTERS
    parameters = init.num_layers * block + words * d * (1 if init.tie_word_embeddings else 2) + d
    return Shape(parameters, init.num_layers, d, ff, d, keys, words)


def _count(directory: Path) -> int:
    """Parameters in the safetensors files of a directory, from their headers; 0 where there are none."""
    return sum(
        math.prod(tensor["shape"])
        for file in sorted(directory.glob("*.safetensors"))
        for name, tensor in _header(file).items()
        if name != "__metadata__"
    )


def _header(file: Path) -> Mapping[str, Any]:
    with file.open("rb") as stream:
        header: dict[str, Any] = json.loads(stream.read(int.from_bytes(stream.read(8), "little")))
    return header
