"""The engine interface: token ids in, token ids out, every sampling parameter explicit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from rlvr.records import FinishReason, SamplingParams

if TYPE_CHECKING:
    import numpy as np

    from rlvr.transfer.buckets import Bucket


@dataclass(frozen=True, slots=True)
class EngineSpec:
    """What an engine needs to start. Sizes are in tokens, sequences and bytes."""

    kind: str
    model_dir: str
    dtype: str
    device: str
    context_length: int
    max_concurrent: int
    threads: int = 1
    tensor_parallel: int = 1
    kv_cache_bytes: int | None = None
    gpu_memory_utilization: float = 0.85
    enforce_eager: bool = False
    prefix_caching: bool = True
    sleep_mode: bool = False
    transfer_backend: str | None = None
    trust_remote_code: bool = False
    lora_rank: int = 0
    """Largest rank of the adapters that the engine will be sent; 0: it will be sent none."""
    lora_modules: tuple[str, ...] | None = None
    """Names of the layers that adapters may fit; null: any."""


@dataclass(frozen=True, slots=True)
class Request:
    """One completion to sample. The seed fixes its random numbers whatever it is batched with."""

    id: str
    prompt_ids: Sequence[int]
    sampling: SamplingParams
    seed: int


@dataclass(slots=True)
class Completion:
    """What was sampled: [T] tokens (the sampled eos included), their processed logprobs in nats, and why it ended."""

    id: str
    token_ids: list[int]
    logprobs: list[float]
    finish_reason: FinishReason


class RolloutEngine(Protocol):
    """Driven by one thread: requests are added, `step` advances them all and returns those that finished."""

    def add(self, request: Request) -> None: ...

    def step(self) -> list[Completion]: ...

    def has_unfinished(self) -> bool: ...

    def load_bucket(self, bucket: Bucket, buffer: np.ndarray) -> None:
        """Copies a bucket into the running weights; of an adapter it is kept until `finish_update` applies it."""

    def finish_update(self, version: int, sent: Mapping[str, int]) -> list[str]:
        """Resets every cache, takes the version; returns the tensors whose checksums differ from `sent`.

        With tensors of an adapter in `sent`, every later request is answered with that adapter, else with none.
        """

    def sleep(self) -> None:
        """Gives the GPU memory of weights and KV cache back; nothing on CPU."""

    def wake(self, part: str) -> None:
        """Takes the memory of `weights` or of the `kv_cache` again; the engine runs once it has both."""

    def decode(self, token_ids: Sequence[int]) -> str: ...


def build_engine(spec: EngineSpec) -> RolloutEngine:
    """The engine that a spec names; its packages are imported here and nowhere earlier."""
    if spec.kind == "vllm":
        from rlvr.rollout.vllm_engine import VllmEngine

        return VllmEngine(spec)
    from rlvr.rollout.transformers_engine import TransformersEngine

    return TransformersEngine(spec)
