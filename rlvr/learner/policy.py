"""A causal language model that answers a packed micro-batch with the logprobs of its loss tokens.

Legend: N = tokens of the packed row, M = its loss tokens, d = hidden size.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from rlvr.errors import RecipeError
from rlvr.learner.attention import Documents, implementation
from rlvr.learner.batch import MicroBatch
from rlvr.learner.logprobs import LogprobHead
from rlvr.learner.sequence_parallel import SequenceGroup, sequence_groups

if TYPE_CHECKING:
    from rlvr.recipe.schema import LearnerConfig

# Settings by which models of transformers bend their logits after the head; at these values they do nothing.
NEUTRAL_LOGIT_SETTINGS: dict[str, tuple[float | None, ...]] = {
    "final_logit_softcapping": (None,),  # gemma2, gemma3
    "logit_scale": (None, 1.0),  # cohere
    "logits_scaling": (None, 1.0),  # granite
    "lm_head_multiplier": (None, 1.0),  # falcon-h1
}
# Largest difference (nats) between our logprobs and the model's own; bfloat16 rounds logits to 3 digits.
PROBE_TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 0.1}


def packed_inputs(batch: MicroBatch, attention: str) -> dict[str, Any]:
    """What a Hugging Face decoder is called with on a packed micro-batch."""
    # use_cache=False and no mask: with either, transformers no longer sees where documents start.
    inputs: dict[str, Any] = {
        "input_ids": batch.input_ids,
        "position_ids": batch.position_ids,
        "attention_mask": None,
        "use_cache": False,
    }
    if attention == "varlen_sdpa":
        inputs["documents"] = batch.documents
    return inputs


class Policy(nn.Module):
    """The model under training, or a frozen reference. Its parameters' names are the model's own after `model.`."""

    def __init__(self, model: Any, attention: str, chunk_tokens: int, sequence: SequenceGroup | None = None) -> None:
        """`sequence`: the ranks that share each row of tokens with this one; all of them call `forward` alike."""
        super().__init__()
        self.sequence = sequence
        self.model = model
        self.attention = attention
        self.chunk_tokens = chunk_tokens

    def forward(
        self, batch: MicroBatch, temperature: float, through_logits: bool = False, states: bool = False
    ) -> tuple[Tensor, Tensor]:
        """(logprobs [M], entropies [M]) in nats at the batch's loss positions, of softmax(logits / temperature).

        `through_logits` takes the model's own path, [N, vocabulary] included: for the probe only. With `states` the
        first result is the last hidden states [M, d] instead, and the head is not asked.
        """
        inputs = packed_inputs(batch, self.attention)
        if through_logits:
            logits = self.model(**inputs).logits[0, batch.loss_positions].float() / temperature
            distribution = logits.log_softmax(-1)
            entropies = -(distribution.exp() * distribution).sum(-1)
            return distribution.gather(-1, batch.targets[:, None])[:, 0], entropies
        positions, targets = batch.loss_positions, batch.targets
        counts: list[int] = []
        if self.sequence is not None:
            inputs, positions, targets, counts = self.sequence.own_part(inputs, positions, targets)
        hidden = self.model.get_decoder()(**inputs).last_hidden_state[0, positions]
        if states:
            found = hidden, hidden[:, 0]
        else:
            found = self.model.get_output_embeddings()(hidden, targets, temperature, self.chunk_tokens)
        if self.sequence is None:
            return found
        return self.sequence.everyone(found[0], counts), self.sequence.everyone(found[1], counts)


def load_policy(directory: str, learner: LearnerConfig, trust_remote_code: bool) -> Policy:
    """Loads a Hugging Face causal language model for training; raises RecipeError for one we would score wrongly.

    Dropout is off: with it the trainer would score another policy than the one that the engine sampled from.
    """
    from transformers import AutoModelForCausalLM

    config = training_config(directory, trust_remote_code)
    for name, neutral in NEUTRAL_LOGIT_SETTINGS.items():
        if getattr(config, name, None) not in neutral:
            raise RecipeError(
                f"model.path={directory!r}: its config has {name}={getattr(config, name)}, which changes logits after "
                "the head; the learner scores tokens from the head directly and does not support that"
            )
    model = AutoModelForCausalLM.from_pretrained(
        directory,
        config=config,
        dtype=getattr(torch, learner.dtype),
        attn_implementation=implementation(learner.attention),
        trust_remote_code=trust_remote_code,
    )
    check_heads(config.get_text_config(), learner.sequence_parallel, directory)
    head = model.get_output_embeddings()
    if type(head) is not nn.Linear:
        raise RecipeError(f"model.path={directory!r}: its output head is a {type(head).__name__}, not a Linear")
    head.__class__ = LogprobHead
    # Evaluation mode (as loaded) is what engines sample in: no dropout, no router noise. Activations are recomputed in
    # training mode only, which then differs in nothing else, dropout being 0.
    if learner.gradient_checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
        model.train()
    sequence, _ = sequence_groups(learner.sequence_parallel)
    return Policy(model, learner.attention, learner.logprob_chunk_tokens, sequence)


def check_heads(config: Any, sequence_parallel: int, directory: str) -> None:
    """Raises RecipeError where the ranks of a sequence group cannot share the heads of a model evenly."""
    heads = config.num_attention_heads
    kv_heads = getattr(config, "num_key_value_heads", None) or heads
    if heads % sequence_parallel or kv_heads % sequence_parallel:
        shared = math.gcd(heads, kv_heads)
        raise RecipeError(
            f"learner.sequence_parallel={sequence_parallel}: must divide the {heads} heads and {kv_heads} key/value "
            f"heads of {directory!r}; feasible: {', '.join(str(d) for d in range(1, shared + 1) if shared % d == 0)}"
        )


def training_config(directory: str, trust_remote_code: bool) -> Any:
    """The model's configuration with every dropout at 0."""
    from transformers import AutoConfig
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    config = AutoConfig.from_pretrained(directory, trust_remote_code=trust_remote_code)
    for name, value in config.to_dict().items():
        if isinstance(value, float) and ("dropout" in name or name.endswith("pdrop")):
            setattr(config, name, 0.0)
    return config


def check_same_tokens(policy_dir: str, teacher_dir: str, trust_remote_code: bool) -> None:
    """Raises RecipeError where a teacher's tokens are not the policy's: its logprobs would be of other texts."""
    from transformers import AutoTokenizer

    ours, theirs = (
        AutoTokenizer.from_pretrained(directory, trust_remote_code=trust_remote_code).get_vocab()
        for directory in (policy_dir, teacher_dir)
    )
    if ours != theirs:
        different = len(ours.items() ^ theirs.items())
        raise RecipeError(
            f"objective.teacher.path={teacher_dir!r}: its tokenizer differs from the policy's in {different} entries; "
            "distillation compares logprobs of the same tokens, so choose a teacher of the same family"
        )


def probe_batches(vocabulary: int, device: torch.device | str) -> tuple[MicroBatch, MicroBatch]:
    """Two documents in one row, and the second alone; the loss tokens are the second's in both."""
    first = torch.arange(5) * 7 % vocabulary
    second = (torch.arange(9) * 5 + 1) % vocabulary

    def batch(documents: list[Tensor]) -> MicroBatch:
        lengths = [len(document) - 1 for document in documents]
        count, last = sum(lengths), lengths[-1]
        zeros = torch.zeros(last, device=device)
        return MicroBatch(
            input_ids=torch.cat([document[:-1] for document in documents])[None].to(device),
            position_ids=torch.cat([torch.arange(length) for length in lengths])[None].to(device),
            documents=Documents.of_lengths(lengths, device),
            loss_positions=torch.arange(count - last, count, device=device),
            targets=documents[-1][1:].to(device),
            weights=zeros,
            advantages=zeros,
            behavior_logprobs=zeros,
            num_loss_tokens=last,
        )

    return batch([first, second]), batch([second])


def check_probe(ours: Tensor, reference: Tensor, directory: str, learner: LearnerConfig) -> None:
    """Raises RecipeError when packed, chunked logprobs differ from the model's own logits on the document alone.

    Catches, for any architecture, attention that leaks between documents (linear attention, convolutions, a mask that
    is ignored) and logits that are changed after the head. Non-finite weights are not its business.
    """
    difference = float((ours - reference).abs().max())
    if difference > PROBE_TOLERANCE[getattr(torch, learner.dtype)]:
        raise RecipeError(
            f"model.path={directory!r} with learner.attention={learner.attention!r}: logprobs of a packed sequence "
            f"differ by {difference:.2g} nats from those of the sequence alone; this architecture cannot be packed "
            "this way (try learner.attention='sdpa'), or it changes its logits after the head"
        )
