"""Methods of the reward: gates, process rewards, models beside the policy, noisy verifiers."""

from __future__ import annotations

from rlvr.recipe.methods.method import Method

REWARDS: dict[str, Method] = {
    "gra": Method(
        "Gated reward accumulation",
        "G-RA 2025",
        "2508.10548",
        ("reward",),
        "total: gate(shape >= 1) * gra(correct >= 1, 0.25 * mean(steps))",
    ),
    "grpo_lambda": Method(
        "GRPO-lambda, stable RL for efficient reasoning",
        "Dai et al. 2025",
        "2505.18086",
        ("reward",),
        "correct completions of the fifth of groups that solve most get 1 - 0.6 sigmoid(z-score of length), others 1",
        unverified=("alpha 0.6", "degrees of freedom of the standard deviation"),
    ),
    "capo": Method(
        "CAPO",
        "CAPO 2025",
        "2508.02298",
        ("credit",),
        "2 for a right answer on every token, less 1 in wrong steps, normalised over the tokens of the group",
        deviations=("A rule checks the steps where the paper asks a judge that votes.",),
    ),
    "igpo": Method(
        "Information-gain policy optimization",
        "IGPO 2025",
        "2510.14967",
        ("credit",),
        "rewards of turns and outcome, normalised separately, summed from a turn to the end",
        deviations=("Rule-checked steps stand for the gain of each turn in the gold answer's probability.",),
    ),
    "prime": Method(
        "PRIME, process reinforcement through implicit rewards",
        "Cui et al. 2025; Yuan et al. 2024",
        "2502.01456",
        ("reward", "credit", "advantage"),
        "token rewards beta log(prm / reference), the prm trained on outcomes along the way; leave-one-out per term",
    ),
    "cooper": Method(
        "Cooper, co-optimised policy and reward model",
        "Hong et al. 2025",
        "2508.05613",
        ("reward",),
        "the reward is a reward model's, trained each step on -log sigmoid(z_right - z_wrong) of pairs a rule judged",
        deviations=("Wrong answers are the policy's own; the paper has an assistant model write them.",),
    ),
    "spa": Method(
        "SPA-RL, stepwise progress attribution",
        "Wang et al. 2025",
        "2505.20732",
        ("reward", "credit"),
        "each turn gets its learned share of the outcome, (sum of shares - outcome)^2",
    ),
    "trust_grpo": Method(
        "Trust-GRPO (SophiaVL-R1)",
        "Fan et al. 2025",
        "2505.17018",
        ("reward",),
        "answer + trust * annealed weight * thinking, trust lower where wrong answers got the better thinking scores",
        deviations=("A rule on the working stands for the thinking reward model.",),
    ),
    "noise_backward": Method(
        "Backward correction of a noisy verifier",
        "Cai et al. 2025",
        "2510.00915",
        ("reward", "advantage"),
        "(verdict - rho0) / (1 - rho0 - rho1), an unbiased estimate of the right verdict",
    ),
    "noise_forward": Method(
        "Forward correction of a noisy verifier",
        "Cai et al. 2025",
        "2510.00915",
        ("reward", "advantage"),
        "weights that need the false-negative rate only",
    ),
    "ttrl": Method(
        "Test-time reinforcement learning",
        "Zuo et al. 2025",
        "2504.16084",
        ("reward",),
        "1 for completions whose answer is the group's most frequent one; no gold answers",
        deviations=("All completions vote and train; the paper draws 64 and trains on 32.",),
    ),
}

UNBUILT: dict[str, Method] = {
    "shiq": Method(
        "ShiQ",
        "Clavier et al. 2025",
        "2505.11081",
        ("policy_loss",),
        "squared Bellman residual of logits taken for Q",
        unverified=("formula derived, not read in code",),
        planned="a loss that reads whole logits of policy and reference",
    ),
    "q_sharp": Method(
        "Q#",
        "Zhou et al. 2025",
        "2502.20548",
        ("side model", "decoding"),
        "decoding with the reference's logits plus log E[exp(eta R)] of a value model",
        planned="guided decoding",
    ),
    "diffu_grpo": Method(
        "diffu-GRPO (d1)",
        "Zhao et al. 2025",
        "2504.12216",
        ("policy_loss",),
        "GRPO with one-step logprobs of a masked diffusion model",
        planned="diffusion language models",
    ),
    "cory": Method(
        "CORY",
        "Ma et al. 2024",
        "2410.06101",
        ("rollout",),
        "two copies, pioneer and observer, share their rewards and swap roles",
        planned="two policies in one run",
    ),
    "nlpo": Method(
        "NLPO",
        "Ramamurthy et al. 2022",
        "2210.01241",
        ("policy_loss", "rollout"),
        "PPO with actions masked to the nucleus of a lagged copy",
        planned="masked sampling",
    ),
    "semantic_soft_bootstrapping": Method(
        "Semantic soft bootstrapping",
        "Mitra 2025",
        "2512.05105",
        ("distillation",),
        "KL to the model itself with a right and a wrong solution in its context",
        planned="a teacher with a context of its own",
    ),
}
