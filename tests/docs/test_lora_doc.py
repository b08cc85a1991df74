"""docs/lora.md names every key, and its recipe and commands are what there is."""

import re
from pathlib import Path

import typer

from rlvr.cli.main import app
from rlvr.recipe.load import load_recipe
from rlvr.recipe.lora import LoraConfig

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "lora.md").read_text(encoding="utf-8")


def test_every_key_is_mentioned() -> None:
    assert [name for name in LoraConfig.model_fields if f"`{name}" not in PAGE and f"{name}:" not in PAGE] == []


def test_the_recipe_checks_and_is_that_of_the_quickstart(tmp_path: Path) -> None:
    (section,) = re.findall(r"^```yaml\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    quickstart = ROOT / "recipes" / "quickstart"
    (tmp_path / "recipe.yaml").write_text(f"extends: {quickstart / 'addition.yaml'}\nname: page\n{section}")
    ours, shipped = (load_recipe(path).stages for path in (tmp_path / "recipe.yaml", quickstart / "addition-lora.yaml"))
    assert ours == shipped
    assert [stage.learner.lora is None for stage in ours] == [True, False]


def test_the_commands_and_their_options_exist() -> None:
    blocks = re.findall(r"^```bash\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    for line in "".join(blocks).splitlines():
        program, name, *arguments = line.split()
        assert program == "rlvr"
        known = {option for parameter in commands[name].params for option in parameter.opts}
        assert {word for word in arguments if word.startswith("--")} <= known, line
