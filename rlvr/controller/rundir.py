"""Where a run's files are."""

from __future__ import annotations

import shutil
from pathlib import Path

from rlvr.controller.disk import check_space
from rlvr.errors import RecipeError
from rlvr.recipe.load import dump_recipe, load_recipe
from rlvr.recipe.schema import Recipe

CHANGEABLE = ("resources.", "launch.", "runs_dir", "description")
LEARNER_RANKS = "resources.learners.count"


class RunDir:
    """The directory of one run; every path in it has its name here."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def recipe(self) -> Path:
        return self.path / "recipe.yaml"

    @property
    def model(self) -> Path:
        """The initial model, where `model.init` builds one."""
        return self.path / "model"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def export(self) -> Path:
        """The final weights, as a Hugging Face directory."""
        return self.path / "export"

    def stage_export(self, name: str) -> Path:
        """The weights after a stage that is not the last to train."""
        return self.path / "stages" / name

    def critic_export(self, stage: str) -> Path:
        """The value model after a stage that trained one."""
        return self.path / "critics" / stage

    def reference_rewards(self, stage: str) -> Path:
        """Rewards of what the starting weights of a stage sampled, by prompt."""
        return self.path / "reference" / f"{stage}.json"

    @property
    def summary(self) -> Path:
        return self.path / "summary.json"

    @property
    def autopsy(self) -> Path:
        """Why a worker died, where that ended the run."""
        return self.path / "autopsy.txt"

    @property
    def log(self) -> Path:
        return self.path / "log.txt"


def open_run_dir(recipe: Recipe, on_existing: str) -> RunDir:
    """Creates runs_dir/name and saves the resolved recipe there.

    `on_existing`: "refuse" raises RecipeError if the run exists, "resume" takes it up, "replace" removes it first.
    """
    runs = Path(recipe.runs_dir)
    # The processes of a cluster that is joined do not start where this one did.
    run = RunDir((runs.resolve() if recipe.resources.ray_address else runs) / recipe.name)
    if run.recipe.exists():
        if on_existing == "refuse":
            raise RecipeError(
                f"name={recipe.name!r}: {run.path} holds a run already; take it up with --resume, start over with "
                "--replace, or choose another with name=..."
            )
        if on_existing == "replace":
            shutil.rmtree(run.path)
        else:
            _check_resumable(run, recipe)
    elif on_existing == "resume" and run.path.exists() and any(run.path.iterdir()):
        raise RecipeError(f"name={recipe.name!r}: {run.path} is not a run directory (it has no recipe.yaml)")
    try:
        run.path.mkdir(parents=True, exist_ok=True)
        run.recipe.write_text(dump_recipe(recipe))
    except OSError as error:
        raise RecipeError(
            f"runs_dir={recipe.runs_dir!r}: cannot write {run.path}: {error.strerror}; set runs_dir=... to a directory "
            "that you may write, with room"
        ) from error
    check_space(run.path, recipe)
    return run


def _check_resumable(run: RunDir, recipe: Recipe) -> None:
    """A resumed run must be the run that was started: only how long it goes on, and on what, may differ.

    Not the number of learner ranks: optimizer states are saved by rank.
    """
    before = load_recipe(run.recipe)
    differing = [
        key
        for key, then, now in _leaves(before.model_dump(), recipe.model_dump())
        if then != now and (key == LEARNER_RANKS or not key.startswith(CHANGEABLE)) and not key.endswith(".steps")
    ]
    if differing:
        shown = ", ".join(differing[:6])
        raise RecipeError(
            f"--resume: the recipe differs from the one {run.path} was started with, at {shown}; "
            f"only `steps`, `launch` and `resources` (but {LEARNER_RANKS}) may change. Use the same recipe, or another "
            "name=..."
        )


def _leaves(then: object, now: object, prefix: str = "") -> list[tuple[str, object, object]]:
    if isinstance(then, dict) and isinstance(now, dict):
        return [
            leaf for key in then.keys() | now.keys() for leaf in _leaves(then.get(key), now.get(key), f"{prefix}{key}.")
        ]
    if isinstance(then, list) and isinstance(now, list) and len(then) == len(now):
        return [leaf for i, (a, b) in enumerate(zip(then, now, strict=True)) for leaf in _leaves(a, b, f"{prefix}{i}.")]
    return [(prefix.rstrip("."), then, now)]
