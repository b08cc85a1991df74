"""Rules on what a stage takes over from earlier stages of its run: weights, critics, teachers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from rlvr.recipe.arithmetic import critic_optimizer_steps
from rlvr.recipe.schema import EvalStage, RlStage, Stage

Fault = tuple[tuple[str | int, ...], Any, str]


def origin_faults(stages: Sequence[Stage], index: int) -> Iterator[Fault]:
    """(path below stage `index`, value, fault with remedy) of every name that is no earlier stage's, or none of use."""
    stage, before = stages[index], stages[:index]
    if isinstance(stage, EvalStage):
        return
    train = [s.name for s in before if not isinstance(s, EvalStage)]
    if stage.start_from is not None and stage.start_from not in train:
        yield ("start_from",), stage.start_from, _unknown("trains", train)
    if not isinstance(stage, RlStage):
        return
    critic, teacher = stage.objective.critic, stage.objective.teacher
    if critic is not None and critic.from_stage is not None:
        leave = [s.name for s in before if isinstance(s, RlStage) and critic_optimizer_steps(s)]
        if critic.from_stage not in leave:
            yield ("objective", "critic", "from_stage"), critic.from_stage, _unknown("trains a critic", leave)
    if teacher is not None and teacher.from_stage is not None and teacher.from_stage not in train:
        yield ("objective", "teacher", "from_stage"), teacher.from_stage, _unknown("trains", train)


def _unknown(what: str, have: Sequence[str]) -> str:
    known = f"those before this one that do: {', '.join(have)}" if have else "none before this one does"
    return f"names no stage that {what}; {known}"
