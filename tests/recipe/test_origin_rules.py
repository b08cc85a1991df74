"""What a stage takes over from earlier ones: weights, a teacher, a critic, by the name of the stage."""

from pathlib import Path

import pytest

from rlvr.controller.run import starting_weights
from rlvr.controller.rundir import RunDir
from rlvr.errors import RecipeError
from rlvr.recipe.load import load_recipe

KDRL = Path(__file__).parents[2] / "recipes/methods/kdrl.yaml"


def test_a_stage_starts_where_it_says(tmp_path: Path) -> None:
    """The student goes back to the cold start; by default it would go on from its teacher."""
    run = RunDir(tmp_path)
    recipe = load_recipe(KDRL)
    assert [starting_weights(run, recipe, index, "model") for index in range(3)] == [
        "model",
        str(tmp_path / "stages" / "sft"),
        str(tmp_path / "stages" / "sft"),
    ]
    chained = load_recipe(KDRL, ["stages.rl.start_from=null"])
    assert starting_weights(run, chained, 2, "model") == str(tmp_path / "stages" / "teacher")


@pytest.mark.parametrize(
    ("override", "fault"),
    [
        ("stages.rl.start_from=other", "start_from='other': names no stage that trains; .*: sft, teacher"),
        ("stages.teacher.start_from=rl", "start_from='rl': names no stage that trains; .*: sft$"),
        ("stages.sft.start_from=sft", "start_from='sft': names no stage that trains; none before"),
        ("stages.rl.objective.teacher={from_stage: rl}", "teacher.from_stage='rl': names no stage that trains"),
        ("stages.rl.objective.teacher={from_stage: null}", "teacher: give exactly one of path and from_stage"),
        ("stages.rl.objective.teacher.path=some/model", "teacher: give exactly one of path and from_stage"),
    ],
)
def test_names_that_lead_nowhere_are_refused(override: str, fault: str) -> None:
    with pytest.raises(RecipeError, match=fault):
        load_recipe(KDRL, [override])
