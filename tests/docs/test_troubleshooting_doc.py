"""docs/troubleshooting.md names exit codes, settings and checks that exist."""

import inspect
import re
from pathlib import Path

import pytest

from rlvr import errors
from rlvr.cluster import autopsy
from rlvr.errors import EXIT_CODES, RlvrError
from rlvr.recipe.resources import ResourcesConfig
from rlvr.recipe.reward import RewardConfig
from rlvr.recipe.schema import LearnerConfig, RolloutConfig

PAGE = (Path(__file__).parents[2] / "docs" / "troubleshooting.md").read_text()
SECTIONS = {"resources": ResourcesConfig, "reward": RewardConfig, "learner": LearnerConfig, "rollout": RolloutConfig}


def test_every_exit_code_is_listed() -> None:
    table = PAGE.split("## Exit codes")[1].split("\n## ")[0]
    listed = {int(code) for cell in re.findall(r"^\| ([\d, ]+) \|", table, re.MULTILINE) for code in cell.split(",")}
    raised = {kind.exit_code for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, RlvrError)}
    assert listed == {0, *raised, *EXIT_CODES.values()}


@pytest.mark.parametrize("text", [PAGE, inspect.getsource(autopsy)], ids=["page", "remedies"])
def test_every_setting_that_is_named_exists(text: str) -> None:
    named = re.findall(r"(?<![\w./])(resources|reward|learner|rollout)\.([a-z_]+)(?:\.([a-z_]+))?", text)
    assert named
    for section, key, inner in named:
        if (section, key) == ("reward", "models"):
            continue
        fields = SECTIONS[section].model_fields
        assert key in fields, f"{section}.{key}"
        if inner:
            assert inner in fields[key].annotation.model_fields, f"{section}.{key}.{inner}"  # type: ignore[union-attr]
