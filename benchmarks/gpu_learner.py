"""The learner's pass on one device, without DeepSpeed: tokens per second and model FLOPs utilisation.

FLOPs of the model, recomputation not counted. With d = width, f = width of the MLP, k = width of all keys of a token,
L layers, V words, a token in a sequence of T costs, forward,

    L (2 (2 d^2 + 2 d k + 3 d f) + 2 d T)        and a loss token another 2 d V in the head:

two per multiply-add in the matrix products; attention takes 2 d products of q with k and as many of the weights with v
over T / 2 tokens on average, causal. Backward is twice that, so three times the forward in all.
"""

from __future__ import annotations

import gc
import statistics
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from gpu_device import Bench, Row, spread

CHARACTERS = "0123456789+=, \\boxed{}"
CLIP = (0.2, 0.28)


@dataclass(frozen=True, slots=True)
class Size:
    """A Qwen2 and what it is measured on. Lengths are in tokens."""

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    intermediate: int
    vocabulary: int
    longest: int  # longest sequence of the learner's batch
    num_sequences: int
    max_tokens: int  # of a micro-batch
    chunk_tokens: int
    prompts: int
    group_size: int
    completion_tokens: int
    loss_tokens: int  # of the comparison with full logits
    loss_vocabulary: int
    loss_chunk: int

    @property
    def parameters(self) -> int:
        keys = self.kv_heads * (self.hidden // self.heads)
        layer = 2 * self.hidden**2 + 2 * self.hidden * keys + 3 * self.hidden * self.intermediate
        biases_and_norms = self.hidden + 2 * keys + 2 * self.hidden
        return self.vocabulary * self.hidden + self.layers * (layer + biases_and_norms) + self.hidden


SIZES = {
    # The shape of Qwen2.5-0.5B, its vocabulary included.
    "0.5b": Size(896, 24, 14, 2, 4864, 151_936, 2048, 64, 16_384, 1024, 16, 8, 128, 4096, 151_936, 256),
    "tiny": Size(64, 2, 2, 1, 128, 512, 48, 8, 128, 64, 2, 2, 6, 1024, 16_384, 64),
}


def max_tokens(bench: Bench) -> int:
    """Of a micro-batch: without recomputation 16k tokens of the 0.5b shape keep about 35 GB of activations."""
    limit = SIZES[bench.size].max_tokens
    if bench.cuda and torch.cuda.get_device_properties(0).total_memory < 64 << 30:
        return min(limit, 4096)
    return limit


def build_model(bench: Bench) -> Path:
    """A directory with a random Qwen2 of the chosen size and a tokenizer of the addition task's characters."""
    directory = bench.scratch / "model"
    if (directory / "config.json").is_file():
        return directory
    from transformers import Qwen2Config, Qwen2ForCausalLM
    from transformers.utils.logging import disable_progress_bar

    from rlvr.models.tokenizer import build_character_tokenizer

    disable_progress_bar()
    size = SIZES[bench.size]
    tokenizer = build_character_tokenizer(CHARACTERS, directory)
    config = Qwen2Config(
        vocab_size=size.vocabulary,
        hidden_size=size.hidden,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        num_key_value_heads=size.kv_heads,
        intermediate_size=size.intermediate,
        max_position_embeddings=4096,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
    )
    torch.manual_seed(0)
    with torch.device(bench.device):
        model = Qwen2ForCausalLM(config).to(torch.bfloat16)
    model.cpu().save_pretrained(directory)
    return directory


def load_policy(bench: Bench, checkpointing: bool = False) -> Any:
    """The policy as a learner rank computes with it: packed attention, chunked logprobs, bfloat16."""
    from transformers import AutoModelForCausalLM

    from rlvr.learner.attention import implementation
    from rlvr.learner.logprobs import LogprobHead
    from rlvr.learner.policy import Policy

    model = AutoModelForCausalLM.from_pretrained(
        build_model(bench), dtype=torch.bfloat16, attn_implementation=implementation("varlen_sdpa")
    ).to(bench.device)
    model.get_output_embeddings().__class__ = LogprobHead
    if checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
        model.train()
    return Policy(model, "varlen_sdpa", SIZES[bench.size].chunk_tokens)


def make_batches(bench: Bench) -> list[Any]:
    """Packed micro-batches of sequences between a quarter of the longest and the longest; half of each is prompt."""
    import numpy as np

    from rlvr.learner.batch import TrainSequence

    size, rng = SIZES[bench.size], np.random.default_rng(0)
    sequences = []
    for number in range(size.num_sequences):
        length = int(rng.integers(size.longest // 4, size.longest + 1))
        mask = np.arange(length) >= length // 2
        advantage = np.full(length, rng.normal())
        tokens = rng.integers(0, size.vocabulary, length)
        sequences.append(TrainSequence(tokens, mask, np.full(length, -10.0), advantage, number))
    return packed(bench, sequences)


def packed(bench: Bench, sequences: list[Any]) -> list[Any]:
    """The micro-batches of one optimizer step on the mean over all loss tokens."""
    from rlvr.learner.batch import collate, make_shard
    from rlvr.learner.packing import pack

    weight = 1.0 / sum(sequence.num_loss_tokens for sequence in sequences)
    lengths = {number: len(sequence.token_ids) - 1 for number, sequence in enumerate(sequences)}
    shard = make_shard(sequences, [weight] * len(sequences), [pack(list(lengths), lengths, max_tokens(bench))])
    return [collate(shard, rows, bench.device) for rows in shard.mini_batches[0]]


def backward(policy: Any, batches: list[Any]) -> float:
    """Forward and backward of a clipped policy loss over all micro-batches; the loss."""
    from rlvr.objectives.aggregation import weighted_sum
    from rlvr.objectives.policy_loss import clip_loss

    total = 0.0
    for batch in batches:
        logprobs, _ = policy(batch, 1.0)
        token_losses = clip_loss(logprobs - logprobs.detach(), batch.advantages, *CLIP, None)
        loss = weighted_sum(token_losses, batch.weights)
        loss.backward()
        total += float(loss.detach())
    return total


def model_flops(size: Size, batches: list[Any]) -> float:
    """Of one forward and backward pass over the batches, by the formula above."""
    d, keys = size.hidden, size.kv_heads * (size.hidden // size.heads)
    per_token = size.layers * 2 * (2 * d * d + 2 * d * keys + 3 * d * size.intermediate)
    total = 0.0
    for batch in batches:
        bounds = batch.documents.cu_seqlens
        lengths = [end - start for start, end in pairwise(bounds)]
        attention = sum(size.layers * 2 * d * length * length for length in lengths)
        total += sum(lengths) * per_token + attention + batch.num_loss_tokens * 2 * d * size.vocabulary
    return 3.0 * total


def measure(bench: Bench) -> list[Row]:
    """Tokens per second, MFU and peak memory of forward and backward, without and with recomputation; AdamW's step."""
    size, batches = SIZES[bench.size], make_batches(bench)
    tokens = sum(batch.input_ids.numel() for batch in batches)
    rows: list[Row] = []
    for checkpointing in (False, True):
        policy = load_policy(bench, checkpointing)
        rows += _passes(bench, policy, batches, tokens, f"{'with' if checkpointing else 'without'} recomputation")
        if checkpointing:
            rows.append(_optimizer_step(bench, policy))
        del policy
        gc.collect()
        if bench.cuda:
            torch.cuda.empty_cache()
    sequences = sum(len(batch.rows) for batch in batches)
    shape = f"{size.parameters / 1e6:.1f} million parameters, {sequences} sequences in {len(batches)} micro-batches"
    return [Row("tokens of the batch", float(tokens), "tokens", shape), *rows]


def _passes(bench: Bench, policy: Any, batches: list[Any], tokens: int, how: str) -> list[Row]:
    def once() -> None:
        policy.zero_grad(set_to_none=True)
        backward(policy, batches)

    name = f"forward and backward, {how}"
    peaks: dict[str, float] = {}
    try:
        with bench.peak_memory(peaks, "pass"):
            taken = bench.seconds(once, repeats=3, warmup=1)
    except torch.cuda.OutOfMemoryError:
        return [Row(name, None, "tokens/s", "out of memory")]
    rates = [tokens / t for t in taken]
    flops = model_flops(SIZES[bench.size], batches)
    reached = [flops / t / 1e12 for t in taken]
    rows = [Row(name, statistics.median(rates), "tokens/s", spread(rates))]
    rows.append(Row(f"{name}: model FLOPs", statistics.median(reached), "TFLOP/s", spread(reached)))
    for key, what in (("peak_tflops", "stated peak"), ("matmul_tflops", "matrix product measured here")):
        if key in bench.found:
            share = statistics.median(reached) / bench.found[key]
            rows.append(Row(f"{name}: MFU of the {what}", 100 * share, "%"))
    if peaks:
        rows.append(Row(f"{name}: peak memory", peaks["pass"] / 2**30, "GiB", "weights and gradients included"))
    return rows


def _optimizer_step(bench: Bench, policy: Any) -> Row:
    optimizer = torch.optim.AdamW(policy.parameters(), lr=1e-6, fused=bench.cuda)
    taken = bench.seconds(optimizer.step, repeats=3, warmup=1)
    note = "torch's AdamW on bfloat16 weights; a learner rank's keeps float32 masters"
    return Row("optimizer step", statistics.median(taken), "s", f"{note}; {spread(taken)}")
