"""Low-rank adapters in place of full fine-tuning: `learner.lora`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from rlvr.recipe.section import Section

if TYPE_CHECKING:
    from rlvr.recipe.schema import RlStage, SftStage

MAX_ENGINE_RANK = 512  # the largest rank that vLLM serves
# Tied to each other in many models, and the learner scores tokens from the head itself.
UNADAPTABLE = ("lm_head", "embed_tokens", "score")

Fault = tuple[tuple[str, ...], object, str]


class LoraConfig(Section):
    """LoRA (Hu et al. 2021, 2106.09685), in RL as PERL (2403.10704): the base stays frozen, adapters learn."""

    rank: int = Field(16, ge=1, description="Rank of the update of each adapted layer.")
    alpha: float = Field(
        32.0, gt=0, description="The update is scaled by alpha / rank, or by alpha / sqrt(rank) with rslora."
    )
    dropout: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Of the adapters' input while an sft stage learns; in an rl stage anything but 0 is refused.",
    )
    target_modules: Literal["all-linear"] | tuple[str, ...] = Field(
        "all-linear",
        description="Names of the linear layers that get an adapter, e.g. [q_proj, v_proj]; all-linear: those of "
        "attention and MLP, not the output head.",
    )
    rslora: bool = Field(False, description="Scale by alpha / sqrt(rank), so that large ranks learn as fast.")
    dora: bool = Field(
        False, description="Also learn the length of each row of an adapted weight (DoRA, 2402.09353); slower."
    )
    init: Literal["kaiming", "gaussian"] = Field(
        "kaiming", description="Of the adapter's first matrix, seeded; the second is 0, so training starts at the base."
    )
    transfer: Literal["merged", "adapter"] = Field(
        "merged",
        description="What engines are sent after a step: base and adapter added up (all weights), or the adapter "
        "alone, which vLLM then applies to its own copy of the base.",
    )
    export: Literal["merged", "adapter"] = Field(
        "merged",
        description="What the last stage that trains leaves under export/: a model, or the adapter as peft writes it. "
        "Earlier stages leave merged models.",
    )

    @property
    def scaling(self) -> float:
        """What the product of the two matrices is multiplied by."""
        return self.alpha / (self.rank**0.5 if self.rslora else self.rank)


def lora_faults(stage: SftStage | RlStage, transport: str) -> Iterator[Fault]:
    """(key in `learner.lora`, value, fault) of a stage that trains adapters; `transport` is `resources.transfer`."""
    lora = stage.learner.lora
    assert lora is not None
    if lora.dropout and stage.kind == "rl":
        text = "with dropout the learner scores another policy than the one that the engine sampled from; use 0"
        yield ("dropout",), lora.dropout, text
    if not lora.target_modules:
        yield ("target_modules",), [], "names no layer, so nothing would train; name some, or use all-linear"
    for name in lora.target_modules if not isinstance(lora.target_modules, str) else ():
        if name.rpartition(".")[2] in UNADAPTABLE:
            text = f"{name} stays as it is: only linear layers of attention and MLP can be adapted; leave it out"
            yield ("target_modules",), list(lora.target_modules), text
    if lora.dora and stage.learner.zero_stage == 3:
        text = (
            "DoRA reads whole base weights in every forward pass, which ZeRO 3 shards; use learner.zero_stage 0, 1 or 2"
        )
        yield ("dora",), True, text
    if lora.transfer == "adapter":
        if stage.rollout.engine != "vllm":
            text = f"rollout.engine={stage.rollout.engine} applies no adapters; use merged, or rollout.engine=vllm"
            yield ("transfer",), "adapter", text
        if transport not in ("auto", "host"):
            text = (
                f"adapters travel through host memory; use resources.transfer=auto in place of {transport}, or merged"
            )
            yield ("transfer",), "adapter", text
        if lora.dora:
            yield ("transfer",), "adapter", "vLLM does not support DoRA adapters; use merged, or dora=false"
        if lora.rank > MAX_ENGINE_RANK:
            text = f"vLLM serves adapters up to rank {MAX_ENGINE_RANK}; lower it, or use lora.transfer=merged"
            yield ("rank",), lora.rank, text
    if stage.kind == "rl" and stage.objective.kl.anchor.name != "fixed":
        text = (
            "under LoRA the reference is the base with the adapters off, which cannot move; use "
            "objective.kl.anchor.name=fixed, or full fine-tuning (learner.lora=null)"
        )
        yield (), "set", text
