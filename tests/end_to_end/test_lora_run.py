"""A LoRA stage over a cold start that trained in full, as a user runs it: both transfers, resumed, both exports."""

import json
from pathlib import Path

import pytest

from rlvr.metrics import means
from rlvr.observe.run_log import read_metrics
from tests.end_to_end.conftest import ONE_ENGINE, ROOT, SMALL, rlvr

RECIPE = ROOT / "recipes" / "quickstart" / "addition-lora.yaml"


@pytest.mark.slow
@pytest.mark.parametrize("transfer", ["merged", "adapter"])
def test_it_trains_resumes_and_exports(tmp_path: Path, transfer: str) -> None:
    """R12, R13, R20: rollouts of the resumed run are those of the whole one; engine and learner agree all along."""

    def train(name: str, *more: str) -> Path:
        overrides = [f"runs_dir={tmp_path}", f"name={name}", *SMALL, ONE_ENGINE, "evaluation.at_start=false"]
        lora = [f"stages.rl.learner.lora.transfer={transfer}", "stages.rl.learner.lora.export=adapter"]
        lora += ["stages.rl.learner.optimizer.schedule=constant", "stages.rl.objective.kl.coefficient=0.01"]
        lora += ["stages.rl.learner.mini_batches=1"]  # the first step's KL is that of an untrained adapter
        done = rlvr("train", str(RECIPE), *overrides, *lora, *more)
        assert done.returncode == 0, done.stdout + done.stderr
        return tmp_path / name

    whole = train("whole")
    values = [means(row["metrics"]) for row in read_metrics(whole) if "logprob_difference" in row["metrics"]]
    assert len(values) == 3
    assert all(row["logprob_difference"] < 1e-4 for row in values)
    assert values[0]["kl"] < 1e-9 < values[-1]["kl"]
    assert (whole / "export" / "adapter_config.json").is_file()
    assert (whole / "stages" / "sft" / "model.safetensors").is_file()

    train("cut", "stages.rl.steps=2")
    cut = train("cut", "--resume")
    last = "rollouts/step-000063.jsonl"
    texts = [[json.loads(line)["completion"] for line in (run / last).read_text().splitlines()] for run in (whole, cut)]
    assert texts[0] == texts[1]

    for form, file in (("merged", "config.json"), ("adapter", "adapter_config.json")):
        done = rlvr("export", str(whole), str(tmp_path / form), "--form", form)
        assert done.returncode == 0, done.stdout + done.stderr
        assert (tmp_path / form / file).is_file()
