"""Nodes and what is asked of each, from the recipe's GPUs."""

from pathlib import Path

import pytest

from rlvr.errors import RecipeError
from rlvr.launch.shape import Shape, shape_of
from rlvr.recipe.load import load_recipe

QUICKSTART = Path(__file__).parents[2] / "recipes" / "quickstart" / "addition.yaml"


def shape(*overrides: str) -> Shape:
    return shape_of(load_recipe(QUICKSTART, overrides))


def test_gpus_fill_nodes() -> None:
    """4 engines of 2 GPUs and 8 learners: 16 GPUs, two nodes of 8; 12 cores and 120 GB for each GPU."""
    gpus = ("resources.device=cuda", "resources.engines.count=4", "resources.engines.tensor_parallel=2")
    assert shape(*gpus, "resources.learners.count=8") == Shape(2, 8, 96, 960)
    # 8 + 9 = 17 GPUs take three whole nodes; colocated, engines and 8 learners share 8.
    assert shape(*gpus, "resources.learners.count=9") == Shape(3, 8, 96, 960)
    assert shape(*gpus, "resources.placement=colocated", "resources.learners.count=8") == Shape(1, 8, 96, 960)


def test_one_node_is_asked_for_what_the_recipe_uses() -> None:
    asked = ("resources.device=cuda", "resources.engines.count=1", "resources.learners.count=2")
    assert shape(*asked) == Shape(1, 3, 36, 360)
    written = ("launch.cpus_per_node=16", "launch.memory_gb_per_node=64", "launch.gpus_per_node=4")
    assert shape(*asked, *written) == Shape(1, 3, 16, 64)


def test_a_recipe_for_cpus_asks_for_none() -> None:
    assert shape() == Shape(1, 0, 2, 8)
    assert shape("launch.nodes=2") == Shape(2, 0, 2, 8)


def test_too_few_nodes_are_an_error_with_the_arithmetic() -> None:
    """R22: before anything is submitted."""
    with pytest.raises(RecipeError, match=r"asks for 20 GPUs, 2 x launch.gpus_per_node=8 are 16: 4 missing.* to 3"):
        shape("resources.device=cuda", "resources.engines.count=4", "resources.learners.count=16", "launch.nodes=2")
