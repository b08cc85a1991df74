"""The end of a run: what is written reads back, the table says it, and observing costs no import of torch."""

import io
import subprocess
import sys
from pathlib import Path

from rich.console import Console

import rlvr.observe
from rlvr.observe.summary import Accuracy, StageSummary, read_summary, render_summary, summarise, write_summary

STAGES = [
    StageSummary("sft", "sft", 200, 31.4, after=Accuracy(0.441, 0.398, 0.484, 512), trained_tokens=120_400),
    StageSummary(
        "rl",
        "rl",
        60,
        82.0,
        before=Accuracy(0.441, 0.398, 0.484, 512),
        after=Accuracy(0.871, 0.842, 0.898, 512),
        generated_tokens=415_232,
        trained_tokens=398_122,
        phases_s={"generate": 45.0, "train": 30.0},
    ),
]


def test_summary_reads_back(tmp_path):
    path = write_summary(tmp_path, STAGES, {"name": "addition", "status": "finished"})
    assert path == tmp_path / "summary.json"
    summary = read_summary(tmp_path)
    assert (summary["name"], summary["status"], summary["seconds"]) == ("addition", "finished", 113.4)
    sft, rl = summary["stages"]
    assert sft["before"] is None
    assert rl["after"] == {"value": 0.871, "low": 0.842, "high": 0.898, "num_prompts": 512}
    assert rl["phases_s"] == {"generate": 45.0, "train": 30.0}
    assert (rl["generated_tokens"], rl["trained_tokens"], rl["steps"]) == (415_232, 398_122, 60)


def test_stages_are_summed_up_from_the_log():
    def evaluated(accuracy: float) -> dict:
        estimate = {"value": accuracy, "low": accuracy - 0.1, "high": accuracy + 0.1}
        result = {"metrics": {"accuracy": estimate}, "num_prompts": 32, "seconds": 2.0}
        return {"stage": "rl", "metrics": {"eval/accuracy": (accuracy, 1.0)}, "extra": {"evaluation": result}}

    def step(tokens: float) -> dict:
        metrics = {"step_s": (1.5, 1.0), "phase/learn_s": (0.5, 1.0), "tokens/generated": (tokens, 1.0)}
        return {"stage": "rl", "metrics": metrics | {"trained_tokens": (tokens - 10, 1.0)}}

    rows = [evaluated(0.4), step(100.0), evaluated(0.5), step(200.0), evaluated(0.6)]
    sft, rl = summarise(rows, {"sft": "sft", "rl": "rl"})
    assert sft == StageSummary("sft", "sft", 0, 0.0)
    # Two steps of 1.5 s and three evaluations of 2 s; 90 + 190 trained tokens; the first and the last accuracy.
    assert (rl.steps, rl.seconds, rl.generated_tokens, rl.trained_tokens) == (2, 9.0, 300, 280)
    assert rl.phases_s == {"learn": 1.0}
    assert rl.before == Accuracy(0.4, 0.4 - 0.1, 0.4 + 0.1, 32)
    assert rl.after == Accuracy(0.6, 0.6 - 0.1, 0.6 + 0.1, 32)


def rendered(stages: list[StageSummary], width: int = 80) -> str:
    console = Console(file=io.StringIO(), width=width, record=True)
    console.print(render_summary(stages, "addition"))
    return console.export_text()


def test_the_table_fits_a_terminal_and_says_it_all():
    text = rendered(STAGES)
    assert "…" not in text
    (row,) = [line for line in text.splitlines() if line.strip().startswith("rl ")]
    assert row.split() == ["rl", "60", "1:22", "415k", "44.1%", "[39.8,", "48.4]", "87.1%", "[84.2,", "89.8]", "+43.0"]
    assert "120k" in text
    # 45 of 75 s is 60%; 75 s over 60 steps is 1.25 s.
    assert "rl: generate 60%  train 40%  of 75.0 s, 1.25 s per step" in text


def test_nothing_evaluated_nothing_claimed():
    text = rendered([StageSummary("rl", "rl", 0, 0.0, phases_s={"generate": 0.0})])
    assert "%" not in text
    assert "+0" not in text


def test_importing_observe_imports_neither_torch_nor_tensorboard():
    modules = [f"rlvr.observe.{path.stem}" for path in Path(rlvr.observe.__file__).parent.glob("[a-z]*.py")]
    assert len(modules) >= 7
    code = (
        f"import sys, {', '.join(modules)}; print(sorted({{'torch', 'tensorboard', 'ray', 'vllm'}} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
