"""Which tokens of a rollout stand in the spans that a recipe weighs: span masks as a token weight."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import torch

from rlvr.controller.token_spans import token_spans, tokens_of
from rlvr.learner.token_scale import SPAN_WEIGHT
from rlvr.recipe.objective import ObjectiveConfig, SpanWeight
from rlvr.records import Rollout, Share, Span, Steps


def span_weights(rollout: Rollout, objective: ObjectiveConfig, tokenizer: Any) -> dict[str, np.ndarray]:
    """The column of weights per sampled token: `inside` for the tokens of a span, else `outside`.

    Nothing for an objective without the token weight `span`. Where its term has no steps to show (it abstained, or its
    verifier broke) every token is outside.
    """
    config = next((weight for weight in objective.token_weights if isinstance(weight, SpanWeight)), None)
    if config is None:
        return {}
    length = rollout.num_sampled_tokens
    inside = torch.zeros(length, dtype=torch.bool)
    share = _spans_of(rollout, config)
    if share is not None and share.spans and length:
        spans = token_spans(rollout, tokenizer) if share.unit == "character" else None
        for tokens in tokens_of(share, length, spans)[0]:
            inside[tokens] = True
    return {SPAN_WEIGHT: np.where(inside.numpy(), config.inside, config.outside).astype(np.float32)}


def matches(pattern: str, text: str) -> tuple[Span, ...]:
    """Where a pattern matches, or its first group where it has one; matches of nothing are left out."""
    found = re.finditer(pattern, text, re.DOTALL)
    spans = (match.span(1) if match.re.groups else match.span() for match in found)
    return tuple((start, end) for start, end in spans if 0 <= start < end)


def _spans_of(rollout: Rollout, config: SpanWeight) -> Share | None:
    if config.pattern is not None:
        spans = matches(config.pattern, rollout.text)
        return Share("", (0.0,) * len(spans), spans)
    outcome = rollout.outcomes.get(str(config.term))
    return Share("", outcome.values, outcome.spans, outcome.unit) if isinstance(outcome, Steps) else None
