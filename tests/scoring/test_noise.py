"""Corrections for noisy verifiers: hand numbers of 2510.00915, unbiasedness by simulation, where they do nothing."""

import numpy as np
import pytest
import torch

from rlvr.objectives.advantages import grpo, reward, rloo
from rlvr.recipe.reward import AppealsConfig, NoiseConfig
from rlvr.records import Abstain, Failure, Group, Prompt, Rollout, SamplingParams, Score, Segment
from rlvr.scoring.noise import (
    NoiseCorrection,
    appeals_of,
    backward,
    false_negative_rate,
    forward,
    is_appealed,
    with_added_noise,
)


def rollout(member, **outcomes):
    segment = Segment((1,), [2], [True], [0.0], [0], "stop")
    made = Rollout(Prompt("p", (1,), "q"), member, member, [segment], "", SamplingParams(1.0, 8))
    made.outcomes = outcomes
    return made


def test_hand_numbers():
    # (1 - 0.1) / 0.7 and (0 - 0.1) / 0.7; then 1 + 0.2 - 1 and 0 + 0.2 - 1
    assert backward(1.0, 0.1, 0.2) == pytest.approx(1.285714, abs=1e-6)
    assert backward(0.0, 0.1, 0.2) == pytest.approx(-0.142857, abs=1e-6)
    assert (forward(1.0, 0.2), forward(0.0, 0.2)) == pytest.approx((0.2, -0.8))
    # 5 of the appealed half were overturned: 10 missed beside 80 accepted
    assert false_negative_rate(5, 0.5, 80) == pytest.approx(1 / 9, abs=1e-6)


@pytest.mark.parametrize("rho0", [0.0, 0.1, 0.3])
@pytest.mark.parametrize("rho1", [0.0, 0.2, 0.4])
def test_the_corrections_are_unbiased(rho0, rho1):
    rng = np.random.default_rng(0)
    draws = 200_000
    for truth in (0.0, 1.0):
        accepted = rng.random(draws) < (1 - rho1 if truth else rho0)
        estimate = np.where(accepted, backward(1.0, rho0, rho1), backward(0.0, rho0, rho1))
        error = 5 * estimate.std() / np.sqrt(draws) + 1e-12
        assert abs(estimate.mean() - truth) <= error
        weight = np.where(accepted, forward(1.0, rho1), forward(0.0, rho1))
        expected = 0.0 if truth else -(1 - rho0 - rho1)
        assert abs(weight.mean() - expected) <= 5 * weight.std() / np.sqrt(draws) + 1e-12


def test_rates_that_sum_to_one_are_refused():
    with pytest.raises(ValueError, match="sum to less than 1"):
        backward(1.0, 0.5, 0.5)
    assert backward(1.0, 0.49, 0.5) == pytest.approx(51.0)  # 0.51 / 0.01: the nearer to 1, the larger the variance


def test_group_normalisation_undoes_the_correction_and_the_reward_slot_keeps_it():
    verdicts = torch.tensor([1.0, 0.0, 0.0, 1.0, 1.0])
    groups = torch.zeros(5, dtype=torch.long)
    corrected = torch.tensor([backward(v, 0.1, 0.2) for v in verdicts.tolist()])
    torch.testing.assert_close(grpo(corrected, groups), grpo(verdicts, groups), atol=1e-5, rtol=0)
    torch.testing.assert_close(rloo(corrected, groups), rloo(verdicts, groups) / 0.7)
    assert torch.equal(reward(corrected, groups), corrected)


def test_added_noise_turns_a_share_of_verdicts_around_the_same_ones_each_time():
    verdicts = [float(member % 4 == 0) for member in range(4000)]

    def told(**rates):
        members = [rollout(member, answer=Score(verdict)) for member, verdict in enumerate(verdicts)]
        config = NoiseConfig(correction="none", **rates)
        (group,) = with_added_noise([Group(members[0].prompt, members)], config, "answer")
        return [r.outcomes["answer"] for r in group.rollouts]

    noisy = told(added_false_positive=0.3, added_false_negative=0.1)
    assert noisy == told(added_false_positive=0.3, added_false_negative=0.1)
    # Of 3000 wrong ones and 1000 right ones; five standard deviations are 0.042 and 0.047.
    assert np.mean([o.value for o, v in zip(noisy, verdicts, strict=True) if v == 0.0]) == pytest.approx(0.3, abs=0.042)
    assert np.mean([o.value for o, v in zip(noisy, verdicts, strict=True) if v == 1.0]) == pytest.approx(0.9, abs=0.047)
    changed = [outcome.value != verdict for outcome, verdict in zip(noisy, verdicts, strict=True)]
    assert [bool((outcome.info or {}).get("added_noise")) for outcome in noisy] == changed
    assert [outcome.value for outcome in told()] == verdicts
    assert {outcome.value for outcome in told(added_false_positive=1.0)} == {1.0}


def test_added_noise_leaves_what_is_no_verdict():
    kept = [Score(0.5), Abstain("unknown"), Failure("exception", "broken")]
    members = [rollout(member, answer=outcome, other=Score(0.0)) for member, outcome in enumerate(kept)]
    config = NoiseConfig(correction="none", added_false_positive=1.0, added_false_negative=1.0)
    (group,) = with_added_noise([Group(members[0].prompt, members)], config, "answer")
    assert [r.outcomes for r in group.rollouts] == [{"answer": o, "other": Score(0.0)} for o in kept]


def test_only_verdicts_are_corrected():
    correction = NoiseCorrection(NoiseConfig(false_positive=0.1, false_negative=0.2), "answer")
    corrected = correction.corrected({"answer": Score(1.0, {"extracted": "4"}), "format": Score(0.5)})
    assert corrected["answer"].value == pytest.approx(1.285714, abs=1e-6)
    assert corrected["answer"].info == {"extracted": "4"}
    assert corrected["format"] == Score(0.5)
    for unknown in (Abstain(), Failure("crash")):
        assert correction.corrected({"answer": unknown}) == {"answer": unknown}
    assert isinstance(correction.corrected({"answer": Score(0.5)})["answer"], Failure)


def test_appeals_sample_rejections_only_and_the_same_ones_each_time():
    config = NoiseConfig(appeals=AppealsConfig(by="second", fraction=0.25))
    rejected = [rollout(m, answer=Score(0.0)) for m in range(4000)]
    group = Group(rejected[0].prompt, [*rejected, rollout(-1, answer=Score(1.0)), rollout(-2, answer=Failure("crash"))])
    chosen = appeals_of([group], config, "answer")
    assert 900 < len(chosen) < 1100  # 1000 +- 3.6 standard deviations
    assert all(r.outcomes["answer"] == Score(0.0) for r in chosen)
    assert chosen == appeals_of([group], config, "answer")
    assert all(is_appealed(r, 1.0) for r in rejected)


def test_appeals_estimate_the_rate_over_a_window_and_survive_a_checkpoint():
    appeals = AppealsConfig(by="second", fraction=0.5, window=2)
    config = NoiseConfig(correction="forward", false_negative=0.3, appeals=appeals)
    correction = NoiseCorrection(config, "answer")
    assert correction.false_negative == 0.3  # nothing heard yet

    def step(overturned, upheld, accepted):
        rollouts = [rollout(i, answer=Score(0.0), second=Score(1.0)) for i in range(overturned)]
        rollouts += [rollout(i, answer=Score(0.0), second=Score(0.0)) for i in range(upheld)]
        rollouts += [rollout(i, answer=Score(1.0)) for i in range(accepted)]
        return [Group(rollouts[0].prompt, rollouts)]

    metrics = correction.observe(step(5, 5, 80))
    assert correction.false_negative == pytest.approx(10 / 90, abs=1e-6)
    assert metrics["noise/overturned"] == (5.0, 10.0)
    correction.observe(step(0, 4, 30))
    assert correction.false_negative == pytest.approx(10 / 120, abs=1e-6)
    resumed = NoiseCorrection(config, "answer", correction.state())
    assert resumed.false_negative == correction.false_negative
    correction.observe(step(2, 0, 6))  # the first step has left the window: (0 + 2) / 0.5 missed beside 36
    assert correction.false_negative == pytest.approx(4 / 40, abs=1e-6)
    correction.observe(step(40, 0, 1))
    assert correction.false_negative == 0.5  # bounded


def test_a_successful_appeal_overturns_where_asked():
    appeals = AppealsConfig(by="second", overturn=True)
    correction = NoiseCorrection(NoiseConfig(correction="none", appeals=appeals), "answer")
    assert correction.corrected({"answer": Score(0.0), "second": Score(1.0)})["answer"] == Score(1.0)
    assert correction.corrected({"answer": Score(0.0), "second": Score(0.0)})["answer"] == Score(0.0)
    assert correction.corrected({"answer": Score(0.0)})["answer"] == Score(0.0)
