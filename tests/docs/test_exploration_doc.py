"""docs/objectives/exploration.md: its sections load in a recipe, its numbers are what the functions say."""

import json
import re
from pathlib import Path

import pytest
import torch
import yaml

from rlvr.objectives.exploration import elliptical_bonus
from rlvr.objectives.selection import max_variance
from rlvr.recipe.load import load_recipe
from rlvr.recipe.schedule import annealed

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "objectives" / "exploration.md").read_text()
BLOCKS = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)]


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: ",".join(next(iter(block.values()))))
def test_each_section_loads(block):
    written = [(section, key, value) for section, keys in block.items() for key, value in keys.items()]
    overrides = [f"stages.rl.{section}.{key}={json.dumps(value)}" for section, key, value in written]
    stage = load_recipe(ROOT / "recipes" / "quickstart" / "addition.yaml", overrides).stages[1]
    for section, key, value in written:
        found = getattr(getattr(stage, section), key)
        found = found.model_dump() if isinstance(value, dict) else found
        assert found == value or value.items() <= found.items(), (section, key)


def test_the_numbers():
    schedule = next(block["rollout"] for block in BLOCKS if "temperature_schedule" in block.get("rollout", {}))
    stage = load_recipe(
        ROOT / "recipes" / "quickstart" / "addition.yaml",
        [f"stages.rl.rollout.{key}={json.dumps(value)}" for key, value in schedule.items()],
    ).stages[1]
    line = [annealed(stage.rollout.temperature, stage.rollout.temperature_schedule, step) for step in range(6)]
    assert line == pytest.approx([1.0, 0.9, 0.8, 0.7, 0.6, 0.6])
    assert "1.0, 0.9, 0.8, 0.7, then 0.6" in PAGE

    rewards = [0, 0, 0, 0.5, 1, 1]
    assert [rewards[i] for i in max_variance(rewards, 4)] == [0, 0, 1, 1]
    assert "0, 0, 0, 0.5, 1, 1 four are kept as 0, 0, 1, 1" in PAGE

    # Centred: -.25 three times and .75; S = .01 + .75; leverages .0625 / .76 and .5625 / .76; h / (1 - h).
    points = torch.tensor([[0.0, 0.0]] * 3 + [[1.0, 0.0]])
    bonus = elliptical_bonus(points, torch.zeros(4, dtype=torch.long), ridge=0.01)
    assert bonus.tolist() == pytest.approx([0.0896] * 3 + [2.848], rel=1e-3)
    assert "0.0896 each, and 2.848" in PAGE
