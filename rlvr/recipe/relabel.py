"""The section of a recipe that puts completions under the instruction that they fulfilled."""

from __future__ import annotations

from pydantic import Field

from rlvr.recipe.section import Section


class Label(Section):
    """What a prompt should have asked for, given the reward of a completion."""

    min_reward: float = Field(description="Of all labels that a reward reaches, the highest is taken.")
    text: str = Field(description="Replaces `asked` in the prompt.")


class Relabel(Section):
    """Hindsight instruction relabelling (HIR, 2302.05206), return conditioning: imitation of good and bad alike.

    With policy loss `hir` a completion also stands under the instructions that it did not fulfil, for contrast.
    """

    asked: str = Field(min_length=1, description="Text of the prompts (task.template) that asks for the best outcome.")
    labels: tuple[Label, ...] = Field(min_length=1, description="One per outcome; rewards below all change nothing.")
