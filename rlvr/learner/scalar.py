"""A decoder with a scalar head that answers a packed micro-batch with a number at each of its loss positions.

Legend: N = tokens of the packed row, M = its loss tokens, d = hidden size.

The number of loss position t is read from the hidden state of the token that stands there, so a sequence that is to be
scored at its last token carries one more token behind it (`rlvr.learner.examples.marked`), which is never fed.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from rlvr.errors import RecipeError
from rlvr.learner.attention import implementation
from rlvr.learner.batch import MicroBatch
from rlvr.learner.policy import packed_inputs, training_config
from rlvr.recipe.schema import LearnerConfig


class ScalarModel(nn.Module):
    """A Hugging Face sequence classification model of one output. Parameters keep the model's names after `model.`."""

    def __init__(self, model: Any, attention: str) -> None:
        super().__init__()
        self.model = model
        self.attention = attention

    def forward(self, batch: MicroBatch, temperature: float, through_logits: bool = False) -> tuple[Tensor, Tensor]:
        """The scores [M] in float32, twice: the shape in which a policy answers. The other arguments change nothing."""
        inputs = packed_inputs(batch, self.attention)
        hidden = self.model.base_model(**inputs).last_hidden_state[0, batch.loss_positions]
        scores = self.model.score(hidden)[:, 0].float()
        return scores, scores.detach()


def load_scalar(directory: str, learner: LearnerConfig, trust_remote_code: bool) -> ScalarModel:
    """Loads a decoder with one score per token; a causal language model gets a fresh, seeded head.

    Raises RecipeError for an architecture without a scalar head over its last hidden state (encoders pool otherwise).
    """
    from transformers import AutoModelForSequenceClassification

    assert learner.sequence_parallel == 1, "a scalar model's rows are not shared between ranks"
    config = training_config(directory, trust_remote_code)
    config.num_labels = 1
    if config.pad_token_id is None:
        # Hugging Face finds the last token of a row as the last that is no padding, and refuses batches without it.
        config.pad_token_id = config.eos_token_id[0] if isinstance(config.eos_token_id, list) else config.eos_token_id
    model = AutoModelForSequenceClassification.from_pretrained(
        directory,
        config=config,
        dtype=getattr(torch, learner.dtype),
        attn_implementation=implementation(learner.attention),
        trust_remote_code=trust_remote_code,
    )
    head = getattr(model, "score", None)
    # `out_features`, as ZeRO-3 leaves no rows in a partitioned weight.
    if type(head) is not nn.Linear or head.out_features != 1:
        raise RecipeError(
            f"path={directory!r}: {type(model).__name__} has no linear `score` of one output over its last hidden "
            "state; train a decoder (qwen2, qwen3, llama, ...), or use this model frozen"
        )
    if learner.gradient_checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
        model.train()
    return ScalarModel(model, learner.attention)
