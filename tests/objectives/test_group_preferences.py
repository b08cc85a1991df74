"""Preference losses of whole groups: their reductions by hand, and the gradient of every one from micro-batches."""

from typing import Any

import numpy as np
import pytest
import torch

from rlvr.learner.batch import TrainSequence, collate, make_shard
from rlvr.learner.linearised import linear_form, linearise
from rlvr.objectives import group_preferences
from rlvr.objectives.group_losses import GROUP_LOSSES
from rlvr.recipe.preference_losses import SECTIONS, AdaptiveTemperature

CONFIGS: dict[str, Any] = {section.model_fields["name"].annotation.__args__[0]: section for section in SECTIONS}  # type: ignore[union-attr]
# What has a gradient although no reward differs: XPO's bonus asks for no reward, TRPA then compares with the reference.
WITHOUT_REWARD = {"xpo", "trpa"}


def t(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def loss_of(name: str, sums, lengths, rewards, groups, facts=None, **changes: Any):  # type: ignore[no-untyped-def]
    return GROUP_LOSSES[name](sums, lengths, rewards, groups, CONFIGS[name](name=name, **changes), facts or {})


ONE = torch.zeros(2, dtype=torch.long)
# p = softmax([.5, -.25]) = [.67918, .32082], -log p = [.38687, 1.13687]; q = [.94419, .05581].
ADAPTED = 0.94419 * 0.38687 + 0.05581 * 1.13687
TEN = t(10, 10)


def test_every_section_has_its_function_and_the_other_way_round():
    # Of instructions, and not of completions of a prompt: tests/objectives/test_hindsight.py.
    assert {*CONFIGS, "hir"} == set(GROUP_LOSSES)
    assert all(GROUP_LOSSES[name] is getattr(group_preferences, name) for name in CONFIGS)


@pytest.mark.parametrize(
    ("name", "expected", "changes"),
    [
        # D = [2, -1], 10 tokens each, r = [1, 0].
        ("dpo", 0.55436, {}),  # log(1 + e^-0.3)
        ("ipo", 22.09, {}),  # (0.3 - 5)^2
        ("ipo", 4.0, {"per_token": False}),  # (3 - 5)^2
        # weights of the reference e^-2 : e^1 = .047426 : .952574; bonus .094852 - .952574 = -.857722; 0.1 of it.
        ("xpo", 0.55436 - 0.0857722, {"alpha": 0.1}),
        ("dno", 0.55436 - 0.005 * 2, {}),  # winner's NLL: -D
        # (0.008 * 2 - 0.5) * 2 = -0.968; (0.008 * -1 + 0.5) * -1 = -0.492; mean -0.73.
        ("nash_md", -0.73, {}),
        # (2 - 0.5 / 0.5)^2 = 1, (-1 + 0.5 / 0.5)^2 = 0; mean 0.5.
        ("sppo", 0.5, {"beta": 0.5}),
        # scores +-0.5: ((2 - 1)^2 / 2 + 0) / 2 = 0.25.
        ("gpo", 0.25, {"beta": 0.5}),
        # rho = [0.2, -0.1]: 0.1 * 0.3 * 2.5 = 0.075; log(1 + e^-0.075) = 0.65635.
        ("trpa", 0.65635, {}),
        # p = softmax [2, -1] / 0.8 = [.977022, .022977]: .94419 * .023246 + .05581 * 3.773246 = .232535
        ("adpo", 0.232535, {}),
        # tau within [4, 5] is 4 where the rule would say less: D / 4 = [.5, -.25].
        ("adpo", ADAPTED, {"adaptive": AdaptiveTemperature(low=4.0, high=5.0)}),
        # V* = .71689: (.2 - .28311)^2 = .006907, (-.1 + .71689)^2 = .380553; mean .19373.
        ("a_star_po", 0.19373, {"beta": 0.1}),
        # logprobs [2, -1]: in order; the best's mean is 0.2.
        ("rrhf", -0.2, {}),
        ("rrtf", -0.2, {}),
        # delta = 0.1 * 0.5 = 0.05: .8 * .55436 + .2 * (log(1 + e^-.15) + log(1 + e^-.15)) / 2 - 2 / 10
        # = .443488 + .2 * .620957 - .2 = .367679.
        ("mpo", 0.367679, {}),
    ],
)
def test_by_hand(name, expected, changes):
    loss = loss_of(name, t(2, -1), TEN, t(1, 0), ONE, **changes)
    assert loss.item() == pytest.approx(expected, abs=2e-5)


def test_pairs_and_groups_share_one_denominator():
    # Group 0 has 2 pairs, group 1 has 1: DPO's mean is over all three; of best with worst over two.
    sums, rewards, groups = t(1, 0, 0, 2, 0), t(1, 0, 0, 1, 0), torch.tensor([0, 0, 0, 1, 1])
    lengths = torch.ones_like(sums)
    one, two = np.log1p(np.exp(-0.1)), np.log1p(np.exp(-0.2))
    assert loss_of("dpo", sums, lengths, rewards, groups).item() == pytest.approx((one + one + two) / 3)
    assert loss_of("dpo", sums, lengths, rewards, groups, pairs="best_worst").item() == pytest.approx((one + two) / 2)


def test_values_of_reference_samples_take_precedence():
    loss = loss_of("a_star_po", t(0, 0), TEN, t(1, 0), ONE, facts={"value": t(0.5, 0.5)})
    assert loss.item() == pytest.approx(0.25)


def test_levels_of_trpa():
    # Levels 1, 2, 3 from bounds [1, 0]: pairs (1, 2) and (1, 3) take 2.5, (2, 3) does not.
    loss = loss_of("trpa", t(0, 0, 5), t(10, 10, 10), t(1, 0, -1), torch.zeros(3), levels=(1.0, 0.0))
    expected = np.mean([np.log(2), np.log1p(np.exp(0.125)), np.log1p(np.exp(0.05))])
    assert loss.item() == pytest.approx(expected)


def batch() -> list[TrainSequence]:
    """Four prompts of three rollouts; one of equal rewards; one rollout has two segments."""
    generator = np.random.default_rng(4)
    sequences = []
    for rollout in range(12):
        reward = 1.0 if rollout // 3 == 3 else float(generator.integers(0, 3)) / 2
        for _ in range(2 if rollout == 5 else 1):
            length = int(generator.integers(3, 9))
            mask = np.zeros(length, dtype=bool)
            mask[2:] = True
            row = TrainSequence(np.arange(length), mask, -generator.random(length), np.zeros(length), rollout)
            row.group, row.facts = rollout // 3, {"reward": reward}
            sequences.append(row)
    return sequences


def coefficients(name: str, split: list[list[int]], mini_batch_of: list[TrainSequence]) -> tuple[float, np.ndarray]:
    """(loss with its constant, coefficient of each sequence) when the sequences fall into these micro-batches."""
    shard = make_shard(mini_batch_of, [0.1] * len(mini_batch_of), [split])
    micro_batches = [collate(shard, rows, "cpu") for rows in shard.mini_batches[0]]
    logprobs = []
    for b in micro_batches:
        b.old_logprobs, b.ref_logprobs = b.behavior_logprobs * 0.9, b.behavior_logprobs * 1.1
        logprobs.append(b.behavior_logprobs.clone())
    loss = linearise(micro_batches, logprobs, shard, CONFIGS[name](name=name)).loss
    found = np.zeros(len(mini_batch_of))
    for b, current in zip(micro_batches, logprobs, strict=True):
        assert b.coefficients is not None
        assert torch.isfinite(linear_form(b, current))
        if not b.num_loss_tokens:
            assert (b.coefficients == 0).all()
            continue
        for row, part in zip(b.rows, b.coefficients.split(b.row_tokens), strict=True):
            assert (part == part[0]).all()
            found[row] = float(part[0])
    return float(loss), found


@pytest.mark.parametrize("name", list(CONFIGS))
def test_gradient_does_not_depend_on_the_micro_batches(name):
    sequences = batch()
    everything = list(range(len(sequences)))
    loss, whole = coefficients(name, [everything], sequences)
    alone_loss, alone = coefficients(name, [[i] for i in everything], sequences)
    uneven_loss, uneven = coefficients(name, [everything[1::2], [], everything[::2]], sequences)
    assert loss == pytest.approx(alone_loss, abs=1e-12)
    assert loss == pytest.approx(uneven_loss, abs=1e-12)
    np.testing.assert_allclose(alone, whole, atol=1e-7)
    np.testing.assert_allclose(uneven, whole, atol=1e-7)
    assert np.abs(whole).max() > 0
    # Both segments of rollout 5 have the coefficient of the rollout.
    assert len({whole[i] for i, row in enumerate(sequences) if row.rollout == 5}) == 1


@pytest.mark.parametrize("name", list(CONFIGS))
def test_gradient_is_that_of_finite_differences(name):
    generator = torch.Generator().manual_seed(7)
    sums = torch.randn(6, generator=generator, dtype=torch.float64, requires_grad=True)
    lengths, rewards, groups = t(3, 5, 2, 4, 4, 1), t(1, 0, 0.5, 1, 1, 0), torch.tensor([0, 0, 0, 1, 1, 1])
    # What carries no gradient by definition (importance weights, tau log-ratio, delta) is constant in these.
    changes = {"nash_md": {"tau": 0.0, "mixture": 0.0}, "xpo": {"alpha": 0.0}, "mpo": {"quality": 0.0}}.get(name, {})
    assert torch.autograd.gradcheck(lambda x: loss_of(name, x, lengths, rewards, groups, **changes), (sums,))


@pytest.mark.parametrize("name", list(CONFIGS))
def test_order_and_shift_change_nothing(name):
    generator = torch.Generator().manual_seed(1)
    sums = torch.randn(7, generator=generator, dtype=torch.float64)
    lengths, rewards = t(3, 5, 2, 4, 4, 1, 6), t(1, 0, 0.5, 1, 0.25, 0, 2)
    groups = torch.tensor([4, 4, 4, 9, 9, 9, 9])
    value = loss_of(name, sums, lengths, rewards, groups)
    order = torch.randperm(7, generator=generator)
    torch.testing.assert_close(loss_of(name, sums[order], lengths[order], rewards[order], groups[order]), value)
    if name not in ("dno", "trpa"):  # those know rewards that are good in themselves
        torch.testing.assert_close(loss_of(name, sums, lengths, rewards + 3, groups), value)


@pytest.mark.parametrize("name", sorted(set(CONFIGS) - WITHOUT_REWARD))
@pytest.mark.parametrize("reward", [0.0, 0.1, 1.0, -7.3])
def test_equal_rewards_give_exactly_nothing_at_the_anchor(name, reward):
    sums = torch.zeros(3, requires_grad=True)
    loss = loss_of(name, sums, torch.full((3,), 7.0), torch.full((3,), reward), torch.zeros(3, dtype=torch.long))
    assert (torch.autograd.grad(loss, sums)[0] == 0).all()


@pytest.mark.parametrize("name", list(CONFIGS))
@pytest.mark.parametrize("size", [1e4, -1e4, 1e8])
def test_extreme_log_ratios_stay_finite(name, size):
    sums = t(size, 0, -size, 3).requires_grad_()
    loss = loss_of(name, sums, t(5, 5, 5, 5), t(0, 1, 1, 0.5), torch.tensor([0, 0, 0, 1]))
    assert torch.isfinite(loss)
    assert torch.isfinite(torch.autograd.grad(loss, sums)[0]).all()
