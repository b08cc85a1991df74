"""The phases of a step in one process: the transformers engine, a reward, the learner's pass, a verified transfer.

Engine and policy share the device, as colocated ones do. Nothing but torch and transformers is needed.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from contextlib import contextmanager
from typing import Any

import torch
from gpu_device import Bench, Row, spread
from gpu_learner import SIZES, backward, build_model, load_policy, packed

STEPS = 4  # the first pays for allocation and kernels and is not counted
BUCKET_BYTES = 256 << 20
PHASES = ("generate", "score", "learn", "transfer", "evaluate")


class Loop:
    """An engine, a policy and its optimizer; each method is a phase."""

    def __init__(self, bench: Bench) -> None:
        from rlvr.rollout.engine import EngineSpec
        from rlvr.rollout.transformers_engine import TransformersEngine
        from rlvr.transfer.buckets import plan_buckets

        self.bench, self.size = bench, SIZES[bench.size]
        spec = EngineSpec(
            kind="transformers",
            model_dir=str(build_model(bench)),
            dtype="bfloat16",
            device=bench.device,
            context_length=16 + self.size.completion_tokens,
            max_concurrent=self.size.prompts * self.size.group_size,
        )
        self.engine = TransformersEngine(spec)
        self.policy = load_policy(bench)
        self.optimizer = torch.optim.AdamW(self.policy.parameters(), lr=1e-6, fused=bench.cuda)
        self.weights = dict(self.policy.model.named_parameters())
        specs = [(name, tuple(parameter.shape)) for name, parameter in self.weights.items()]
        self.buckets = plan_buckets(specs, "bfloat16", BUCKET_BYTES)
        self.problems = [(11 * n % 90 + 10, 17 * n % 90 + 10) for n in range(self.size.prompts)]

    def generate(self, temperature: float = 1.0, members: int | None = None) -> list[tuple[int, Any]]:
        """(problem, completion) for each member; nothing stops a completion, so all have the same length."""
        from rlvr.records import SamplingParams
        from rlvr.rollout.engine import Request

        sampling = SamplingParams(temperature=temperature, max_completion_tokens=self.size.completion_tokens)
        for number in range(len(self.problems)):
            for member in range(members or self.size.group_size):
                seed = 1000 * number + member
                self.engine.add(Request(f"{number}/{member}", self._prompt(number), sampling, seed))
        done = []
        while self.engine.has_unfinished():
            done += [(int(completion.id.partition("/")[0]), completion) for completion in self.engine.step()]
        return done

    def score(self, completions: list[tuple[int, Any]]) -> list[float]:
        from rewards.exact_match import exact_match

        texts = [self.engine.decode(completion.token_ids) for _, completion in completions]
        answers = [str(sum(self.problems[number])) for number, _ in completions]
        return [exact_match(text, answer).value for text, answer in zip(texts, answers, strict=True)]

    def learn(self, completions: list[tuple[int, Any]], rewards: list[float]) -> float:
        """One optimizer step; the loss."""
        import numpy as np

        from rlvr.learner.batch import TrainSequence
        from rlvr.objectives.advantages import grpo

        advantages = grpo(torch.tensor(rewards), torch.tensor([number for number, _ in completions])).tolist()
        sequences = []
        for index, (number, completion) in enumerate(completions):
            prompt = self._prompt(number)
            tokens = np.asarray([*prompt, *completion.token_ids])
            behavior = np.asarray([*[0.0] * len(prompt), *completion.logprobs])
            mask = np.arange(len(tokens)) >= len(prompt)
            sequences.append(TrainSequence(tokens, mask, behavior, np.full(len(tokens), advantages[index]), index))
        self.optimizer.zero_grad(set_to_none=True)
        loss = backward(self.policy, packed(self.bench, sequences))
        self.optimizer.step()
        return loss

    def transfer(self) -> None:
        """All weights through host memory into the engine, verified. Raises RuntimeError where they differ."""
        from rlvr.transfer.buckets import checksums, pack, unpack

        sent: dict[str, int] = {}
        for bucket in self.buckets:
            buffer = pack(bucket, self.weights)
            sent |= checksums(unpack(bucket, buffer))
            self.engine.load_bucket(bucket, buffer)
        wrong = self.engine.finish_update(1, sent)
        if wrong:
            raise RuntimeError(f"the engine holds other weights than were sent: {', '.join(wrong[:5])}")

    def evaluate(self) -> list[float]:
        return self.score(self.generate(temperature=0.0, members=1))

    def _prompt(self, number: int) -> list[int]:
        left, right = self.problems[number]
        return list(self.engine.tokenizer(f"{left}+{right}=", add_special_tokens=False)["input_ids"])


def measure(bench: Bench) -> list[Row]:
    """Seconds and peak memory of each phase, tokens per second of the engine, GB/s of the transfer."""
    loop, size = Loop(bench), SIZES[bench.size]
    taken: dict[str, list[float]] = {phase: [] for phase in PHASES}
    peaks: dict[str, float] = {}

    @contextmanager
    def phase(name: str) -> Any:
        with bench.peak_memory(peaks, name):
            bench.synchronize()
            start = time.perf_counter()
            yield
            bench.synchronize()
            taken[name].append(time.perf_counter() - start)

    for _ in range(STEPS):
        with phase("generate"):
            completions = loop.generate()
        with phase("score"):
            rewards = loop.score(completions)
        with phase("learn"):
            loop.learn(completions, rewards)
        with phase("transfer"):
            loop.transfer()
        with phase("evaluate"):
            loop.evaluate()
    counted = {name: values[1:] for name, values in taken.items()}
    rollouts = f"{size.prompts} prompts x {size.group_size} completions of {size.completion_tokens} tokens"
    notes = {"generate": rollouts, "evaluate": f"{size.prompts} prompts, greedy", "score": "exact_match, in process"}
    rows = [
        Row(f"{name}: time", statistics.median(values), "s", "; ".join(filter(None, [notes.get(name), spread(values)])))
        for name, values in counted.items()
    ]
    tokens = size.prompts * size.group_size * size.completion_tokens
    rates = [tokens / t for t in counted["generate"]]
    rows.append(Row("generate: transformers engine", statistics.median(rates), "tokens/s", spread(rates)))
    num_bytes = sum(bucket.num_bytes for bucket in loop.buckets)
    rows += transfer_rows(bench, "transfer: host path, verified", num_bytes, counted["transfer"])
    return rows + [Row(f"{name}: peak memory", peak / 2**30, "GiB") for name, peak in peaks.items()]


def transfer_rows(bench: Bench, what: str, num_bytes: int, seconds: list[float]) -> list[Row]:
    """GB/s, and what share of the device's own copy bandwidth that is."""
    rates = [num_bytes / t / 1e9 for t in seconds]
    rows = [Row(what, statistics.median(rates), "GB/s", f"{num_bytes / 1e6:.1f} MB; {spread(rates)}")]
    if copy := bench.found.get("copy_gb_s"):
        rows.append(Row(f"{what}: of the device's copy", 100 * statistics.median(rates) / copy, "%"))
    return rows


def measure_between_processes(bench: Bench) -> list[Row]:
    """All weights into another process on the same device: CUDA IPC there, shared memory on a CPU."""
    from rlvr.transfer.buckets import checksums, plan_buckets

    policy = load_policy(bench)
    weights = dict(policy.model.named_parameters())
    specs = [(name, tuple(parameter.shape)) for name, parameter in weights.items()]
    buckets = plan_buckets(specs, "bfloat16", BUCKET_BYTES)
    # A tensor larger than the cap has a bucket of its own: the buffer must hold that too.
    buffer = torch.empty(max(bucket.num_bytes for bucket in buckets), dtype=torch.uint8, device=bench.device)
    if not bench.cuda:
        buffer.share_memory_()
    context = torch.multiprocessing.get_context("spawn")
    inbox, outbox = context.Queue(), context.Queue()
    child = context.Process(target=receive, args=(inbox, outbox, buckets, bench.device), daemon=True)
    child.start()
    inbox.put(buffer)

    def send() -> None:
        for index, bucket in enumerate(buckets):
            for name, view in views(bucket, buffer):
                view.copy_(weights[name].detach())
            bench.synchronize()  # the other process reads what this one has written
            inbox.put(index)
            assert outbox.get(timeout=120) == index

    try:
        taken = bench.seconds(send)
        inbox.put(None)
        held = outbox.get(timeout=120)
    finally:
        child.join(timeout=10)
        child.kill()
    sent = checksums(weights.items())
    if held != sent:
        raise RuntimeError("the receiving process holds other weights than were sent")
    how = "CUDA IPC" if bench.cuda else "shared memory"
    return transfer_rows(bench, f"between processes: {how}", sum(bucket.num_bytes for bucket in buckets), taken)


def receive(inbox: Any, outbox: Any, buckets: list[Any], device: str) -> None:
    """The other process: copies each bucket out of the shared buffer; at the end the checksums of what it holds."""
    from rlvr.transfer.buckets import checksums

    buffer = inbox.get()
    held: dict[str, torch.Tensor] = {
        name: torch.empty(shape, dtype=torch.bfloat16, device=device)
        for bucket in buckets
        for name, shape in zip(bucket.names, bucket.shapes, strict=True)
    }
    while (index := inbox.get()) is not None:
        for name, view in views(buckets[index], buffer):
            held[name].copy_(view)
        if device == "cuda":
            torch.cuda.synchronize()
        outbox.put(index)
    del buffer  # before the owner ends
    outbox.put(checksums(held.items()))


def views(bucket: Any, buffer: torch.Tensor) -> list[tuple[str, torch.Tensor]]:
    """(name, tensor) of a bucket's bfloat16 tensors, as views into a flat byte buffer on any device."""
    found, offset = [], 0
    for name, shape in zip(bucket.names, bucket.shapes, strict=True):
        num_bytes = 2 * torch.Size(shape).numel()
        found.append((name, buffer[offset : offset + num_bytes].view(torch.bfloat16).view(shape)))
        offset += num_bytes
    return found


Part = Callable[[Bench], list[Row]]
