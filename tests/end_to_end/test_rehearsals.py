"""Every recipe of the repository takes two real steps per stage here, as `rlvr rehearse` runs it; one Ray for all."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from rlvr.cli.rehearse import rehearse
from tests.end_to_end.conftest import ROOT

# Reward models have a schema of their own: tests/controller/test_reward_model.py.
RECIPES = sorted(path for path in (ROOT / "recipes").rglob("*.yaml") if path.parent.name != "reward_models")

# Their gates ask for a format that a random model does not hit, and behind a closed gate every reward is 0.
CLOSED = {"gra", "addition-gated", "repair-gra"}


@pytest.mark.slow
@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_rehearses(ray_cluster: None, recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    console = Console(file=io.StringIO(), width=160)
    rehearse(recipe, [], console)
    said = console.file.getvalue()
    assert "rehearses" in said
    assert ("Nothing was learnt" in said) == (recipe.stem in CLOSED)
