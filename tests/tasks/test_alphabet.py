"""The alphabet covers everything that a task can say."""

from pathlib import Path

import pytest

from rlvr.models.tokenizer import build_character_tokenizer
from rlvr.recipe.load import load_recipe
from rlvr.tasks.alphabet import characters_of
from rlvr.tasks.sources import load_rows

RECIPES = Path(__file__).parents[2] / "recipes/quickstart"


@pytest.mark.parametrize("name", ["addition", "countdown"])
def test_no_problem_of_a_quickstart_has_an_unknown_character(name):
    recipe = load_recipe(RECIPES / f"{name}.yaml", ["task.template.text='Q:{prompt}'"])
    characters = characters_of(recipe)
    assert {"Q", ":"} <= set(characters)
    assert "".join(sorted(set(characters))) == characters
    tokenizer = build_character_tokenizer(characters)
    for source in (recipe.stages[0].task.train, recipe.stages[0].task.test):
        text = "".join(row["prompt"] + row["solution"] + row["answer"] for row in load_rows(source))
        assert tokenizer.unk_token_id not in tokenizer(text)["input_ids"]


def test_the_alphabet_does_not_depend_on_what_is_drawn():
    addition = RECIPES / "addition.yaml"
    few = load_recipe(addition, ["task.train.size=16", "task.test.size=1", "task.train.seed=5"])
    assert characters_of(few) == characters_of(load_recipe(addition))


def test_characters_of_a_file(tmp_path):
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"prompt": "äb", "answer": "c", "how": "d", "unused": "z"}\n' * 16)
    source = f"{{source: jsonl, path: {rows}, columns: {{solution: how}}}}"
    recipe = load_recipe(RECIPES / "addition.yaml", [f"task.train={source}", "task.test=null", "evaluation.every=0"])
    assert characters_of(recipe) == "bcdä"
