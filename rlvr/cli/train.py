"""`rlvr train` and `rlvr sft`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from signal import Signals

import typer
from rich.console import Console

from rlvr.errors import EXIT_CODES, RecipeError
from rlvr.recipe.load import load_recipe
from rlvr.recipe.schema import Recipe


def train(
    path: Path, overrides: Sequence[str], on_existing: str, only: str | None = None, console: Console | None = None
) -> None:
    """Runs the stages of a recipe, or only those of one kind. Ended by a signal, it exits as `EXIT_CODES` says."""
    recipe = load_recipe(path, overrides)
    if only is not None:
        recipe = only_kind(recipe, only, path)
    # Imported late: it brings torch, and a faulty recipe should be told at once.
    from rlvr.controller.run import run_recipe

    result = run_recipe(recipe, on_existing, console or Console())
    typer.echo(f"Everything is in {result.run.path}/ (the model: {result.run.export}).")
    if result.signal is not None:
        typer.echo(f"Interrupted by {Signals(result.signal).name}; go on with --resume.")
        raise typer.Exit(EXIT_CODES[result.signal])


def only_kind(recipe: Recipe, kind: str, path: Path) -> Recipe:
    """The recipe with its stages of one kind; RecipeError if it has none."""
    stages = [stage for stage in recipe.stages if stage.kind == kind]
    if not stages:
        raise RecipeError(f"{path}: has no `{kind}` stage; its stages are {[stage.kind for stage in recipe.stages]}")
    return recipe.model_copy(update={"stages": stages})
