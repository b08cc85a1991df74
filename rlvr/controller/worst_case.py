"""The largest batch goes through the learner before step 1: a stage that cannot fit fails in its first minutes."""

from __future__ import annotations

import logging
from typing import Any

from rlvr.cluster.memory import PeakMemory
from rlvr.controller.context import StageContext
from rlvr.learner.auxiliary import CORRECT, DEMONSTRATION, GUIDED, TAUGHT
from rlvr.learner.group import LearnerGroup
from rlvr.learner.imitation_losses import BEHAVIOR, RELABELLED, REPLAYED
from rlvr.learner.worst_case import shape_of, worst_shard
from rlvr.metrics import Metrics
from rlvr.recipe.schema import EnvironmentScheme, RlStage, SftStage


def try_worst_case(context: StageContext[Any]) -> Metrics:
    """Takes the worst shape through every learner of the stage. Weights, optimizer and step counts stay as they are.

    `memory/worst_case_gb` is the peak of the largest rank. Raises RecipeError when memory does not suffice.
    """
    stage, session = context.stage, context.session
    arguments: tuple[Any, ...] = ("train_sft",)
    if isinstance(stage, RlStage):
        # Where they share the GPU, engines must give it up; the push that follows wakes them.
        session.rollouts.on_all("sleep")
        temperature = session.sampling(stage, context.stage_step).temperature
        sparsity = stage.monitor.update_sparsity
        arguments = ("train_rl", stage.objective, temperature, context.stage_step, sparsity)
    peaks = _try(context, session.learner, "learner", columns_of(stage), *arguments)
    critic = session.critic(stage)
    if isinstance(stage, RlStage) and critic is not None and not critic.config.frozen:
        columns = ["returns", "values"]
        peaks += _try(context, critic.group, "objective.critic", columns, "train_values", critic.config.clip)
    metrics: Metrics = {"memory/worst_case_gb": (max(peak.host_gb for peak in peaks), 1.0)}
    if any(peak.gpu_reserved_gb for peak in peaks):
        metrics["memory/worst_case_gpu_gb"] = (max(peak.gpu_reserved_gb for peak in peaks), 1.0)
    return metrics


def columns_of(stage: SftStage | RlStage) -> list[str]:
    """The columns per token that batches of the stage may have, beside those that every batch has."""
    if isinstance(stage, SftStage):
        return []
    objective = stage.objective
    terms = {term.name for term in objective.auxiliary}
    marks = {"positive_nll": CORRECT, "distillation": TAUGHT, "sft_mix": DEMONSTRATION}
    columns = [mark for term, mark in marks.items() if term in terms]
    columns += [GUIDED] if stage.rollout.hints else []
    columns += [RELABELLED] if objective.relabel else []
    return columns + ([REPLAYED, BEHAVIOR] if objective.replay else [])


def _try(
    context: StageContext[Any], group: LearnerGroup, name: str, columns: list[str], method: str, *arguments: Any
) -> list[PeakMemory]:
    stage, learner = context.stage, group.learner
    assert learner is not None, "set up before"
    longest = stage.rollout.max_prompt_tokens + stage.rollout.max_completion_tokens
    if isinstance(stage, RlStage):
        rollouts = stage.rollout.prompts_per_step * stage.rollout.group_size // learner.mini_batches
    else:
        rollouts = stage.batch_size
    scheme = stage.rollout.scheme
    segments = scheme.max_turns if isinstance(scheme, EnvironmentScheme) else 1
    shard = worst_shard(
        longest, -(-rollouts * segments * learner.sequence_parallel // group.world_size), learner, columns, []
    )
    peaks = group.try_worst_case(method, shard, *arguments)
    text = f"{stage.name}: {shape_of(shard)} takes {_most(peaks)} on a rank of {name}"
    logging.getLogger(__name__).info(text)
    context.progress.note(text)
    return peaks


def _most(peaks: list[PeakMemory]) -> str:
    if any(peak.gpu_reserved_gb for peak in peaks):
        return f"{max(peak.gpu_reserved_gb for peak in peaks):.2f} GiB of GPU memory at most"
    return f"{max(peak.host_gb for peak in peaks):.2f} GiB at most"
