"""`rlvr eval`: the training evaluator on any model."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from rlvr.errors import RecipeError
from rlvr.recipe.load import load_recipe
from rlvr.recipe.schema import EvalStage, ModelConfig, Recipe


def evaluate(
    path: Path, overrides: Sequence[str], model: str | None, output: Path | None, console: Console | None = None
) -> None:
    """Evaluates on the held-out prompts of the recipe's last stage and prints every score with its interval."""
    recipe = evaluation_recipe(load_recipe(path, overrides), model)
    from rlvr.controller.evaluate import evaluate as run
    from rlvr.controller.run import check_golds, stage_prompts
    from rlvr.controller.rundir import RunDir
    from rlvr.controller.session import Session

    stage = recipe.stages[0]
    with (
        tempfile.TemporaryDirectory() as scratch,
        Session(recipe, RunDir(Path(scratch)), needs_learner=False) as session,
    ):
        if stage.task.test is None:
            raise RecipeError("task.test: the recipe has no held-out prompts; add a `test` source to `task`")
        test = stage_prompts(session, stage, stage.task.test)
        check_golds(session.rewards(stage), stage, None, test)
        result, _ = run(session, stage, test.prompts)
    confidence = f"{stage.evaluation.confidence:.0%}"
    table = Table(title=f"{model or recipe.name}: {result.num_prompts} prompts", title_justify="left")
    for column in ("score", "value", f"{confidence} interval"):
        table.add_column(column, justify="left" if column == "score" else "right")
    for name, estimate in result.metrics.items():
        table.add_row(name, f"{estimate.value:.4f}", f"{estimate.low:.4f} to {estimate.high:.4f}")
    table.add_row("truncated", f"{result.truncated_fraction:.4f}", "")
    table.add_row("verifier failed", f"{result.failed_fraction:.4f}", "")
    table.add_row("tokens per completion", f"{result.mean_completion_tokens:.1f}", "")
    (console or Console()).print(table)
    if output is not None:
        output.write_text(json.dumps(result.to_json() | {"model": model, "recipe": str(path)}, indent=2))


def evaluation_recipe(recipe: Recipe, model: str | None) -> Recipe:
    """The recipe's last stage as a single evaluation stage, over another model if one is given."""
    last = recipe.stages[-1]
    sections = {name: getattr(last, name) for name in EvalStage.model_fields if name not in ("kind", "name")}
    update: dict[str, object] = {"stages": [EvalStage(kind="eval", name="eval", **sections)]}
    if model is not None:
        if (Path(model) / "adapter_config.json").is_file() and not (Path(model) / "config.json").is_file():
            raise RecipeError(
                f"--model={model}: is a LoRA adapter and no model; merge it with `rlvr export RUN {model}-merged "
                "--form merged` and evaluate that"
            )
        update["model"] = ModelConfig(path=model, trust_remote_code=recipe.model.trust_remote_code)
    return recipe.model_copy(update=update)
