"""What each memory knob of the learner saves, measured side by side in one run, without a GPU.

    python benchmarks/memory.py [--rounds 2]

Each configuration takes the worst step of a stage (rlvr.learner.worst_case) in processes of its own, forked after the
imports, and prints what a rank held at most above what it held before the model was loaded: GiB, median over rounds
(lowest to highest), and its ratio to the first row. On a CPU host and device are one memory, so that offload shows
nothing here; the arithmetic of `rlvr check` says what it moves.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import statistics
import tempfile
import time
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import deepspeed  # noqa: F401  # imported before the forks, so that it counts for no configuration
import torch

from rlvr.cluster.memory import GIB, family_peaks
from rlvr.learner.worker import LearnerWorker
from rlvr.learner.worst_case import worst_shard
from rlvr.models.build import materialize
from rlvr.recipe.memory import rank_memory, shape_of
from rlvr.recipe.objective import ObjectiveConfig
from rlvr.recipe.schema import CharacterTokenizer, InitConfig, LearnerConfig, ModelConfig

LONGEST = 256
WORDS = "".join(map(chr, range(0x4E00, 0x4E00 + 4000)))
MODEL = ModelConfig(
    init=InitConfig(
        hidden_size=256,
        num_layers=6,
        num_heads=4,
        num_kv_heads=2,
        intermediate_size=768,
        tokenizer=CharacterTokenizer(characters=WORDS),
    )
)
SMALL = ModelConfig(init=InitConfig(hidden_size=64, num_layers=1))
BASE: dict[str, Any] = {"zero_stage": 2, "max_tokens_per_micro_batch": 1024}
CONFIGURATIONS: dict[str, tuple[int, dict[str, Any]]] = {
    "float32, ZeRO 2, one rank": (1, {}),
    "gradient checkpointing": (1, {"gradient_checkpointing": True}),
    "bfloat16 with float32 masters": (1, {"dtype": "bfloat16"}),
    "bfloat16, gradient checkpointing": (1, {"dtype": "bfloat16", "gradient_checkpointing": True}),
    "micro-batches of half the tokens": (1, {"max_tokens_per_micro_batch": 512}),
    "logits of all tokens at once": (1, {"logprob_chunk_tokens": 1024}),
    "8-bit moments": (1, {"optimizer": {"kind": "adamw_8bit"}}),
    "ZeRO 0, two ranks": (2, {"zero_stage": 0}),
    "ZeRO 2, two ranks": (2, {}),
    "ZeRO 3, two ranks": (2, {"zero_stage": 3}),
    "sequences over two ranks": (2, {"sequence_parallel": 2}),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=2)
    rounds = parser.parse_args().rounds
    os.environ |= {"DS_ACCELERATOR": "cpu", "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    if importlib.util.find_spec("bitsandbytes") is None:
        del CONFIGURATIONS["8-bit moments"]
        print("8-bit moments are not run: bitsandbytes is not installed")
    found: dict[str, list[float]] = {name: [] for name in CONFIGURATIONS}
    with tempfile.TemporaryDirectory() as scratch:
        directory = materialize(MODEL, Path(scratch) / "model", 0, WORDS)
        small = materialize(SMALL, Path(scratch) / "small", 0, "abc")
        for _ in range(rounds):
            for name, (ranks, settings) in CONFIGURATIONS.items():
                found[name].append(_measure(small, directory, ranks, LearnerConfig.model_validate(BASE | settings)))
                print(f"{name}: {found[name][-1]:.3f} GiB", flush=True)
    first = statistics.median(next(iter(found.values())))
    print("| configuration | GiB of a rank, median (lowest to highest) | ratio | by arithmetic |\n|---|---|---|---|")
    for name, values in found.items():
        median = statistics.median(values)
        spread = f"{median:.3f} ({min(values):.3f} to {max(values):.3f})"
        print(f"| {name} | {spread} | {median / first:.2f} | {_estimate(*CONFIGURATIONS[name]):.3f} |")


def _measure(small: str, directory: str, ranks: int, learner: LearnerConfig) -> float:
    """GiB that the largest rank held at most, above what it held before the model was loaded."""
    context = get_context("fork")
    pipes = [context.Pipe() for _ in range(ranks)]
    processes = [
        context.Process(target=_rank, args=(rank, ranks, small, directory, learner, pipes[rank][1]))
        for rank in range(ranks)
    ]
    for process in processes:
        process.start()
    port = pipes[0][0].recv()
    for ours, _ in pipes:
        ours.send(port)
    held = [ours.recv() for ours, _ in pipes]
    for process in processes:
        process.join()
    return max(held)


def _rank(rank: int, ranks: int, small: str, directory: str, learner: LearnerConfig, pipe: Connection) -> None:
    torch.set_num_threads(1)
    worker = LearnerWorker(rank, ranks, "cpu", 1)
    if rank == 0:
        pipe.send(worker.rendezvous("127.0.0.1", 60.0, None))
    worker.connect("127.0.0.1", pipe.recv(), 600.0, False, None)
    # A first model, too small to count, loads what libraries load at first use.
    worker.setup(small, learner, 8, 0, False, False)
    worker.try_worst_case("train_rl", worst_shard(8, 2, learner, [], []), ObjectiveConfig(), 1.0, 0, False)
    worker.release_cache()
    family_peaks([os.getpid()])
    before = family_peaks([os.getpid()])[os.getpid()]
    worker.setup(directory, learner, 8, 0, False, False)
    most = family_peaks([os.getpid()])[os.getpid()]
    shard = worst_shard(LONGEST, 64, learner, [], [])
    peak = worker.try_worst_case("train_rl", shard, ObjectiveConfig(), 1.0, 0, False)
    pipe.send(max(most / GIB, peak.host_gb) - before / GIB)
    time.sleep(1.0)  # The others may still be in a collective with this one.


def _estimate(ranks: int, settings: dict[str, Any]) -> float:
    shape = shape_of(MODEL)
    assert shape is not None
    learner = LearnerConfig.model_validate(BASE | settings)
    tokens = learner.max_tokens_per_micro_batch
    return sum(size for _, size, _ in rank_memory(shape, learner, ranks, tokens, False)) / GIB


if __name__ == "__main__":
    main()
