"""Compares the learner's chunked logprobs, entropies and loss with the same computed from full logits.

    python benchmarks/objectives.py                        # CPU, one thread
    python benchmarks/objectives.py --device cuda --tokens 16384 --chunk 1024 --hidden 3584 --dtype bfloat16

Both sides get the hidden states of M tokens and the output head, and end with the gradients of both: one forward and
one backward pass of a clipped policy loss whose metrics include the entropy. Full logits: what most trainers write,
linear, log_softmax, gather, with the entropy outside of autograd. Rounds alternate the two sides; a ratio is taken
within a round, so that a machine that slows down slows both. On a CPU seconds are those of the process, which other
processes take nothing from. Memory is the peak above what stood before the forward pass, in passes with a frozen head:
the gradient of the head is the same on both sides and no activation.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from rlvr.learner.logprobs import chunked_logprobs
from rlvr.objectives.aggregation import weighted_sum
from rlvr.objectives.policy_loss import clip_loss

Side = Callable[[Tensor, Tensor, Tensor, float], tuple[Tensor, Tensor]]


def full_logprobs(hidden: Tensor, weight: Tensor, targets: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """The plain way: every logit of every token at once."""
    logits = torch.nn.functional.linear(hidden, weight).float()
    log_softmax = (logits if temperature == 1.0 else logits / temperature).log_softmax(-1)
    del logits
    with torch.no_grad():
        entropies = -(log_softmax.exp() * log_softmax).sum(-1)
    return log_softmax.gather(-1, targets[:, None])[:, 0], entropies


def chunked(chunk_tokens: int) -> Side:
    """What the learner does."""
    return lambda hidden, weight, targets, temperature: chunked_logprobs(
        hidden, weight, None, targets, temperature, chunk_tokens
    )


class Case:
    """Hidden states, a head and a loss; `step` runs one side on them."""

    def __init__(self, options: argparse.Namespace) -> None:
        torch.manual_seed(0)
        device, dtype = options.device, getattr(torch, options.dtype)
        self.hidden = torch.randn(options.tokens, options.hidden, device=device, dtype=dtype, requires_grad=True)
        scale = options.hidden**-0.5
        self.weight = (torch.randn(options.vocabulary, options.hidden, device=device) * scale).to(dtype)
        self.weight.requires_grad_()
        self.targets = torch.randint(0, options.vocabulary, (options.tokens,), device=device)
        self.advantages = torch.randn(options.tokens, device=device)
        self.weights = torch.full((options.tokens,), 1 / options.tokens, device=device)
        self.temperature = options.temperature
        self.device = device

    def step(self, side: Side) -> tuple[float, tuple[Tensor, ...]]:
        """Seconds, and results (loss, mean entropy, both gradients)."""
        start = self._now()
        results = self._pass(side)
        return self._now() - start, results

    def peak(self, side: Side) -> int:
        """Bytes that a pass takes at its peak; only the hidden states get a gradient."""
        self.hidden.grad = self.weight.grad = None
        self.weight.requires_grad_(False)
        peak = _Peak(self.device)
        self._pass(side)
        self.weight.requires_grad_()
        return peak.since()

    def _pass(self, side: Side) -> tuple[Tensor, ...]:
        self.hidden.grad = self.weight.grad = None
        logprobs, entropies = side(self.hidden, self.weight, self.targets, self.temperature)
        token_losses = clip_loss(logprobs - logprobs.detach(), self.advantages, 0.2, 0.28, None)
        loss = weighted_sum(token_losses, self.weights)
        loss.backward()
        results = (loss.detach(), entropies.detach().mean(), self.hidden.grad, self.weight.grad)
        return tuple(result for result in results if result is not None)

    def _now(self) -> float:
        if self.device == "cpu":
            return time.process_time()
        torch.cuda.synchronize()
        return time.perf_counter()


class _Peak:
    """Highest memory since it was made, above what was in use then."""

    def __init__(self, device: str) -> None:
        self.cuda = device == "cuda"
        if self.cuda:
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
            self.before = torch.cuda.memory_allocated()
        else:
            Path("/proc/self/clear_refs").write_text("5")  # sets the high-water mark to what is resident now
            self.before = _resident("VmRSS")

    def since(self) -> int:
        return (torch.cuda.max_memory_allocated() if self.cuda else _resident("VmHWM")) - self.before


def _resident(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name + ":"))


def largest_difference(ours: tuple[Tensor, ...], theirs: tuple[Tensor, ...]) -> float:
    """max |ours - theirs| over loss, entropy and gradients, each over the largest entry of its own."""
    return max(float((a - b).abs().max() / b.abs().max().clamp(min=1e-30)) for a, b in zip(ours, theirs, strict=True))


@dataclass(frozen=True, slots=True)
class Comparison:
    """Of each side, by name: seconds of the rounds, and peak memory (MiB) of three passes with a frozen head."""

    seconds: dict[str, list[float]]
    peaks: dict[str, list[float]]
    difference: float

    @property
    def times(self) -> list[float]:
        """Chunked over full logits, round by round."""
        return _ratios(self.seconds)

    @property
    def memory(self) -> list[float]:
        return _ratios(self.peaks)


def compare(options: argparse.Namespace) -> Comparison:
    """Runs both sides, alternating; `options` are those of the command line."""
    case = Case(options)
    sides: dict[str, Side] = {"full logits": full_logprobs, "chunked": chunked(options.chunk)}
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    difference = 0.0
    for number in range(options.rounds + 1):
        results = {}
        for name in sorted(sides, reverse=bool(number % 2)):
            taken, results[name] = case.step(sides[name])
            if number:  # the first round warms up: threads, page tables, kernels
                seconds[name].append(taken)
        if not number:
            difference = largest_difference(results["chunked"], results["full logits"])
        del results
    peaks = {name: [case.peak(side) / 2**20 for _ in range(3)] for name, side in sides.items()}
    return Comparison(seconds, peaks, difference)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--tokens", type=int, default=2048)
    parser.add_argument("--vocabulary", type=int, default=151_936)
    parser.add_argument("--hidden", type=int, default=896, help="width; 896 is that of Qwen2.5-0.5B")
    parser.add_argument("--chunk", type=int, default=256, help="learner.logprob_chunk_tokens")
    parser.add_argument("--temperature", type=float, default=1.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    found = compare(options)
    print(f"largest relative difference: {found.difference:.1e}")
    for name in found.seconds:
        print(f"{name:12s} {_spread(found.seconds[name])} s, {_spread(found.peaks[name])} MiB")
    print(
        f"ratio        time {_spread(found.times)}, memory {_spread(found.memory)} "
        f"= 1/{1 / statistics.median(found.memory):.1f}"
    )


def _ratios(of: dict[str, list[float]]) -> list[float]:
    return [ours / theirs for ours, theirs in zip(of["chunked"], of["full logits"], strict=True)]


def _spread(values: list[float]) -> str:
    return f"{statistics.median(values):.4g} ({min(values):.4g} to {max(values):.4g})"


if __name__ == "__main__":
    main()
