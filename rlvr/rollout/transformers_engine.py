"""transformers as a rollout engine, for machines where vLLM cannot be installed.

B = sequences of a batch, P = padded prompt length, V = vocabulary. Sequences are decoded in static batches; rows that
finish leave the batch once half of it has finished. Sampling is written out here because
`generate` has neither a seed per sequence nor logprobs of the processed distribution.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from rlvr.models.tokenizer import load_tokenizer
from rlvr.rollout.engine import Completion, EngineSpec, Request
from rlvr.transfer.buckets import Bucket, checksums, mismatches, unpack

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor


@dataclass(slots=True)
class _Row:
    request: Request
    generator: torch.Generator
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    finish_reason: str = ""

    def accept(self, token: int, logprob: float) -> None:
        sampling = self.request.sampling
        self.token_ids.append(token)
        self.logprobs.append(logprob)
        if token in sampling.stop_token_ids:
            self.finish_reason = "stop"
        elif len(self.token_ids) >= sampling.max_completion_tokens:
            self.finish_reason = "length"


class TransformersEngine:
    """A Hugging Face model decoding in static batches."""

    def __init__(self, spec: EngineSpec) -> None:
        from transformers import AutoModelForCausalLM

        if spec.device == "cpu":
            torch.set_num_threads(spec.threads)
        self.spec = spec
        self.device = torch.device(spec.device)
        self.tokenizer = load_tokenizer(spec.model_dir, trust_remote_code=spec.trust_remote_code)
        dtype = getattr(torch, spec.dtype)
        load: Any = AutoModelForCausalLM.from_pretrained
        self.model = load(spec.model_dir, dtype=dtype, trust_remote_code=spec.trust_remote_code).eval().to(self.device)
        self.waiting: list[Request] = []

    def add(self, request: Request) -> None:
        self.waiting.append(request)

    def has_unfinished(self) -> bool:
        return bool(self.waiting)

    @torch.inference_mode()
    def step(self) -> list[Completion]:
        """Decodes the next batch of waiting requests to its end."""
        batch, self.waiting = self.waiting[: self.spec.max_concurrent], self.waiting[self.spec.max_concurrent :]
        if not batch:
            return []
        rows = [_Row(request, _generator(request.seed, self.device)) for request in batch]
        self._decode(rows)
        return [Completion(row.request.id, row.token_ids, row.logprobs, row.finish_reason) for row in rows]  # type: ignore[arg-type]

    def _decode(self, rows: list[_Row]) -> None:
        from transformers import DynamicCache

        longest = max(len(row.request.prompt_ids) for row in rows)
        ids = torch.zeros(len(rows), longest, dtype=torch.long, device=self.device)
        mask = torch.zeros_like(ids)
        for index, row in enumerate(rows):
            # Left padding, so that every row's next token is in the last column; masks come from positions alone.
            ids[index, longest - len(row.request.prompt_ids) :] = torch.as_tensor(list(row.request.prompt_ids))
            mask[index, longest - len(row.request.prompt_ids) :] = 1
        positions = (mask.cumsum(-1) - 1).clamp(min=0)
        cache = DynamicCache(config=self.model.config)
        alive = list(rows)
        while True:
            logits = self.model(
                input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True
            ).logits[:, -1]
            tokens = _sample(logits.float(), alive)
            keep = [index for index, row in enumerate(alive) if not row.finish_reason]
            if not keep:
                return
            ids, positions = tokens[:, None], positions[:, -1:] + 1
            mask = torch.cat([mask, mask.new_ones(len(alive), 1)], dim=1)
            if len(keep) <= len(alive) // 2:
                chosen = torch.tensor(keep, device=self.device)
                cache.batch_select_indices(chosen)
                ids, positions, mask = ids[chosen], positions[chosen], mask[chosen]
                alive = [alive[index] for index in keep]

    @torch.no_grad()
    def load_bucket(self, bucket: Bucket, buffer: np.ndarray) -> None:
        parameters = dict(self.model.named_parameters())
        for name, tensor in unpack(bucket, buffer):
            parameters[name].copy_(tensor)

    def finish_update(self, version: int, sent: Mapping[str, int]) -> list[str]:
        # Nothing is cached between batches, so there is nothing to reset.
        return mismatches(sent, [checksums(self.model.named_parameters())], {})

    def sleep(self) -> None:
        if self.spec.sleep_mode:
            self.model.to("cpu")
            torch.cuda.empty_cache()

    def wake(self, part: str) -> None:
        if self.spec.sleep_mode:
            self.model.to(self.device)

    def decode(self, token_ids: Sequence[int]) -> str:
        return str(self.tokenizer.decode(list(token_ids), skip_special_tokens=True))


def _generator(seed: int, device: torch.device) -> torch.Generator:
    return torch.Generator(device=device).manual_seed(seed)


def processed_logprobs(logits: Tensor, request: Request) -> Tensor:
    """The distribution that is sampled from, [V] logits -> [V] logprobs (-inf outside the kept set).

    Temperature, then top-k, top-p and min-p, renormalised over what they keep. Greedy leaves the logits as they are.
    """
    sampling = request.sampling
    if sampling.repetition_penalty != 1.0:
        raise ValueError("the transformers engine samples without repetition penalty")
    if sampling.temperature == 0:
        return logits.log_softmax(-1)
    logits = logits / sampling.temperature
    if sampling.top_k > 0:
        kth = logits.topk(min(sampling.top_k, logits.shape[-1])).values[-1]
        logits = logits.masked_fill(logits < kth, -torch.inf)
    if sampling.top_p < 1:
        ordered, order = logits.sort(descending=True)
        before = ordered.softmax(-1).cumsum(-1) - ordered.softmax(-1)
        logits = logits.index_fill(-1, order[before >= sampling.top_p], -torch.inf)
    if sampling.min_p > 0:
        probabilities = logits.softmax(-1)
        logits = logits.masked_fill(probabilities < sampling.min_p * probabilities.max(), -torch.inf)
    return logits.log_softmax(-1)


def _sample(logits: Tensor, rows: list[_Row]) -> Tensor:
    """One token for each row, [B, V] -> [B]; unfinished rows record it with its processed logprob."""
    logprobs = torch.stack([processed_logprobs(x, row.request) for x, row in zip(logits, rows, strict=True)])
    tokens = []
    for row, row_logprobs in zip(rows, logprobs, strict=True):
        if row.request.sampling.temperature == 0:
            token = int(row_logprobs.argmax())
        else:
            # Gumbel-max through exponential noise: argmax p/q with q ~ Exp(1) is a draw from p.
            noise = torch.empty_like(row_logprobs).exponential_(generator=row.generator)
            token = int((row_logprobs - noise.log()).argmax())
        tokens.append(token)
        if not row.finish_reason:
            row.accept(token, float(row_logprobs[token]))
    return torch.tensor(tokens, device=logits.device)
