"""Completions that go on over steps: what a window keeps, what trains in it, what the critic makes of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from rlvr.controller.batch import assemble
from rlvr.controller.estimates import estimates
from rlvr.controller.windows import EARLIER, Windows, this_window
from rlvr.errors import RecipeError
from rlvr.observe.waterfall import waterfall
from rlvr.recipe.critic import CriticConfig
from rlvr.recipe.load import load_recipe
from rlvr.recipe.schema import ObjectiveConfig
from rlvr.records import Group, Prompt, Rollout, SamplingParams, Segment

WINDOW, LIMIT = 2, 6
PROMPTS = {name: Prompt(name, (7, 8), name) for name in "abc"}
LENGTHS = {"a": 5, "b": 1, "c": 9}  # tokens after which each would end by itself; c never does


class Sampler:
    """One window per prompt: token t of a completion is 10 t, its logprob -t / 8, sampled by the weights `version`."""

    def __init__(self, version: int) -> None:
        self.version = version
        self.asked: list[tuple[int, ...]] = []

    def __call__(self, prompts: Sequence[Prompt]) -> Iterator[Group]:
        sampling = SamplingParams(temperature=1.0, max_completion_tokens=WINDOW)
        for member, prompt in reversed(list(enumerate(prompts))):  # in any order
            self.asked.append(prompt.token_ids)
            done, name = len(prompt.token_ids) - 2, prompt.id[0]
            ids = [10 * t for t in range(done, min(done + WINDOW, LENGTHS[name]))]
            reason = "stop" if done + len(ids) == LENGTHS[name] else "length"
            segment = Segment(
                prompt.token_ids, ids, [True] * len(ids), [-t / 80 for t in ids], [self.version] * len(ids), reason
            )  # type: ignore[arg-type]
            yield Group(prompt, [Rollout(prompt, member, 100 + member, [segment], "", sampling)])


def windows() -> Windows:
    return Windows(places=3, group_size=1, max_completion_tokens=LIMIT, decode=lambda ids: "-".join(map(str, ids)))


def ended(groups: Iterator[Group]) -> dict[str, Rollout]:
    return {group.prompt.id: group.rollouts[0] for group in groups}


def test_a_completion_goes_on_from_its_own_tokens_until_it_ends() -> None:
    """Tokens, logprobs and versions are those of each step's engine; masks come from positions alone (R10, R11)."""
    kept, steps = windows(), []
    samplers = [Sampler(version) for version in (1, 2, 3)]
    for sampler, fresh in zip(samplers, (["a", "b", "c"], ["b"], ["b"]), strict=True):
        assert kept.num_prompts == len(fresh)
        steps.append(ended(kept.advance([PROMPTS[name] for name in fresh], sampler)))
    assert [sorted(step) for step in steps] == [["b"], ["b"], ["a", "b", "c"]]
    assert sorted(samplers[1].asked) == [(7, 8), (7, 8, 0, 10), (7, 8, 0, 10)]
    assert sorted(samplers[2].asked)[1:] == [(7, 8, 0, 10, 20, 30)] * 2
    a, c = steps[2]["a"], steps[2]["c"]
    (segment,) = a.segments
    assert (segment.prompt_ids, segment.completion_ids) == ((7, 8), [0, 10, 20, 30, 40])
    assert segment.behavior_logprobs == [0.0, -0.125, -0.25, -0.375, -0.5]
    assert segment.policy_versions == [1, 1, 2, 2, 3]
    assert segment.loss_mask == [True] * 5
    assert (a.text, a.trained_tokens, a.open, a.truncated) == ("0-10-20-30-40", 4, False, False)
    # c is at the limit of the completion: cut for good.
    assert (c.num_completion_tokens, c.open, c.truncated) == (LIMIT, False, True)
    assert a.sampling.max_completion_tokens == LIMIT
    assert kept.open == []
    assert kept.num_prompts == 3


def test_what_is_open_is_no_truncation_and_keeps_its_place() -> None:
    kept = windows()
    ended(kept.advance(list(PROMPTS.values()), Sampler(1)))
    assert [(r.prompt.id, r.open, r.truncated, r.reward) for r in kept.open] == [
        ("a", True, False, None),
        ("c", True, False, None),
    ]
    assert kept.metrics() == {"windows/open": (2.0, 3.0)}
    assert kept.num_prompts == 1


def test_a_saved_window_goes_on_as_it_would_have(tmp_path: Path) -> None:
    kept, restored = windows(), windows()
    ended(kept.advance(list(PROMPTS.values()), Sampler(1)))
    kept.rest()
    kept.save(tmp_path / "windows.jsonl")
    restored.load(tmp_path / "windows.jsonl", PROMPTS.values())
    assert [asdict(rollout) for rollout in restored.open] == [asdict(rollout) for rollout in kept.open]
    for each in (kept, restored):
        list(each.advance([PROMPTS["b"]], Sampler(2)))
    assert [asdict(rollout) for rollout in restored.open] == [asdict(rollout) for rollout in kept.open]


def test_a_step_that_is_given_up_leaves_what_the_one_before_had_left(tmp_path: Path) -> None:
    kept, restored = windows(), windows()
    ended(kept.advance(list(PROMPTS.values()), Sampler(1)))
    kept.rest()
    ended(kept.advance([PROMPTS["b"]], Sampler(2)))
    kept.save(tmp_path / "windows.jsonl")
    restored.load(tmp_path / "windows.jsonl", PROMPTS.values())
    assert [r.num_completion_tokens for r in kept.open] == [4, 4]
    assert [r.num_completion_tokens for r in restored.open] == [2, 2]


def rollout(name: str, length: int, trained: int, reward: float | None, reason: str = "stop") -> Rollout:
    segment = Segment((7, 8), list(range(length)), [True] * length, [-0.5] * length, [1] * length, reason)  # type: ignore[arg-type]
    made = Rollout(PROMPTS[name], 0, 0, [segment], "", SamplingParams(1.0, 6), reward=reward)
    made.trained_tokens, made.open = trained, reward is None
    return made


VALUES = [np.array([0.2, 0.4, 0.6]), np.array([0.2, 0.4, 0.6])]
CRITIC = CriticConfig(policy_lambda=0.95, critic_lambda=1.0, truncated="bootstrap", whiten=False)


def test_an_open_completion_is_bootstrapped_and_teaches_the_critic_nothing() -> None:
    """EGAE: V behind the cut is 0.6, so the deltas are .2, .2, 0 and A = [.2 + .95 * .2, .2, 0]; the ended: r = 1."""
    made = estimates(
        [rollout("a", 3, 0, None, "length"), rollout("b", 3, 2, 1.0)],
        VALUES,
        [np.zeros(3)] * 2,
        CRITIC,
        None,
        [True] * 2,
    )
    assert made[0].advantages == pytest.approx([0.39, 0.2, 0.0])
    assert made[0].columns == {}
    assert made[1].advantages == pytest.approx([0.751, 0.58, 0.4])
    # It has seen the end: the critic learns from all of its tokens, those of earlier windows too.
    assert made[1].columns["returns"] == pytest.approx([1.0, 1.0, 1.0])


def test_whitening_is_over_the_tokens_of_this_window() -> None:
    """b trains its last token, .4; a all three, .39, .2, 0: mean .2475, deviations .1425, -.0475, -.2475, .1525."""
    config = CRITIC.model_copy(update={"whiten": True})
    made = estimates(
        [rollout("a", 3, 0, None, "length"), rollout("b", 3, 2, 1.0)],
        VALUES,
        [np.zeros(3)] * 2,
        config,
        None,
        [True] * 2,
    )
    variance = (0.1425**2 + 0.0475**2 + 0.2475**2 + 0.1525**2) / 3
    assert made[0].advantages == pytest.approx(np.array([0.1425, -0.0475, -0.2475]) / variance**0.5, abs=1e-6)
    assert made[1].advantages[-1] == pytest.approx(0.1525 / variance**0.5, abs=1e-6)


def test_earlier_windows_are_context_and_have_no_loss() -> None:
    made = [rollout("a", 3, 0, None, "length"), rollout("b", 4, 2, 1.0)]
    values = [np.zeros(3), np.zeros(4)]
    objective = ObjectiveConfig(advantage="gae", critic=CRITIC)
    sequences = assemble(
        [Group(r.prompt, [r]) for r in made],
        objective,
        estimate=lambda rollouts: estimates(
            rollouts, values, [np.zeros(len(v)) for v in values], CRITIC, None, [True] * 2
        ),
    )
    opened, finished = this_window(sequences)
    assert opened.loss_mask.tolist() == [False, False, True, True, True]
    assert finished.loss_mask.tolist() == [False, False, False, False, True, True]
    assert finished.token_ids.tolist() == [7, 8, 0, 1, 2, 3]
    # The critic still sees every token of what has ended, and has no returns for what has not.
    assert sequences[1].loss_mask.sum() == len(sequences[1].columns[EARLIER][2:]) == 4
    assert ["returns" in sequence.columns for sequence in sequences] == [False, True]
    # Each token was generated in one step, and is counted there.
    counted = waterfall([Group(r.prompt, [r]) for r in made])
    assert (counted.generated, counted.trained, counted.no_signal) == (5, 5, 2)


T_PPO = "recipes/methods/t_ppo.yaml"


@pytest.mark.parametrize(
    ("override", "fault"),
    [
        ("rollout.window_tokens=12", r"must divide rollout.max_completion_tokens=40; nearest: 10 or 20"),
        ("objective.critic=null", "only a critic's values stand for it"),
        ("objective.filter.zero_variance=drop", "which objective.filter.zero_variance does not know"),
        ("objective.replay={name: success}", "which objective.replay does not know"),
        ("rollout.hints={column: hint}", "which rollout.hints does not know"),
        ("reward.terms.votes={fn: visual_quality, scope: batch}", "which reward.terms.votes does not know"),
    ],
)
def test_what_needs_whole_groups_is_refused(override: str, fault: str) -> None:
    with pytest.raises(RecipeError, match=fault):
        load_recipe(T_PPO, [f"stages.rl.{override}"])
