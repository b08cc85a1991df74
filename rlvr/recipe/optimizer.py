"""The optimizer section, which the policy's learner and side models share."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from rlvr.recipe.section import Section


class OptimizerConfig(Section):
    """AdamW, and its schedule in optimizer steps."""

    kind: Literal["adamw", "adamw_8bit", "paged_adamw_8bit"] = Field(
        "adamw",
        description="How the moments are kept: in float32, in 8 bits (bitsandbytes), or in 8 bits that move to the CPU "
        "while GPU memory is short.",
    )
    lr: float = Field(1e-6, ge=0, description="Peak learning rate.")
    betas: tuple[float, float] = Field((0.9, 0.999), description="Decay of the first and second moment.")
    eps: float = Field(1e-8, gt=0, description="Added to the root of the second moment.")
    weight_decay: float = Field(0.0, ge=0, description="Decoupled weight decay.")
    schedule: Literal["constant", "linear", "cosine"] = Field("constant", description="After the warm-up.")
    warmup_steps: int = Field(0, ge=0, description="Optimizer steps of linear warm-up from 0.")
    min_lr_ratio: float = Field(0.0, ge=0, le=1, description="Where linear and cosine schedules end, times lr.")
    max_grad_norm: float = Field(1.0, gt=0, description="Gradients are clipped to this global L2 norm.")
