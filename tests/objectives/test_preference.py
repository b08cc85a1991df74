"""Preference objectives: hand-worked values, gradients, what shifts and permutations must not change, extremes."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rlvr.objectives import preference as p


def t(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def pairs_of(pairs: p.Pairs) -> set[tuple[int, int]]:
    return set(zip(pairs.winners.tolist(), pairs.losers.tolist(), strict=True))


ONE = torch.zeros(2, dtype=torch.long)  # two completions of one prompt
WIN_FIRST = p.Pairs(torch.tensor([0]), torch.tensor([1]))


def test_pairs_stay_in_their_group_and_need_a_difference():
    rewards, groups = t(1, 0, 1, 0.5, 0.5), torch.tensor([7, 7, 7, 3, 3])
    # Group 7: both ones beat the zero. Group 3: equal. No pair over the border, although 1 > 0.5.
    assert pairs_of(p.in_group_pairs(rewards, groups)) == {(0, 1), (2, 1)}
    assert pairs_of(p.in_group_pairs(rewards, groups, "best_worst")) == {(0, 1)}


def test_best_with_worst_takes_the_first_of_equals():
    rewards, groups = t(0, 2, 2, 1, 0), torch.zeros(5, dtype=torch.long)
    assert pairs_of(p.in_group_pairs(rewards, groups, "best_worst")) == {(1, 0)}


def test_dno_pairs_by_hand():
    # Three sampled with scores 6, 4, 3 and one given with 5. 6 is good enough and beats 5, 4, 3 by at least 1; the
    # given 5 beats 3 by 2 but 4 only by 1; 4 is below 5 and wins nothing.
    rewards, groups = t(6, 4, 3, 5), torch.zeros(4, dtype=torch.long)
    given = torch.tensor([False, False, False, True])
    assert pairs_of(p.dno_pairs(rewards, groups, given)) == {(0, 3), (0, 1), (0, 2), (3, 2)}
    # Without saying which is given, a margin of 1 holds for all: 5 beats 4 too.
    assert pairs_of(p.dno_pairs(rewards, groups)) == {(0, 3), (0, 1), (0, 2), (3, 2), (3, 1)}
    assert not pairs_of(p.dno_pairs(t(5, 5), ONE, margin=0.0))  # equal is no win whatever the margin


def test_dpo_by_hand():
    # beta (2 - (-1)) = 0.3; -log sigmoid(0.3) = log(1 + e^-0.3) = 0.55436.
    torch.testing.assert_close(p.dpo_loss(t(2, -1), WIN_FIRST, 0.1), t(math.log1p(math.exp(-0.3))))
    assert p.dpo_loss(t(2, -1), WIN_FIRST, 0.1).item() == pytest.approx(0.55436, abs=1e-5)
    # e = 0.2: 0.8 * 0.55436 + 0.2 * (0.55436 + 0.3) = 0.61436.
    assert p.dpo_loss(t(2, -1), WIN_FIRST, 0.1, 0.2).item() == pytest.approx(0.61436, abs=1e-5)


def test_ipo_by_hand():
    # D_w - D_l = 3; 1 / (2 * 0.1) = 5; (3 - 5)^2 = 4.
    torch.testing.assert_close(p.ipo_loss(t(2, -1), WIN_FIRST, 0.1), t(4))


def test_importance_turns_policy_samples_into_the_mixture():
    # Policy softmax [2, 0], reference softmax [0, 1]; c = 1/2 mixes the logits to [1, 0.5]: [0.6225, 0.3775].
    policy, reference = t(2, 0).log_softmax(0), t(0, 1).log_softmax(0)
    weights = p.geometric_importance(policy - reference, ONE, 0.5)
    assert weights.sum().item() == pytest.approx(1)
    mixed = policy.exp() * weights
    torch.testing.assert_close(mixed / mixed.sum(), t(1, 0.5).softmax(0))
    assert (mixed / mixed.sum())[0].item() == pytest.approx(0.6225, abs=1e-4)
    torch.testing.assert_close(p.geometric_importance(policy - reference, ONE, 0.0), t(0.5, 0.5))


def test_xpo_bonus_by_hand():
    # 0.25 * -4 + 0.75 * -2 = -2.5; its gradient at each logprob is the weight.
    logprobs = t(-4, -2).requires_grad_()
    bonus = p.xpo_bonus(logprobs, t(0.25, 0.75))
    assert bonus.item() == pytest.approx(-2.5)
    torch.testing.assert_close(torch.autograd.grad(bonus, logprobs)[0], t(0.25, 0.75))


def test_preferences_and_win_rates_by_hand():
    rewards, groups = t(1, 0, 1, 5), torch.tensor([0, 0, 0, 1])
    certain = p.preferences(rewards, groups)
    torch.testing.assert_close(certain[0], t(0.5, 1, 0.5, 0.5))
    torch.testing.assert_close(certain[1], t(0, 0.5, 0, 0.5))
    # sigmoid((1 - 0) / 0.5) = sigmoid(2) = 0.880797.
    assert p.preferences(rewards, groups, 0.5)[0, 1].item() == pytest.approx(0.880797, abs=1e-6)
    # Against the other two with equal weights: (1 + 0.5) / 2, (0 + 0) / 2; alone: 1/2.
    torch.testing.assert_close(p.win_rates(certain, torch.ones(4).double(), groups), t(0.75, 0, 0.75, 0.5))
    # Weights 1, 2, 3 of the opponents: (2 * 1 + 3 * 0.5) / 5 = 0.7 for the first.
    assert p.win_rates(certain, t(1, 2, 3, 9), groups)[0].item() == pytest.approx(0.7)


def test_nash_md_by_hand():
    # (0.1 * 2 - (0.9 - 0.5)) * -3 = 0.6; the gradient at the logprob is -0.2, and none flows through D.
    logprobs, log_ratios = t(-3).requires_grad_(), t(2).requires_grad_()
    loss = p.nash_md_loss(logprobs, log_ratios, t(0.9), 0.1)
    assert loss.item() == pytest.approx(0.6)
    gradient, none = torch.autograd.grad(loss.sum(), (logprobs, log_ratios), allow_unused=True)
    torch.testing.assert_close(gradient, t(-0.2))
    assert none is None


def test_sppo_and_gpo_by_hand():
    # (0.3 - (0.75 - 0.5) / 0.5)^2 = 0.04;  (0.3 - 0.2 / 0.5)^2 / 2 = 0.005.
    assert p.sppo_loss(t(0.3), t(0.75), 0.5).item() == pytest.approx(0.04)
    assert p.gpo_loss(t(0.3), t(0.2), 0.5).item() == pytest.approx(0.005)


def test_bco_by_hand():
    # beta D - delta = 0.2 - 0.1 and -0.3 - 0.1: log(1 + e^-0.1) = 0.64440 and log(1 + e^-0.4) = 0.51302.
    loss = p.bco_loss(t(2, -3), torch.tensor([True, False]), 0.1, 0.1)
    torch.testing.assert_close(loss, t(0.644397, 0.513015), atol=1e-6, rtol=0)


def test_trpa_by_hand():
    # rho = [0.4, -0.2]: beta * 0.6 = 0.06, times 2.5 as level 1 wins: log(1 + e^-0.15) = 0.62096; without 0.66360.
    loss = p.trpa_loss(t(0.4, -0.2), torch.tensor([1, 2]), ONE)
    assert loss.tolist() == pytest.approx([0.62096], abs=1e-5)
    assert p.trpa_loss(t(0.4, -0.2), torch.tensor([1, 2]), ONE, top_factor=1.0).item() == pytest.approx(
        0.6636, abs=1e-5
    )
    # Levels 2 and 3 take no factor.
    assert p.trpa_loss(t(0.4, -0.2), torch.tensor([2, 3]), ONE).item() == pytest.approx(0.6636, abs=1e-5)
    # No pair: each against the reference, log(1 + e^-0.4) at level 1.
    assert p.trpa_loss(t(0.4, 0.4), torch.tensor([1, 1]), ONE).tolist() == pytest.approx([0.513015] * 2, abs=1e-6)


def test_adpo_by_hand():
    # r = [1, 0] -> z = +-0.70711 (sample std; the 1e-6 beside it moves the sixth digit), / 0.5 -> q = [.94419, .05581]
    # log-ratios [.4, -.4] / .8 = [.5, -.5] -> p = [.73106, .26894] -> .94419 * .31326 + .05581 * 1.31326 = .36907.
    q = p.listwise_targets(t(1, 0), ONE)
    torch.testing.assert_close(q, t(0.94419, 0.05581), atol=1e-5, rtol=0)
    assert p.adpo_loss(t(0.4, -0.4), q, ONE, 0.8).sum().item() == pytest.approx(0.36907, abs=1e-5)


def test_adaptive_temperature_by_hand():
    # p = [.73106, .26894]: entropy .58220 of at most log 2, so H = .83994; mean reward .5 of [0, 1], so R = .5.
    # .8 * (1 + .5 * .83994 + .5 * .16006 * .5) = .8 * 1.459985 = 1.167988.
    arguments = (0.8, (0.5, 0.5), (0.0, 1.0))
    tau = p.adaptive_temperature(t(0.4, -0.4), t(1, 0), ONE, *arguments, (0.05, 10.0))
    torch.testing.assert_close(tau, t(1.167988, 1.167988), atol=1e-5, rtol=0)
    # Flat: all of the first factor and nothing of the second; sharp over a bad pair: the other way round.
    torch.testing.assert_close(p.adaptive_temperature(t(1, 1), t(1, 0), ONE, *arguments, (0.05, 10.0)), t(1.2, 1.2))
    torch.testing.assert_close(p.adaptive_temperature(t(1e4, 0), t(0, 0), ONE, *arguments, (0.05, 10.0)), t(1.2, 1.2))
    # A group of its own temperature each; a group of one is not flat; the bounds hold.
    groups = torch.tensor([0, 0, 1])
    found = p.adaptive_temperature(t(1, 1, 0), t(1, 0, 1), groups, *arguments, (0.9, 1.1))
    torch.testing.assert_close(found, t(1.1, 1.1, 0.9))


def losses(log_ratios: torch.Tensor, rewards: torch.Tensor, groups: torch.Tensor) -> dict[str, torch.Tensor]:
    """Each objective as one number, from D alone (logprobs stand in for D where a loss wants them)."""
    pairs = p.in_group_pairs(rewards, groups)
    even = p.geometric_importance(log_ratios, groups, 0.0)
    rates = p.win_rates(p.preferences(rewards, groups), even, groups)
    targets = p.listwise_targets(rewards, groups)
    return {
        "dpo": p.dpo_loss(log_ratios, pairs, 0.1).sum(),
        "ipo": p.ipo_loss(log_ratios, pairs, 0.1).sum(),
        "nash_md": p.nash_md_loss(log_ratios, log_ratios, rates, 0.0).sum(),
        "sppo": p.sppo_loss(log_ratios, rates, 0.5).sum(),
        "adpo": p.adpo_loss(log_ratios, targets, groups, 0.8).sum(),
    }


NAMES = ["dpo", "ipo", "nash_md", "sppo", "adpo"]


@pytest.mark.parametrize("name", NAMES)
@given(seed=st.integers(0, 10_000), shift=st.sampled_from([-3.0, 0.5, 7.0]))
@settings(max_examples=15, deadline=None)
def test_shift_of_rewards_and_order_change_nothing(name, seed, shift):
    generator = torch.Generator().manual_seed(seed)
    log_ratios = torch.randn(9, generator=generator, dtype=torch.float64)
    rewards = torch.randint(0, 3, (9,), generator=generator).double()
    groups = torch.tensor([0, 0, 0, 1, 1, 1, 1, 2, 2])
    value = losses(log_ratios, rewards, groups)[name]
    order = torch.randperm(9, generator=generator)
    torch.testing.assert_close(losses(log_ratios, rewards + shift, groups)[name], value)
    torch.testing.assert_close(losses(log_ratios[order], rewards[order], groups[order])[name], value)


@pytest.mark.parametrize("name", NAMES)
@given(reward=st.floats(-1e3, 1e3, width=32), seed=st.integers(0, 1000))
@settings(max_examples=15, deadline=None)
def test_equal_rewards_give_exactly_no_gradient_on_policy(name, reward, seed):
    # In float32, at D = 0 where a batch starts. Pair losses and ADPO leave such groups out whatever D is.
    generator = torch.Generator().manual_seed(seed)
    start = torch.zeros(4) if name in ("nash_md", "sppo") else torch.randn(4, generator=generator)
    log_ratios = start.requires_grad_()
    value = losses(log_ratios, torch.full((4,), reward), torch.zeros(4, dtype=torch.long))[name]
    assert (torch.autograd.grad(value, log_ratios)[0] == 0).all()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [1e4, -1e4, 3e38])
def test_extreme_log_ratios_stay_finite(name, size):
    log_ratios = torch.tensor([size, 0.0, -size / 2], requires_grad=True, dtype=torch.float64)
    value = losses(log_ratios, t(0, 1, 2), torch.zeros(3, dtype=torch.long))[name]
    assert torch.isfinite(value)
    assert torch.isfinite(torch.autograd.grad(value, log_ratios)[0]).all()


def test_gradcheck():
    generator = torch.Generator().manual_seed(3)
    log_ratios = torch.randn(6, generator=generator, dtype=torch.float64, requires_grad=True)
    rewards, groups = t(1, 0, 0.5, 1, 1, 0), torch.tensor([0, 0, 0, 1, 1, 1])
    pairs = p.in_group_pairs(rewards, groups)
    targets, levels = p.listwise_targets(rewards, groups), torch.tensor([1, 3, 2, 1, 1, 2])
    for function in (
        lambda d: p.dpo_loss(d, pairs, 0.1, 0.1),
        lambda d: p.ipo_loss(d, pairs, 0.1),
        lambda d: p.sppo_loss(d, rewards, 0.5),
        lambda d: p.gpo_loss(d, rewards, 0.5),
        lambda d: p.bco_loss(d, rewards > 0.5, 0.1, 0.1),
        lambda d: p.adpo_loss(d, targets, groups, 0.8),
        lambda d: p.trpa_loss(d, levels, groups),
    ):
        assert torch.autograd.gradcheck(function, (log_ratios,))
