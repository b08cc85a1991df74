"""Models beside the policy on the real stack: Ray actors and DeepSpeed ranks, over rollouts made up here."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rlvr.controller.side_learner import turn_spans
from rlvr.controller.side_models import SideModels
from rlvr.errors import WorkerDied
from rlvr.metrics import means
from rlvr.models.build import materialize
from rlvr.models.tokenizer import load_tokenizer
from rlvr.recipe.load import load_recipe
from rlvr.recipe.schema import InitConfig, ModelConfig, RlStage
from rlvr.records import Abstain, Failure, Group, Prompt, Rollout, SamplingParams, Score, Segment, Steps, Turn

ADDITION = Path(__file__).parents[2] / "recipes/quickstart/addition.yaml"
ALPHABET = "0123456789+=abxyz\n"
SAMPLING = SamplingParams(temperature=1.0, max_completion_tokens=16)
RESOURCES = ["resources.step_timeout_s=60", "resources.start_timeout_s=120"]


@pytest.fixture(scope="module")
def policy_dir(tmp_path_factory: pytest.TempPathFactory) -> str:
    init = InitConfig(hidden_size=64, num_layers=2, num_heads=2, num_kv_heads=1, intermediate_size=128)
    return materialize(ModelConfig(init=init), tmp_path_factory.mktemp("policy"), 0, ALPHABET)


@pytest.fixture(scope="module")
def classifier_dir(policy_dir: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    from transformers import AutoModelForSequenceClassification

    directory = tmp_path_factory.mktemp("classifier")
    torch.manual_seed(1)
    model = AutoModelForSequenceClassification.from_pretrained(policy_dir, num_labels=1)
    torch.nn.init.normal_(model.score.weight, std=0.5)
    model.save_pretrained(directory)
    load_tokenizer(policy_dir).save_pretrained(directory)
    return str(directory)


@contextmanager
def side_models(policy_dir: str, *overrides: str) -> Iterator[tuple[SideModels, Any]]:
    recipe = load_recipe(ADDITION, [*RESOURCES, *overrides])
    stage = recipe.stages[-1]
    assert isinstance(stage, RlStage)
    models = SideModels(stage, recipe.resources, policy_dir, load_tokenizer(policy_dir), seed=0)
    try:
        yield models, load_tokenizer(policy_dir)
    finally:
        models.close()


def rollout(prompt: Prompt, member: int, text: str, right: float, tokenizer: Any) -> Rollout:
    ids = [*tokenizer(text)["input_ids"], tokenizer.eos_token_id]
    segment = Segment(prompt.token_ids, ids, [True] * len(ids), [-1.0] * len(ids), [0] * len(ids), "stop")
    made = Rollout(prompt, member, member, [segment], text, SAMPLING)
    made.outcomes["correct"] = Score(right)
    return made


def groups(seed: int, tokenizer: Any, count: int = 6, size: int = 6) -> list[Group]:
    """A task that a tiny model can tell: right completions hold an `a` somewhere among digits, wrong ones a `b`."""
    rng = random.Random(seed)
    made = []
    for number in range(count):
        text = f"{rng.randint(10, 99)}="
        prompt = Prompt(f"{seed}-{number}", tuple(tokenizer(text)["input_ids"]), text, "a", question=text)
        members = []
        for member in range(size):
            digits = [rng.choice("0123456789") for _ in range(rng.randint(2, 8))]
            right = rng.random() < 0.5
            digits[rng.randrange(len(digits))] = "a" if right else "b"
            members.append(rollout(prompt, member, "".join(digits), float(right), tokenizer))
        made.append(Group(prompt, members))
    return made


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_frozen_reward_model(ray_cluster: None, policy_dir: str, classifier_dir: str) -> None:
    """Its scores are Hugging Face's on each text alone; a text too long is its own failure; its death is named."""
    from transformers import AutoModelForSequenceClassification

    model = f"kind: classifier, path: {classifier_dir}, batch_size: 4, max_tokens: 12"
    with side_models(
        policy_dir,
        f"reward.models={{rm: {{{model}}}, soft: {{{model}, output: sigmoid}}}}",
        "reward.terms.rm={fn: reward_model, model: rm}",
        "reward.terms.soft={fn: reward_model, model: soft}",
    ) as (models, tokenizer):
        batch = groups(0, tokenizer, count=3)
        long = rollout(batch[0].prompt, 9, "1" * 30, 0.0, tokenizer)
        broken = rollout(batch[0].prompt, 10, "1", 0.0, tokenizer)
        broken.failure = Failure("crash", "its environment broke")
        batch[0].rollouts += [long, broken]
        scored = list(models.score(iter(batch), evaluation=True))
        assert {id(group) for group in scored} == {id(group) for group in batch}
        reference = AutoModelForSequenceClassification.from_pretrained(classifier_dir)
        for each in (r for group in batch for r in group.rollouts if r not in (long, broken)):
            ids = [*tokenizer(each.prompt.text + each.text)["input_ids"], tokenizer.eos_token_id]
            # pad is 0 here and eos 1, so Hugging Face's own search for the last token finds the right one.
            expected = reference(input_ids=torch.tensor([ids])).logits.item()
            raw, soft = each.outcomes["rm"], each.outcomes["soft"]
            assert isinstance(raw, Score)
            assert raw.value == pytest.approx(expected, abs=1e-5)
            assert isinstance(soft, Score)
            assert soft.value == pytest.approx(1 / (1 + np.exp(-expected)), abs=1e-5)
        failure = long.outcomes["rm"]
        assert isinstance(failure, Failure)
        assert "34 tokens, more than max_tokens=12" in failure.message
        assert broken.outcomes["rm"] is broken.failure
        pid = models.frozen["rm"].pid()
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        started = time.monotonic()
        with pytest.raises(WorkerDied, match=r"reward\.models\.rm died"):
            list(models.score(groups(1, tokenizer, count=1)))
        assert time.monotonic() - started < 30
        other = models.frozen["soft"].pid()
    assert other is not None
    deadline = time.monotonic() + 20
    while alive(other) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not alive(other)


def test_an_implicit_prm_learns_from_outcomes(ray_cluster: None, policy_dir: str, tmp_path: Path) -> None:
    """Untrained it gives 0; trained on outcomes it ranks unseen ones; token rewards add up; it resumes exactly."""
    overrides = (
        "reward.models={prm: {kind: implicit_prm, beta: 0.5, optimizer: {lr: 3e-3}}}",
        "reward.terms.prm={fn: implicit_prm, model: prm}",
        "reward.total=correct + sum(prm)",
    )
    with side_models(policy_dir, *overrides) as (models, tokenizer):
        first = list(models.score(groups(0, tokenizer)))
        for each in (r for group in first for r in group.rollouts):
            steps = each.outcomes["prm"]
            assert isinstance(steps, Steps)
            assert steps.values == (0.0,) * each.num_completion_tokens
            assert steps.spans == tuple((i, i + 1) for i in range(each.num_completion_tokens))
        curve = []
        for step in range(12):
            batch = list(models.score(groups(step, tokenizer)))
            curve.append(means(models.update(batch)))
        assert curve[0]["model/prm/loss"] == pytest.approx(np.log(2), rel=1e-4)
        assert curve[0]["model/prm/examples"] == 36
        assert curve[-1]["model/prm/loss"] < 0.6
        assert np.mean([step["model/prm/auc"] for step in curve[-3:]]) > 0.8, "on completions it has not trained on"
        models.save(tmp_path)
        unseen = list(models.score(groups(99, tokenizer)))
        later = means(models.update(unseen))
        values = [r.outcomes["prm"] for group in unseen for r in group.rollouts]
        for steps in values:
            assert isinstance(steps, Steps)
            assert steps.info is not None
            assert sum(steps.values) == pytest.approx(steps.info["sequence_reward"], abs=1e-6)
        # The letter decides, so the reward stands at the letter: more than at any digit, on average.
        at = {True: [], False: []}  # type: ignore[var-annotated]
        for each in (r for group in unseen for r in group.rollouts):
            for character, value in zip(each.text, each.outcomes["prm"].values, strict=False):
                at[character in "ab"].append(abs(value))
        assert np.mean(at[True]) > 2 * np.mean(at[False])
        # Back to the saved moment: the same scores, bit for bit, and the same step from there.
        models.load(tmp_path)
        again = list(models.score(groups(99, tokenizer)))
        assert [r.outcomes["prm"] for group in again for r in group.rollouts] == values
        assert means(models.update(again)) == later


@pytest.mark.slow
def test_a_token_outcome_model_learns_what_each_token_says(ray_cluster: None, policy_dir: str, tmp_path: Path) -> None:
    """Its mean ranks completions it has not seen, its belief moves at the letter that decides; it resumes exactly."""
    overrides = (
        "reward.models={outcome: {kind: token_outcome, optimizer: {lr: 3e-3}}}",
        "reward.terms.outcome={fn: token_outcome, model: outcome, weight: 0}",
    )
    with side_models(policy_dir, *overrides) as (models, tokenizer):
        curve = []
        for step in range(16):
            batch = list(models.score(groups(step, tokenizer)))
            curve.append(means(models.update(batch)))
        assert curve[0]["model/outcome/loss"] == pytest.approx(np.log(2), abs=0.1)
        assert np.mean([step["model/outcome/auc"] for step in curve[-3:]]) > 0.8
        models.save(tmp_path)
        unseen = list(models.score(groups(99, tokenizer)))
        later = means(models.update(unseen))
        rollouts = [rollout for group in unseen for rollout in group.rollouts]
        values = [rollout.outcomes["outcome"] for rollout in rollouts]
        behind = {1.0: [], 0.0: []}  # type: ignore[var-annotated]
        for each, steps in zip(rollouts, values, strict=True):
            assert isinstance(steps, Steps)
            assert steps.unit == "token"
            assert len(steps.values) == each.num_sampled_tokens
            letter = min(each.text.find(x) for x in "ab" if x in each.text)
            behind[each.outcomes["correct"].value].append(steps.values[letter])  # type: ignore[union-attr]
        # Read AT the letter, not before it: an `a` there says more for a right outcome than a `b`.
        assert np.mean(behind[1.0]) > np.mean(behind[0.0]) + 0.5
        models.load(tmp_path)
        again = list(models.score(groups(99, tokenizer)))
        assert [rollout.outcomes["outcome"] for group in again for rollout in group.rollouts] == values
        assert means(models.update(again)) == later


@pytest.mark.slow
def test_updating_before_scoring_shows_in_the_scores(ray_cluster: None, policy_dir: str) -> None:
    with side_models(
        policy_dir,
        "reward.models={prm: {kind: implicit_prm, update: before, granularity: turn, optimizer: {lr: 3e-3}}}",
        "reward.terms.prm={fn: implicit_prm, model: prm}",
        "reward.total=correct + sum(prm)",
    ) as (models, tokenizer):
        batch = list(models.score(groups(0, tokenizer)))
        steps = batch[0].rollouts[0].outcomes["prm"]
        assert isinstance(steps, Steps)
        assert len(steps.values) == 1
        assert steps.values[0] != 0.0
        metrics = means(models.update(batch))
        assert metrics["model/prm/loss"] == pytest.approx(np.log(2), rel=1e-4), "the only step was the one before"
        assert models.update(batch) == {}
        # Evaluation leaves it out: its scores would move with training.
        assert isinstance(next(models.score(batch, evaluation=True)).rollouts[0].outcomes["prm"], Abstain)
        os.kill(models.learners["prm"].group.pids()[0], signal.SIGKILL)
        with pytest.raises(WorkerDied, match=r"reward\.models\.prm rank 0 died"):
            list(models.score(groups(1, tokenizer)))


@pytest.mark.slow
def test_cooper_learns_from_the_first_right_and_the_first_wrong(
    ray_cluster: None, policy_dir: str, classifier_dir: str
) -> None:
    with side_models(
        policy_dir,
        f"reward.models={{rm: {{kind: classifier, path: {classifier_dir}, output: sigmoid, max_tokens: 12, "
        "train: {optimizer: {lr: 2e-3}}}}",
        "reward.terms.rm={fn: reward_model, model: rm}",
    ) as (models, tokenizer):
        one_sided = groups(0, tokenizer, count=2)
        for each in (r for group in one_sided for r in group.rollouts):
            each.outcomes["correct"] = Score(1.0)
        metrics = means(models.update(list(models.score(one_sided))))
        assert metrics == {"model/rm/examples": 0.0}, "no wrong answer, no pair, no step"
        curve = []
        for step in range(12):
            batch = groups(step, tokenizer)
            batch[0].rollouts.append(rollout(batch[0].prompt, 9, "1" * 30, 0.0, tokenizer))
            batch = list(models.score(batch))
            assert isinstance(batch[0].rollouts[-1].outcomes["rm"], Failure)
            curve.append(means(models.update(batch)))
        assert all(1 <= step["model/rm/examples"] <= 6 for step in curve)
        assert np.mean([step["model/rm/auc"] for step in curve[-3:]]) > 0.8
        scored = next(models.score(groups(99, tokenizer))).rollouts[0].outcomes["rm"]
        assert isinstance(scored, Score)
        assert 0 < scored.value < 1, "a sigmoid"


@pytest.mark.slow
def test_progress_adds_up_to_the_outcome(ray_cluster: None, policy_dir: str) -> None:
    """Two turns: a digit, then the letter that decides. What they are given adds up to the outcome."""
    with side_models(
        policy_dir,
        "reward.models={spa: {kind: progress, optimizer: {lr: 3e-3}}}",
        "reward.terms.spa={fn: progress, model: spa}",
        "reward.total=sum(spa)",
    ) as (models, tokenizer):

        def batch_of_turns(seed: int) -> list[Group]:
            made = groups(seed, tokenizer)
            for each in (r for group in made for r in group.rollouts):
                end = len(each.text)
                each.turns = [Turn(0, 0, 1, each.text[:1]), Turn(0, 1, end, each.text[1:])]
            return made

        losses = []
        for step in range(25):
            batch = list(models.score(batch_of_turns(step)))
            losses.append(means(models.update(batch))["model/spa/loss"])
        assert np.mean(losses[-3:]) < 0.6 * losses[0]
        for each in (r for group in models.score(batch_of_turns(99)) for r in group.rollouts):
            steps = each.outcomes["spa"]
            assert isinstance(steps, Steps)
            assert steps.spans == ((0, 1), (1, len(each.text)))


def test_turn_spans_by_hand() -> None:
    """Segment 0: 3 tokens, 2 observed, 2 more; segment 1: 2 tokens. Spans count sampled tokens only: 0:3, 3:5, 5:7."""
    prompt = Prompt("p", (1, 2), "?")
    mask = [True] * 3 + [False] * 2 + [True] * 2
    first = Segment([1], list(range(7)), mask, [0.0] * 7, [0] * 7, "stop")
    second = Segment([1], [1, 2], [True] * 2, [0.0] * 2, [0] * 2, "stop")
    made = Rollout(prompt, 0, 0, [first, second], "", SAMPLING)
    assert turn_spans(made) == [(0, 7)]
    made.turns = [Turn(0, 0, 3, "a"), Turn(0, 5, 7, "b"), Turn(1, 0, 2, "c")]
    assert turn_spans(made) == [(0, 3), (3, 5), (5, 7)]
