"""Seconds per step of TRL's GRPOTrainer: transformers generation, one process, on the CPU.

Kept apart from what it is compared with, and run as a process of its own: neither side's imports, threads or caches
reach the other.
"""

from __future__ import annotations

import itertools
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any


def measure(
    model: Path,
    prompts: list[str],
    prompts_per_step: int,
    group_size: int,
    max_completion_tokens: int,
    steps: int,
    warmup_steps: int,
    threads: int,
    seed: int,
) -> dict[str, Any]:
    """Trains warmup_steps + steps steps; returns seconds and completion tokens of each step after the warm-up.

    A step is one batch of prompts_per_step * group_size completions and one optimizer step: generation, a reward that
    costs nothing, forward, backward, AdamW. The reward differs within groups, so no step is trivially without gradient.
    """
    import torch

    torch.set_num_threads(threads)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from datasets import Dataset
        from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
        from trl import GRPOConfig, GRPOTrainer

    tokenizer = AutoTokenizer.from_pretrained(model, padding_side="left")
    policy = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    rows = [prompts[i % len(prompts)] for i in range(prompts_per_step * (warmup_steps + steps))]
    boundaries: list[float] = []
    num_tokens: list[int] = []

    def reward(completion_ids: list[list[int]], **columns: Any) -> list[float | None]:
        num_tokens.append(sum(map(len, completion_ids)))
        return [float(sum(ids) % 2) for ids in completion_ids]

    class Clock(TrainerCallback):
        def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
            boundaries.append(time.perf_counter())

        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            boundaries.append(time.perf_counter())

    with tempfile.TemporaryDirectory() as directory:
        config = GRPOConfig(
            output_dir=directory,
            per_device_train_batch_size=prompts_per_step * group_size,
            num_generations=group_size,
            max_completion_length=max_completion_tokens,
            max_steps=warmup_steps + steps,
            temperature=1.0,
            top_k=0,
            top_p=1.0,
            beta=0.0,
            loss_type="dapo",
            learning_rate=1e-6,
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
            logging_strategy="no",
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            seed=seed,
        )
        trainer = GRPOTrainer(
            model=policy,
            args=config,
            reward_funcs=reward,
            train_dataset=Dataset.from_dict({"prompt": rows}),
            processing_class=tokenizer,
            callbacks=[Clock()],
        )
        trainer.train()
    seconds = [end - start for start, end in itertools.pairwise(boundaries)]
    assert len(seconds) == warmup_steps + steps == len(num_tokens), (len(seconds), len(num_tokens))
    return {"seconds": seconds[warmup_steps:], "completion_tokens": num_tokens[warmup_steps:]}
