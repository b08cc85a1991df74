"""The examples of docs/custom-rewards.md run, and say what the page says."""

import re
import subprocess
import sys
from pathlib import Path

from rlvr.recipe.schema import RewardConfig, RewardTerm
from rlvr.scoring.pool import RewardPool

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "custom-rewards.md").read_text()


def test_the_example_scores_alone_and_in_the_pool(tmp_path):
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    function, check, pool = blocks[0], blocks[3], blocks[4]
    assert len(function.strip().splitlines()) <= 15
    (tmp_path / "my_reward.py").write_text(function)
    (tmp_path / "try_it.py").write_text(check + "\n\ntest_reward()\n" + pool)
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        [sys.executable, "try_it.py"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert f"prints `{done.stdout.strip()}`" in PAGE


def test_the_gold_check_works_beside_the_example(tmp_path):
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / "my_reward.py").write_text(blocks[0] + "\n\n" + blocks[5])
    pool = RewardPool(
        RewardConfig(terms={"c": RewardTerm(fn=f"{tmp_path}/my_reward.py:reward", max_words=2)}), processes=1
    )
    problems = pool.check_golds([{"answer": "Paris"}, {"answer": ""}, {"answer": "a b c"}])
    pool.close()
    assert problems == [
        {},
        {"c": "gold answer '': needs 1 to 2 words"},
        {"c": "gold answer 'a b c': needs 1 to 2 words"},
    ]


def test_every_built_in_is_listed():
    from rlvr.scoring.functions import FUNCTIONS

    listed = re.findall(r"^\| `(\w+)` \| .* \| .* \|$", PAGE.split("## Built-in functions")[1], re.MULTILINE)
    assert sorted(listed) == sorted(FUNCTIONS)
