"""Every recipe of the repository loads, checks and reads back from its resolved form."""

from pathlib import Path

import pytest
from rich.console import Console

from rlvr.cli.check import check
from rlvr.recipe.load import dump_recipe, load_recipe

ROOT = Path(__file__).parents[2]
# Reward models have a schema of their own: tests/controller/test_reward_model.py.
RECIPES = sorted(path for path in (ROOT / "recipes").rglob("*.yaml") if path.parent.name != "reward_models")


@pytest.mark.parametrize("path", RECIPES, ids=[path.stem for path in RECIPES])
def test_it_is_consistent_and_its_resolved_form_reads_back(path, tmp_path):
    with (tmp_path / "shown.txt").open("w") as shown:
        recipe = check(path, console=Console(file=shown, width=140))
    text = (tmp_path / "shown.txt").read_text()
    assert recipe.name in text
    assert "The recipe is consistent" in text
    assert recipe.description, "one line for `rlvr check`"
    for stage in recipe.stages:
        assert f"stage {stage.name}" in text
    resolved = tmp_path / "resolved.yaml"
    resolved.write_text(dump_recipe(recipe))
    assert load_recipe(resolved) == recipe


def test_resolved_output_is_a_recipe(tmp_path):
    with (tmp_path / "resolved.yaml").open("w") as out:
        recipe = check(ROOT / "recipes/quickstart/addition.yaml", resolved=True, console=Console(file=out))
    assert load_recipe(tmp_path / "resolved.yaml") == recipe
