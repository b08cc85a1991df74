"""`rlvr check`: what a recipe says, and what its numbers imply. Needs no GPU, no model and no network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from rlvr.recipe.arithmetic import derive, gpu_demand, side_processes
from rlvr.recipe.load import dump_recipe, load_recipe
from rlvr.recipe.memory import memory_rows
from rlvr.recipe.schema import ModelConfig, Recipe, RewardConfig, RlStage, Section, SftStage, Stage


def check(
    recipe: Path, overrides: Sequence[str] = (), *, resolved: bool = False, console: Console | None = None
) -> Recipe:
    """Loads and checks a recipe, then prints its description and, per stage, the derived quantities.

    `resolved` prints the resolved recipe as YAML instead. Raises RecipeError with every problem found.
    """
    console = console or Console()
    loaded = load_recipe(recipe, overrides)
    if resolved:
        console.file.write(dump_recipe(loaded))
        return loaded
    console.print(f"[bold]{escape(loaded.name)}[/bold]  {escape(loaded.description)}")
    console.print(f"model      {escape(_model(loaded.model))}")
    console.print(f"resources  {_resources(loaded)}")
    for stage in loaded.stages:
        console.print(_table(stage, loaded))
    console.print("[green]The recipe is consistent.[/green]")
    return loaded


def _model(model: ModelConfig) -> str:
    if model.path is not None:
        return model.path + (f" at {model.revision}" if model.revision else "")
    assert model.init is not None
    init = model.init
    shape = f"{init.num_layers} layers x {init.hidden_size} wide"
    return f"{init.architecture} of {shape}, random weights, character tokenizer"


def _resources(recipe: Recipe) -> str:
    resources = recipe.resources
    engines, learners, total = gpu_demand(resources)
    side = side_processes(recipe.stages)
    workers = f"{resources.engines.count} engines, {resources.learners.count} learner ranks"
    workers += f", {resources.rewards.count} x {resources.rewards.processes} reward processes"
    if resources.device == "cpu":
        return f"{workers} on CPU"
    where = f"{engines} for engines " + ("shared with" if resources.placement == "colocated" else "+")
    where += f" {learners} for ranks"
    for name in dict.fromkeys(name for name, _ in side):
        where += f" + {sum(gpus for each, gpus in side if each == name):g} for {name}"
    gpus = f"{total + sum(gpus for _, gpus in side):g} GPUs ({where})"
    return f"{workers}; {gpus}" + (" if there are any, else CPU" if resources.device == "auto" else "")


def _table(stage: Stage, recipe: Recipe) -> Table:
    title = f"stage {stage.name}" + (f" ({stage.kind})" if stage.name != stage.kind else "")
    table = Table(title=escape(title), title_justify="left", caption=escape(_method(stage)), caption_justify="left")
    table.add_column("quantity")
    table.add_column("value", justify="right")
    table.add_column("how")
    for quantity, value, how in derive(stage, recipe.resources):
        table.add_row(quantity, f"{value:,}" if isinstance(value, int) else escape(value), escape(how))
    for quantity, size, how in memory_rows(recipe, stage) if isinstance(stage, SftStage | RlStage) else ():
        table.add_row(quantity, size, escape(how))
    return table


def _method(stage: Stage) -> str:
    terms = _reward(stage.reward)
    if isinstance(stage, RlStage):
        objective, loss = stage.objective, stage.objective.policy_loss
        preset = f"preset {stage.preset}: " if stage.preset else ""
        return (
            f"{preset}advantage {objective.advantage}, {_loss(loss)}, "
            f"{objective.aggregation}, KL {objective.kl.coefficient:g}, zero variance: "
            f"{objective.filter.zero_variance}; reward = {terms}; lr {stage.learner.optimizer.lr:g}"
        )
    return f"lr {stage.learner.optimizer.lr:g}" if isinstance(stage, SftStage) else f"reward = {terms}"


def _loss(loss: Section) -> str:
    """The policy loss with its settings, by name."""
    shown = dict(loss)
    name = shown.pop("name")
    if shown.get("clip_low") is not None:
        name += f" -{shown.pop('clip_low'):g}/+{shown.pop('clip_high'):g}"
    rest = [f"{key} {value}" for key, value in shown.items() if value is not None]
    return name + (f" ({', '.join(rest)})" if rest else "")


def _reward(reward: RewardConfig) -> str:
    if reward.total is not None:
        return " ".join(reward.total.split())
    if reward.table is not None:
        return f"outcome table of {reward.table.of or reward.correct_term}"
    return " + ".join(f"{term.weight:g} {name}" for name, term in reward.terms.items() if term.weight)
