"""The critic on the real stack: Ray actors and DeepSpeed ranks, over rollouts made up here."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rlvr.controller.batch import assemble
from rlvr.controller.critic import Critic, behind
from rlvr.errors import WorkerDied
from rlvr.learner.batch import TrainSequence
from rlvr.metrics import means
from rlvr.models.build import materialize
from rlvr.models.tokenizer import load_tokenizer
from rlvr.recipe.load import load_recipe
from rlvr.recipe.schema import InitConfig, ModelConfig, RlStage
from rlvr.records import Group, Prompt, Rollout, SamplingParams, Score, Segment

ADDITION = Path(__file__).parents[2] / "recipes/quickstart/addition.yaml"
SAMPLING = SamplingParams(temperature=1.0, max_completion_tokens=16)


@pytest.fixture(scope="module")
def policy_dir(tmp_path_factory: pytest.TempPathFactory) -> str:
    init = InitConfig(hidden_size=64, num_layers=2, num_heads=2, num_kv_heads=1, intermediate_size=128)
    return materialize(ModelConfig(init=init), tmp_path_factory.mktemp("policy"), 0, "0123456789+=abxyz\n")


@contextmanager
def critic_of(policy_dir: str, settings: str, *overrides: str) -> Iterator[tuple[Critic, RlStage]]:
    recipe = load_recipe(
        ADDITION,
        [
            "resources.step_timeout_s=60",
            "resources.start_timeout_s=120",
            "stages.rl.objective.advantage=gae",
            f"stages.rl.objective.critic={{{settings}}}",
            *overrides,
        ],
    )
    stage = recipe.stages[-1]
    assert isinstance(stage, RlStage)
    critic = Critic(stage, recipe.resources, policy_dir, load_tokenizer(policy_dir), seed=0)
    try:
        yield critic, stage
    finally:
        critic.close()


def groups(seed: int, tokenizer: Any, count: int = 8, size: int = 4) -> list[Group]:
    """Completions whose letter decides: reward 1 for `a`, 0 for `b`; before the letter nothing tells."""
    rng = random.Random(seed)
    made = []
    for number in range(count):
        ids = tuple(tokenizer(f"{rng.randint(10, 99)}=")["input_ids"])
        prompt = Prompt(f"{seed}-{number}", ids, "")
        members = []
        for member in range(size):
            letter = rng.choice("ab")
            digits = [rng.choice("0123456789") for _ in range(rng.randint(2, 8))]
            digits[rng.randrange(len(digits))] = letter
            text = "".join(digits)
            sampled = [*tokenizer(text)["input_ids"], tokenizer.eos_token_id]
            segment = Segment(ids, sampled, [True] * len(sampled), [-1.0] * len(sampled), [0] * len(sampled), "stop")
            reward = float(letter == "a")
            outcomes = {"correct": Score(reward)}
            members.append(Rollout(prompt, member, member, [segment], text, SAMPLING, outcomes=outcomes, reward=reward))
        made.append(Group(prompt, members))
    return made


def learn(critic: Critic, stage: RlStage, batch: list[Group], seed: int = 0) -> dict[str, float]:
    def told(rollouts: list[Rollout]) -> list:
        return critic.estimate(rollouts, [np.zeros(r.num_completion_tokens) for r in rollouts])

    return means(critic.update(assemble(batch, stage.objective, estimate=told), seed))


def test_an_action_value_is_read_and_learnt_behind_its_token() -> None:
    mask = np.array([False, False, True, False, True])
    column = np.array([0.0, 0.0, 0.3, 0.0, 0.7])
    sequence = TrainSequence(np.array([5, 6, 7, 8, 9]), mask, np.zeros(5), np.zeros(5), 3, columns={"returns": column})
    moved = behind(sequence)
    # A loss position is read where the token before it stands, so marks one further on are read at tokens 7 and 9.
    assert moved.token_ids.tolist() == [5, 6, 7, 8, 9, 0]
    assert np.flatnonzero(moved.loss_mask).tolist() == [3, 5]
    assert moved.columns["returns"][moved.loss_mask] == pytest.approx([0.3, 0.7])
    assert moved.rollout == 3


@pytest.mark.slow
def test_a_critic_learns_resumes_and_is_read_back(ray_cluster: None, policy_dir: str, tmp_path: Path) -> None:
    """Two ranks, packed, two mini-batches: values know the letter; exact resume; death is named."""
    settings = "ranks: 2, mini_batches: 2, critic_lambda: 1.0, optimizer: {lr: 2e-3}"
    with critic_of(policy_dir, settings, "stages.rl.learner.max_tokens_per_micro_batch=64") as (critic, stage):
        tokenizer = critic.tokenizer
        curve = [learn(critic, stage, groups(step, tokenizer), step) for step in range(14)]
        first, last = curve[0], curve[-1]
        assert 0 < first["critic/returns"] < 1
        # Values near 0 against returns of 0 and 1: 0.5 * the share of tokens with return 1.
        assert first["critic/value_loss"] == pytest.approx(0.5 * first["critic/returns"], rel=0.4)
        assert first["critic/explained_variance"] < 0.2
        assert last["critic/explained_variance"] > 0.3, curve
        assert last["critic/value_loss"] < 0.12, curve
        assert {"critic/values", "critic/grad_norm", "critic/lr", "critic/skipped_steps"} <= last.keys()
        rollouts = [r for group in groups(99, tokenizer) for r in group.rollouts]
        values = critic.values(rollouts)
        # V(s_t) is read before token t: known from the token after the letter on.
        after = {"a": [], "b": []}  # type: ignore[var-annotated]
        for each, row in zip(rollouts, values, strict=True):
            letter = next(c for c in each.text if c in "ab")
            after[letter] += row[each.text.index(letter) + 1 :].tolist()
        assert np.mean(after["a"]) > np.mean(after["b"]) + 0.4
        critic.save(tmp_path / "saved")
        critic.export(tmp_path / "exported")
        later = learn(critic, stage, groups(50, tokenizer))
        critic.load(tmp_path / "saved")
        again = critic.values(rollouts)
        assert all(np.array_equal(a, b) for a, b in zip(values, again, strict=True)), "bit for bit"
        assert learn(critic, stage, groups(50, tokenizer)) == later
        os.kill(critic.group.pids()[1], signal.SIGKILL)
        with pytest.raises(WorkerDied, match=r"objective\.critic rank 1 died"):
            critic.values(rollouts)
    # One rank, frozen, from the exported weights, without packing: the same numbers; and those of Hugging Face.
    settings = f"path: {tmp_path / 'exported'}, frozen: true"
    with critic_of(policy_dir, settings, "stages.rl.learner.packing=false") as (frozen, stage):
        for ours, theirs in zip(frozen.values(rollouts), values, strict=True):
            assert ours == pytest.approx(theirs, abs=2e-5)
        batch = groups(3, tokenizer)
        assert learn(frozen, stage, batch).keys() == {"critic/values", "critic/returns", "critic/explained_variance"}
    from transformers import AutoModelForSequenceClassification

    reference = AutoModelForSequenceClassification.from_pretrained(tmp_path / "exported").eval()
    for each, theirs in zip(rollouts[:4], values, strict=False):
        (segment,) = each.segments
        ids = torch.tensor([[*segment.prompt_ids, *segment.completion_ids]])
        with torch.inference_mode():
            numbers = reference.score(reference.model(input_ids=ids).last_hidden_state)[0, :, 0]
        start = len(segment.prompt_ids) - 1
        assert theirs == pytest.approx(numbers[start : start + len(theirs)].numpy(), abs=2e-5)
