"""`rlvr export`: a checkpoint as a Hugging Face directory."""

from __future__ import annotations

from pathlib import Path

import typer

from rlvr.errors import RecipeError, RlvrError
from rlvr.recipe.load import load_recipe


def export(run_dir: Path, output: Path, checkpoint: str | None, form: str | None = None) -> None:
    """Loads a checkpoint into the learner, exports, compares every tensor, and decodes with the result.

    `form` is merged or adapter, for a stage that trained adapters; None takes the recipe's.
    """
    if output.exists():
        raise RecipeError(f"{output}: exists already; name a directory that does not")
    if not (run_dir / "recipe.yaml").is_file():
        raise RecipeError(f"{run_dir}: no run directory (it has no recipe.yaml)")
    recipe = load_recipe(run_dir / "recipe.yaml")
    from rlvr.controller.checkpoint import damaged_files, latest_valid, read_state
    from rlvr.controller.export import export_form, export_verified, load_back
    from rlvr.controller.run import starting_weights
    from rlvr.controller.rundir import RunDir
    from rlvr.controller.session import Session
    from rlvr.recipe.arithmetic import total_optimizer_steps

    run = RunDir(run_dir)
    if checkpoint is None:
        found = latest_valid(run.checkpoints)
        if found is None:
            raise RlvrError(f"{run.checkpoints}: holds no complete checkpoint")
        path, state = found
    else:
        path = run.checkpoints / checkpoint
        damaged = damaged_files(path)
        if damaged:
            raise RlvrError(f"{path}: damaged or missing: {', '.join(damaged[:5])}; choose another checkpoint")
        state = read_state(path)
    stage = recipe.stages[state.stage_index]
    assert stage.kind != "eval", stage
    written = export_form(stage, last=True, asked=form)
    with Session(recipe, run, needs_engines=False) as session:
        source = starting_weights(run, recipe, state.stage_index, session.model_dir)
        session.learner.setup(source, stage.learner, total_optimizer_steps(stage), recipe.seed, reference=False)
        session.learner.load(path / "learner")
        export_verified(session.learner, output, written)
    load_back(output)
    typer.echo(f"{output}: {path.name} of {recipe.name}; every tensor compared, loaded back and run.")
