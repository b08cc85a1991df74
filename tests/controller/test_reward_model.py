"""`rlvr rm`: pairs in, a reward model out that Hugging Face loads and a recipe uses."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from rlvr.cli.rm import train_reward_model as command
from rlvr.controller.reward_model import _batch, train_reward_model
from rlvr.errors import RecipeError
from rlvr.models.scored_text import Candidate, UnscorableError, scored_ids
from rlvr.models.tokenizer import build_character_tokenizer, load_tokenizer
from rlvr.observe.run_log import read_metrics
from rlvr.recipe.reward_model import RewardModelRecipe, dump_reward_model_recipe, load_reward_model_recipe
from rlvr.recipe.trained_models import ScoredText
from rlvr.tasks.pairs import Pair

SUMS = Path(__file__).parents[2] / "recipes/reward_models/sums.yaml"
SHORT = ["batch_size=32", "evaluation.num_pairs=60", "learner.optimizer.warmup_steps=0"]


def recipe(runs: Path, *overrides: str) -> RewardModelRecipe:
    return load_reward_model_recipe(SUMS, [f"runs_dir={runs}", *SHORT, *overrides])


def test_the_shipped_recipe_loads_and_reads_back(tmp_path: Path) -> None:
    loaded = load_reward_model_recipe(SUMS)
    (tmp_path / "again.yaml").write_text(dump_reward_model_recipe(loaded))
    assert load_reward_model_recipe(tmp_path / "again.yaml") == loaded


@pytest.mark.parametrize(
    ("overrides", "fault"),
    [
        (["pairs.chosn=a"], "unknown key; did you mean 'chosen'?"),
        (["model={path: x, init: {}}"], "model: give exactly one of path and init"),
        (["learner.epochs=2"], "learner.epochs=2: a reward model counts steps; use 1"),
        (["learner.optimizer.warmup_steps=600"], "so the schedule never starts; use fewer"),
        (["steps=0"], "steps=0"),
    ],
)
def test_a_faulty_recipe_is_refused_with_a_remedy(overrides: list[str], fault: str) -> None:
    with pytest.raises(RecipeError) as caught:
        load_reward_model_recipe(SUMS, overrides)
    assert fault in str(caught.value)


def test_every_pair_comes_once_per_epoch() -> None:
    pairs = [Pair([i], [i + 100]) for i in range(5)]
    drawn = [p.chosen[0] for step in range(5) for p in _batch(pairs, 3, step, seed=0)]  # 15 = 3 epochs of 5
    assert [sorted(drawn[i : i + 5]) for i in (0, 5, 10)] == [[0, 1, 2, 3, 4]] * 3
    assert drawn[:5] != drawn[5:10]


def test_scored_ids_by_hand() -> None:
    """pad 0, eos 1, unknown 2, then the characters in order: newline 3, 1 4, 2 5, a 6, | 7."""
    tokenizer = build_character_tokenizer("12a|\n")
    candidate = Candidate(prompt="12", question="1", completion="a", reference="2")
    assert scored_ids(candidate, ScoredText(), tokenizer) == [4, 5, 6, 1]
    assert scored_ids(candidate, ScoredText(suffix="a"), tokenizer) == [4, 5, 6, 6]
    form = ScoredText(input="reference", separator="|", suffix="")
    # question LF reference | question LF completion
    assert scored_ids(candidate, form, tokenizer) == [4, 3, 5, 7, 4, 3, 6]
    assert scored_ids(candidate, ScoredText(max_tokens=4), tokenizer)
    with pytest.raises(UnscorableError, match="4 tokens, more than max_tokens=3"):
        scored_ids(candidate, ScoredText(max_tokens=3), tokenizer)
    with pytest.raises(UnscorableError, match="needs a gold answer"):
        scored_ids(Candidate("1", "1", "a"), form, tokenizer)
    chat = build_character_tokenizer("usertanio: 12\n", chat_template=None)
    assert chat.decode(scored_ids(candidate, ScoredText(input="chat"), chat)) == "user: 1\nassistant: a\n"


@pytest.mark.slow
def test_training_resumes_exactly_and_exports(ray_cluster: None, tmp_path: Path) -> None:
    from transformers import AutoModelForSequenceClassification

    given = recipe(tmp_path, "name=run", "steps=20", "checkpoint.every=10", "checkpoint.keep=9")
    whole = train_reward_model(given)
    assert [step for step, _ in whole.evaluations] == [0, 20]
    assert whole.evaluations[0][1].pair_loss != whole.evaluations[1][1].pair_loss
    scores = whole.evaluations[-1][1]
    assert scores.pair_accuracy.low <= scores.pair_accuracy.value <= scores.pair_accuracy.high
    run = tmp_path / "run"

    def losses() -> list[float]:
        return [row["metrics"]["loss"][0] for row in read_metrics(run) if "loss" in row["metrics"]]

    first, exported = losses(), AutoModelForSequenceClassification.from_pretrained(run / "export")
    assert len(first) == 20
    shutil.rmtree(run / "checkpoints/step-000020")
    shutil.rmtree(run / "export")
    resumed = train_reward_model(given, on_existing="resume")
    assert [(step, s.pair_loss) for step, s in resumed.evaluations] == [(20, scores.pair_loss)]
    assert losses() == first
    again = AutoModelForSequenceClassification.from_pretrained(run / "export")
    pairs = zip(exported.state_dict().values(), again.state_dict().values(), strict=True)
    assert all((a == b).all() for a, b in pairs)
    ids = load_tokenizer(run / "export")("3+4=7", return_tensors="pt")["input_ids"]
    assert again(input_ids=ids).logits.shape == (1, 1)
    with pytest.raises(RecipeError, match="only `steps` may change"):
        train_reward_model(recipe(tmp_path, "name=run", "steps=20", "batch_size=8"), on_existing="resume")


def test_self_training_keeps_what_the_model_is_sure_of(ray_cluster: None, tmp_path: Path) -> None:
    """SSRM: after 40 steps on labelled pairs, two rounds of 3 steps on the unlabelled ones among them."""
    extra = (
        "self_training={pairs: {source: custom, function: "
        + str(SUMS.with_name("sums.py"))
        + ":pairs, params: {split: test}}"
    )
    run = train_reward_model(
        recipe(tmp_path, "name=ssrm", "steps=40", extra + ", confidence: 0.55, rounds: 2, steps: 3}")
    )
    rows = [row["metrics"] for row in read_metrics(run.run.path) if "loss" in row["metrics"]]
    assert len(rows) == 46
    rounds = [(index, row["pseudo_labelled"]) for index, row in enumerate(rows) if "pseudo_labelled" in row]
    assert [index for index, _ in rounds] == [40, 43]
    assert all(0 < kept < total == 360 for _, (kept, total) in rounds)
    assert len(json.loads((run.run.path / "pseudo-labels-1.json").read_text())) == 1440 + rounds[1][1][0]


@pytest.mark.slow
def test_the_shipped_recipe_learns(tmp_path: Path) -> None:
    lines = tmp_path / "pairs.jsonl"
    rows = [
        {"prompt": f"{a}+{b}=", "chosen": str(a + b), "rejected": str((a + b + 1) % 19)}
        for a in range(10)
        for b in range(10)
    ]
    lines.write_text("\n".join(map(json.dumps, rows)))
    command(
        SUMS, [f"runs_dir={tmp_path}", "name=given", "steps=2", "learner.optimizer.warmup_steps=0"], lines, "refuse"
    )
    assert (tmp_path / "given" / "export" / "config.json").is_file()
    command(SUMS, [f"runs_dir={tmp_path}"], None, "refuse")
    evaluations = [row["metrics"] for row in read_metrics(tmp_path / "sums") if "eval/pair_accuracy" in row["metrics"]]
    assert evaluations[0]["eval/pair_accuracy"][0] < 0.7
    assert evaluations[-1]["eval/pair_accuracy"][0] > 0.9
