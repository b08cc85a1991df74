"""`rlvr rehearse`: two real steps of any recipe, at a size that two CPU cores can take."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from rlvr.errors import Interrupted, RecipeError
from rlvr.observe.run_log import read_metrics
from rlvr.recipe.auxiliary import TeacherConfig
from rlvr.recipe.load import load_recipe
from rlvr.recipe.reward import NoiseConfig
from rlvr.recipe.rules import check as check_rules
from rlvr.recipe.schema import (
    AdditionSource,
    EngineResources,
    EnvironmentScheme,
    EvalStage,
    HubSource,
    LearnerResources,
    ModelConfig,
    Recipe,
    RewardConfig,
    RewardResources,
    RlStage,
    SftStage,
    Stage,
)
from rlvr.recipe.trained_models import ClassifierModel, TrainedModel
from rlvr.tasks.alphabet import PRINTABLE

if TYPE_CHECKING:
    from rlvr.controller.run import RunResult

STEPS = 2
# What a rehearsal cuts down to; smaller values of the recipe stay.
LIMITS = {
    "prompts_per_step": 4,
    "group_size": 4,
    "max_completion_tokens": 32,
    "batch_size": 8,
    "num_prompts": 8,
    "num_samples": 4,
    "mini_batches": 2,
    "epochs": 2,
    "learner_ranks": 2,
    "max_generation_rounds": 2,
    "pass_k": 2,
    "warmup_steps": 1,
}
# Of an environment; its rollouts get room for all of their turns.
TURN_LIMITS = {"max_turns": 3, "max_turn_tokens": 16, "max_observation_tokens": 48, "processes": 2}
SIGNAL = 0.5
"""Share of the completions that are told right, beside those that are."""
Change = tuple[str, str, str]


def rehearse(path: Path, overrides: Sequence[str], console: Console | None = None) -> None:
    """Prints what was cut, runs the rest, and says that it ran. Nothing of the rehearsal is kept."""
    console = console or Console()
    recipe = load_recipe(path, overrides)
    with tempfile.TemporaryDirectory(prefix="rlvr-rehearsal-") as scratch:
        from rlvr.controller.run import run_recipe
        from rlvr.models.build import as_reward_model, tiny_like

        tiny_like(recipe.model, Path(scratch) / "model", PRINTABLE, recipe.seed)
        if any(stage.reward.models or _critic_path(stage) for stage in recipe.stages):
            as_reward_model(str(Path(scratch) / "model"), Path(scratch) / "reward-model", recipe.seed)
        small, changes = shrink(recipe, Path(scratch))
        console.print(_table(recipe.name, changes))
        result = run_recipe(small, console=console)
        idle = [stage.name for stage in small.stages if not isinstance(stage, EvalStage) and _is_idle(result, stage)]
    if result.signal is not None:
        raise Interrupted(result.signal)
    if idle:
        console.print(
            f"[yellow]Nothing was learnt in {', '.join(idle)}[/yellow]: no step had a gradient. Either no completion "
            "was kept, or all of them have the same advantage."
        )
    steps = ", ".join(f"{stage.steps} {stage.kind} steps" for stage in result.stages if stage.steps)
    console.print(f"[green]{recipe.name} rehearses[/green]: {steps} on the real stack in {result.seconds:.0f} s.")


def _is_idle(result: RunResult, stage: Stage) -> bool:
    """Whether no step of the stage had a gradient other than 0."""
    rows = [row["metrics"] for row in read_metrics(result.run.path) if row["stage"] == stage.name]
    return not any(row.get("grad_norm", (0.0, 0.0))[0] for row in rows)


def shrink(recipe: Recipe, scratch: Path) -> tuple[Recipe, list[Change]]:
    """The recipe at rehearsal size, and what was changed as (key, from, to). Slots and formulas stay as they are."""
    changes: list[Change] = []
    ranks = min(recipe.resources.learners.count, LIMITS["learner_ranks"])
    resources = recipe.resources.model_copy(
        update={
            "device": "cpu",
            "placement": "separate",
            "ray_address": None,
            "engines": EngineResources(count=1),
            "learners": LearnerResources(count=ranks),
            "rewards": RewardResources(count=1, processes=1),
        }
    )
    was = recipe.model.path or "init"
    changes.append(("model", was, "tiny random model of the same architecture, character tokenizer"))
    engines, learners = recipe.resources.engines, recipe.resources.learners
    changes.append(
        (
            "resources",
            f"engines {engines.count}, learner ranks {learners.count}",
            f"engines 1, learner ranks {ranks}, CPU",
        )
    )
    stages = [_shrink_models(_shrink_stage(stage, changes), scratch, changes) for stage in recipe.stages]
    small = recipe.model_copy(
        update={
            "name": "rehearsal",
            "runs_dir": str(scratch / "runs"),
            "model": ModelConfig(path=str(scratch / "model"), chat_template=recipe.model.chat_template),
            "resources": resources,
            "stages": stages,
        }
    )
    check_rules(small)
    return small, changes


def _shrink_stage(stage: Stage, changes: list[Change]) -> Stage:
    at = f"stages.{stage.name}"
    limits = LIMITS | TURN_LIMITS

    def cut(section: Any, key: str, *names: str) -> Any:
        update = {}
        for name in names:
            value, limit = getattr(section, name), limits[name]
            if value is None or value > limit:
                update[name] = limit
                changes.append((f"{at}.{key}{name}", str(value), str(limit)))
        return section.model_copy(update=update)

    rollout = cut(stage.rollout, "rollout.", "prompts_per_step", "group_size")
    if isinstance(rollout.scheme, EnvironmentScheme):
        scheme = cut(rollout.scheme, "rollout.scheme.", *TURN_LIMITS)
        turns = scheme.max_turns
        limits["max_completion_tokens"] = turns * scheme.max_turn_tokens + (turns - 1) * scheme.max_observation_tokens
        rollout = rollout.model_copy(update={"scheme": scheme})
    if not isinstance(stage, SftStage):
        # A demonstration must keep its length; nothing is generated that long, see the evaluation's own limit.
        rollout = cut(rollout, "rollout.", "max_completion_tokens")
        if rollout.window_tokens is not None and rollout.max_completion_tokens % rollout.window_tokens:
            half = rollout.max_completion_tokens // 2
            changes.append((f"{at}.rollout.window_tokens", str(rollout.window_tokens), str(half)))
            rollout = rollout.model_copy(update={"window_tokens": half})
    rollout = rollout.model_copy(
        update={
            "max_prompt_tokens": max(rollout.max_prompt_tokens, 2048),
            "max_concurrent_rollouts": 16,
            "kv_cache_gb": None,
        }
    )
    evaluation = cut(stage.evaluation, "evaluation.", "num_prompts", "num_samples")
    k = tuple(k for k in evaluation.k if k <= max(1, evaluation.num_samples))
    evaluation = evaluation.model_copy(
        update={"every": 0, "max_completion_tokens": limits["max_completion_tokens"], "k": k or (1,)}
    )
    update: dict[str, Any] = {
        "rollout": rollout,
        "evaluation": evaluation,
        "task": _reachable(stage.task, at, changes),
        # A random model is cut at its limit nearly always.
        "monitor": stage.monitor.model_copy(update={"tensorboard": False, "max_truncated_fraction": 1.0}),
    }
    if isinstance(stage, EvalStage):
        return stage.model_copy(update=update)
    learner = cut(stage.learner, "learner.", "epochs", "mini_batches")
    optimizer = learner.optimizer
    # At the recipe's size a warm-up would outlast the rehearsal, and nothing would move.
    optimizer = optimizer.model_copy(update={"warmup_steps": min(optimizer.warmup_steps, 1)})
    learner = learner.model_copy(update={"attention": "varlen_sdpa", "offload": "none", "optimizer": optimizer})
    if stage.learner.offload != "none":
        changes.append(
            (f"{at}.learner.offload", stage.learner.offload, "none (its CPU optimizer compiles for a minute)")
        )
    changes.append((f"{at}.steps", str(stage.steps), str(min(stage.steps, STEPS))))
    update |= {"learner": learner, "steps": min(stage.steps, STEPS)}
    if isinstance(stage, SftStage):
        return cut(stage, "", "batch_size").model_copy(update=update)
    assert isinstance(stage, RlStage)
    update["reward"] = _with_signal(stage.reward, at, changes)
    parts: dict[str, Any] = {"filter": cut(stage.objective.filter, "objective.filter.", "max_generation_rounds")}
    if stage.objective.advantage == "pass_at_k":
        parts["advantage_options"] = cut(stage.objective.advantage_options, "objective.advantage_options.", "pass_k")
    if stage.objective.critic is not None:
        parts["critic"] = cut(stage.objective.critic, "objective.critic.", "mini_batches", "epochs", "warmup_steps")
    return stage.model_copy(update=update | {"objective": stage.objective.model_copy(update=parts)})


def _with_signal(reward: RewardConfig, at: str, changes: list[Change]) -> RewardConfig:
    """A random model is never right, and where all rewards are equal hardly a method trains: half are told right."""
    noise = reward.noise or NoiseConfig(correction="none")
    if (noise.term or reward.correct_term) not in reward.process_terms or noise.added_false_positive >= SIGNAL:
        return reward
    changes.append((f"{at}.reward.noise.added_false_positive", f"{noise.added_false_positive:g}", f"{SIGNAL:g}"))
    return reward.model_copy(update={"noise": noise.model_copy(update={"added_false_positive": SIGNAL})})


def _critic_path(stage: Stage) -> str | None:
    critic = stage.objective.critic if isinstance(stage, RlStage) else None
    return critic.path if critic else None


def _shrink_models(stage: Stage, scratch: Path, changes: list[Change]) -> Stage:
    """Models beside the policy that hold weights become tiny ones on CPU, of the rehearsal's own tokenizer."""
    models: dict[str, Any] = dict(stage.reward.models)
    for name, model in stage.reward.models.items():
        if isinstance(model, TrainedModel):
            path = str(scratch / "reward-model") if isinstance(model, ClassifierModel) else None
            # A character is a token here, so texts are longer than the recipe's.
            limit = {"max_tokens": 32768} if isinstance(model, ClassifierModel) else {}
            models[name] = model.model_copy(update={"path": path, "gpus": 0.0, **limit})
            shown = model.path or "the policy's weights"
            changes.append((f"stages.{stage.name}.reward.models.{name}", shown, "a tiny random model on CPU"))
    update: dict[str, Any] = {"reward": stage.reward.model_copy(update={"models": models})}
    critic = stage.objective.critic if isinstance(stage, RlStage) else None
    if isinstance(stage, RlStage) and critic is not None:
        path = str(scratch / "reward-model") if critic.path else None
        tiny = critic.model_copy(update={"path": path, "gpus": 0.0})
        update["objective"] = stage.objective.model_copy(update={"critic": tiny})
        shown = critic.path or "the policy's weights"
        changes.append((f"stages.{stage.name}.objective.critic", shown, "a tiny random model on CPU"))
    teacher = stage.objective.teacher if isinstance(stage, RlStage) else None
    if isinstance(stage, RlStage) and teacher is not None and teacher.path is not None:
        own = update.get("objective", stage.objective)
        update["objective"] = own.model_copy(update={"teacher": TeacherConfig(path=str(scratch / "model"))})
        changes.append((f"stages.{stage.name}.objective.teacher", teacher.path, "the rehearsal's own model"))
    return stage.model_copy(update=update)


def _reachable(task: Any, at: str, changes: list[Change]) -> Any:
    """Hub datasets that cannot be loaded here are stood in for by generated additions."""
    from rlvr.tasks.sources import load_rows

    update: dict[str, Any] = {}
    for split in ("train", "test"):
        source = getattr(task, split)
        if not isinstance(source, HubSource):
            continue
        limited = source.model_copy(update={"size": 64})
        try:
            load_rows(limited)
            update[split] = limited
        except RecipeError:
            update[split] = AdditionSource(source="addition", size=64, split=split)
            changes.append(
                (f"{at}.task.{split}", source.dataset, "generated additions (the dataset cannot be had here)")
            )
    return task.model_copy(update=update)


def _table(name: str, changes: Sequence[Change]) -> Table:
    table = Table(title=f"Rehearsing {name}: what differs from the recipe", title_justify="left")
    for column in ("key", "recipe", "rehearsal"):
        table.add_column(column, overflow="fold", no_wrap=column == "key")
    for change in changes:
        table.add_row(*change)
    return table
