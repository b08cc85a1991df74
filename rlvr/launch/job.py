"""One launch: a recipe, the command that runs it, and the values that every template knows."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlvr.errors import RecipeError
from rlvr.launch.render import ROOT
from rlvr.launch.shape import Shape, shape_of
from rlvr.recipe.load import load_recipe
from rlvr.recipe.schema import Recipe


@dataclass(frozen=True, slots=True)
class Job:
    """A checked recipe on its way to a cluster: where it was read, the overrides, the nodes that it needs."""

    path: Path
    overrides: tuple[str, ...]
    recipe: Recipe
    shape: Shape

    @classmethod
    def read(cls, path: Path, overrides: Sequence[str]) -> Job:
        recipe = load_recipe(path, overrides)
        return cls(path, tuple(overrides), recipe, shape_of(recipe))

    @property
    def name(self) -> str:
        return self.recipe.name

    @property
    def time_limit_s(self) -> int | None:
        hours = self.recipe.launch.time_limit_h
        return None if hours is None else round(3600 * hours)

    def runs_dir(self, target: str, *, shared: bool) -> str:
        """Where the run directory goes on the cluster; RecipeError where only `shared` storage outlives the job."""
        written = self.recipe.runs_dir
        if Path(written).is_absolute():
            return written
        if self.recipe.launch.storage is not None:
            return f"{self.recipe.launch.storage.rstrip('/')}/{written}"
        if shared:
            raise RecipeError(
                f"runs_dir={written!r}: it is relative to where the job starts, and `--to {target}` starts it in a "
                "place that is gone when the job ends; name storage that every node sees with launch.storage=/..., or "
                "an absolute runs_dir"
            )
        return written

    def inside_repository(self, target: str) -> str:
        """The recipe's path from the root of the repository; RecipeError if it is outside, for it would not arrive."""
        if self.path.resolve().is_relative_to(ROOT):
            return str(self.path.resolve().relative_to(ROOT))
        raise RecipeError(
            f"{self.path}: it is outside of {ROOT}, and `--to {target}` sends that directory only; move the recipe "
            "into it (recipes/ is a good place)"
        )

    def train(self, recipe: str, *changes: str, supervisor: Sequence[str] = (), resolved: bool = False) -> list[str]:
        """The arguments after `python -m`: `rlvr train` under its supervisor, with the cluster's `changes` last.

        A `resolved` recipe has the overrides in it.

        Always with --resume: the same command starts the run, takes it up after a requeue, and says so when it is
        finished. It refuses a run that another recipe left under this name.
        """
        overrides = () if resolved else self.overrides
        return ["rlvr.launch.supervise", *supervisor, "train", recipe, "--resume", *overrides, *changes]

    def limit(self) -> list[str]:
        """What makes the supervisor keep `launch.time_limit_h`, where no scheduler does."""
        return [] if self.time_limit_s is None else ["--time-limit-s", str(self.time_limit_s)]

    def values(self) -> dict[str, Any]:
        """What every template knows."""
        return {
            "name": self.name,
            "launch": self.recipe.launch.model_dump(),
            "nodes": self.shape.nodes,
            "gpus": self.shape.gpus,
            "cpus": self.shape.cpus,
            "memory_gb": self.shape.memory_gb,
            "time_limit_s": self.time_limit_s,
            "grace_s": self.recipe.launch.grace_s,
            "root": str(ROOT),
            "start_timeout_s": round(self.recipe.resources.start_timeout_s),
        }

    def secrets(self) -> dict[str, str]:
        """The variables of `launch.secrets` with their values here; RecipeError if one is not set."""
        wanted = self.recipe.launch.secrets
        missing = [name for name in wanted if not os.environ.get(name)]
        if missing:
            raise RecipeError(
                f"launch.secrets: {', '.join(missing)} {'is' if len(missing) == 1 else 'are'} not set here; export "
                f"{missing[0]}=... before you launch, or take the name out of launch.secrets"
            )
        return {name: os.environ[name] for name in wanted}
