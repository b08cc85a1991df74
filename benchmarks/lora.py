"""Memory of a training step and bytes of a transfer, full fine-tuning against LoRA, in one run.

    python benchmarks/lora.py [--hidden 512 --layers 8 --rank 16 --dtype bfloat16 --zero 2]

Each side is a learner rank of its own process: it loads the same random model, makes two optimizer steps on the same
batch, and gathers what engines would be sent. Counted are the tensors that the optimizer holds (master weights and
moments); measured is how far the process's memory rises above what it had with the model loaded.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import tempfile
from pathlib import Path
from typing import Any

MIB = 1 << 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hidden", type=int, default=512, help="hidden size; MLP of three times that")
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="bfloat16")
    parser.add_argument("--zero", type=int, choices=[0, 1, 2, 3], default=2)
    options = parser.parse_args()
    from rlvr.models.build import materialize
    from rlvr.recipe.schema import InitConfig, ModelConfig

    sides = ("full", "lora, merged", "lora, adapter")
    with tempfile.TemporaryDirectory() as directory:
        shape = {"hidden_size": options.hidden, "num_layers": options.layers, "intermediate_size": 3 * options.hidden}
        init = InitConfig(**shape, num_heads=options.hidden // 64, num_kv_heads=options.hidden // 128)
        materialize(ModelConfig(init=init), Path(directory), seed=0, characters="0123456789+-*/=() ")
        # A process for each, so that none inherits the memory of the one before.
        with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
            rows = {side: pool.apply(measure, (side, directory, vars(options))) for side in sides}
    print(table(rows))


def measure(side: str, directory: str, options: dict[str, Any]) -> dict[str, float]:
    """Counts and bytes of one side."""
    import numpy as np
    import torch

    from rlvr.cluster.environment import free_port
    from rlvr.cluster.memory import peak_memory
    from rlvr.learner.batch import TrainSequence, make_shard
    from rlvr.learner.packing import plan_batch
    from rlvr.learner.worker import LearnerWorker
    from rlvr.recipe.lora import LoraConfig
    from rlvr.recipe.schema import LearnerConfig, OptimizerConfig
    from rlvr.transfer.buckets import plan_buckets

    lora = LoraConfig(rank=options["rank"]) if side.startswith("lora") else None
    learner = LearnerConfig(
        lora=lora, dtype=options["dtype"], zero_stage=options["zero"], optimizer=OptimizerConfig(lr=1e-4)
    )
    worker = LearnerWorker(0, 1, "cpu", 1)
    worker.connect("127.0.0.1", free_port(), 60.0, over_nodes=False, interface=None)
    hidden = worker.setup(directory, learner, 2, 0, reference=False, trust_remote_code=False)
    peak_memory(os.getpid())  # forgets the peak of loading
    loaded = peak_memory(os.getpid()).host_gb
    rng = np.random.default_rng(0)
    mask = np.arange(64) >= 8
    batch = [TrainSequence(rng.integers(3, 20, 64), mask, np.zeros(64), np.ones(64), i) for i in range(8)]
    plan = plan_batch(
        batch,
        num_ranks=1,
        num_mini_batches=1,
        seed=0,
        max_tokens=128,
        packing=True,
        aggregation="token_mean",
        max_completion_tokens=64,
        hidden_size=hidden,
    )
    shard = make_shard(batch, plan.weights, plan.ranks[0])
    for _ in range(2):
        worker.train_sft(shard)
    engine = worker.engine
    assert engine is not None
    own = {parameter.data_ptr() for parameter in engine.policy.parameters()}
    inner = getattr(engine.engine.optimizer, "optimizer", engine.engine.optimizer)
    tensors = [t for state in inner.state.values() for t in state.values() if isinstance(t, torch.Tensor)]
    tensors += [p for group in inner.param_groups for p in group["params"] if p.data_ptr() not in own]
    risen = peak_memory(os.getpid()).host_gb - loaded
    form: Any = "adapter" if side.endswith("adapter") else "weights"
    buckets = plan_buckets(worker.parameter_specs(form), options["dtype"], 64 * MIB, form)
    for bucket in buckets:
        worker.gather_bucket(bucket)
    return {
        "trained parameters, million": sum(share.numel() for share in engine.shares()) / 1e6,
        "optimizer state, MiB": sum(t.numel() * t.element_size() for t in tensors) / MIB,
        "memory above the loaded model, MiB": risen * 1024,
        "sent after a step, MiB": sum(bucket.num_bytes for bucket in buckets) / MIB,
    }


def table(rows: dict[str, dict[str, float]]) -> str:
    """One line per quantity, with the ratio of full to LoRA."""
    sides = list(rows)
    lines = ["| | " + " | ".join(sides) + " | full / merged | full / adapter |", "|" + "---|" * (len(sides) + 3)]
    for name in rows["full"]:
        values = [rows[side][name] for side in sides]
        ratios = [f"{values[0] / value:.1f}" for value in values[1:]]
        lines.append("| " + " | ".join([name, *(f"{value:.2f}" for value in values), *ratios]) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
