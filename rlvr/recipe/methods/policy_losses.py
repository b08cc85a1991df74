"""Methods that differ in what an advantage does to a token's logprob, or in which tokens it reaches."""

from __future__ import annotations

from typing import Any

from rlvr.recipe.methods.method import Method, clip, objective


def _mismatch(**correction: Any) -> dict[str, Any]:
    return objective("grpo", mismatch=[correction])


POLICY_LOSSES: dict[str, Method] = {
    "gspo": Method(
        "Group sequence policy optimization",
        "Zheng et al. 2025",
        "2507.18071",
        ("policy_loss", "aggregation"),
        "GRPO with one ratio per completion, exp(mean log ratio), clipped at -3e-4/+4e-4; no KL",
        objective(
            "grpo",
            policy_loss={"name": "gspo", "clip_low": 3e-4, "clip_high": 4e-4},
            aggregation="sequence_mean",
        ),
    ),
    "gmpo": Method(
        "Geometric-mean policy optimization",
        "Zhao et al. 2025",
        "2507.20673",
        ("policy_loss", "aggregation"),
        "-A times the geometric mean of token ratios, each clipped to [e^-0.4, e^0.4]",
        objective(
            "grpo",
            policy_loss={"name": "gmpo", "clip_low": 0.4, "clip_high": 0.4},
            aggregation="sequence_mean",
        ),
    ),
    "cispo": Method(
        "Clipped importance-sampling policy optimization (MiniMax-M1)",
        "MiniMax 2025",
        "2506.13585",
        ("policy_loss",),
        "-min(ratio, 1 + clip_high) A log p, the factor without gradient; token mean; no KL",
        objective("grpo", policy_loss={"name": "cispo", "clip_low": None, "clip_high": 0.28}),
        unverified=("objective.policy_loss.clip_high",),
        deviations=("Without the report's length penalty and dynamic sampling.",),
    ),
    "sapo": Method(
        "Soft adaptive policy optimization",
        "SAPO 2025",
        "2511.20347",
        ("policy_loss", "aggregation"),
        "-4 / tau sigmoid(tau (ratio - 1)) A, tau 1 at positive advantages and 1.05 at the others",
        objective(
            "grpo",
            policy_loss={"name": "sapo", "tau_positive": 1.0, "tau_negative": 1.05},
            aggregation="sequence_mean",
        ),
    ),
    "clip_cov": Method(
        "Clip-Cov",
        "Cui et al. 2025, The entropy mechanism of RL",
        "2505.22617",
        ("policy_loss",),
        "the clipped surrogate without a random 0.02% of tokens, of covariance of advantage and logprob in [1, 5]",
        objective(
            "grpo",
            policy_loss={"name": "clip_cov", "share": 2e-4, "covariance_low": 1.0, "covariance_high": 5.0},
        ),
    ),
    "kl_cov": Method(
        "KL-Cov",
        "Cui et al. 2025, The entropy mechanism of RL",
        "2505.22617",
        ("policy_loss",),
        "the surrogate, with |log ratio| as a penalty on the 0.02% of tokens of highest covariance",
        objective("grpo", policy_loss={"name": "kl_cov", "share": 2e-4, "coefficient": 1.0}),
    ),
    "dppo": Method(
        "Divergence proximal policy optimization",
        "DPPO 2026",
        "2602.04879",
        ("policy_loss",),
        "-min(ratio, 20) A log p where the probability of the token stays within 0.2 of the old one",
        objective("grpo", policy_loss={"name": "dppo", "divergence": "tv", "low": 0.2, "high": 0.2}),
        unverified=("objective.policy_loss.low", "objective.policy_loss.high"),
    ),
    "dro": Method(
        "Direct reward optimization",
        "Richemond et al. 2024",
        "2405.19107",
        ("policy_loss",),
        "-A log p + beta / 2 (sum of log ratio)^2",
        objective("grpo", policy_loss={"name": "dro", "beta": 1.0, "level": "sequence"}, aggregation="sequence_mean"),
        unverified=("objective.policy_loss.beta",),
        deviations=("The group's mean reward stands for the learned value of the paper.",),
    ),
    "reinforce_is": Method(
        "REINFORCE with truncated importance sampling",
        "Munos et al. 2016; Espeholt et al. 2018",
        "1802.01561",
        ("policy_loss",),
        "-min(ratio to the engine, 2) A log p, the factor without gradient",
        objective("grpo", policy_loss={"name": "reinforce", "truncate": 2.0}, old_policy="engine"),
    ),
    "entropy_forks": Method(
        "80/20: high-entropy minority tokens",
        "Wang et al. 2025, Beyond the 80/20 rule",
        "2506.01939",
        ("token_weights", "policy_loss"),
        "DAPO's loss on the fifth of tokens of highest entropy",
        objective(
            "grpo",
            policy_loss=clip(0.2, 0.28),
            token_weights=[{"name": "entropy_forks", "share": 0.2}],
            token_weight_denominator="selected",
        ),
        deviations=("DAPO's filters and punishment are left out.",),
        unverified=("objective.token_weight_denominator",),
    ),
    "d3s": Method(
        "Dual-level down-sampling",
        "D3S 2025",
        "2509.22115",
        ("down_sampling", "token_weights"),
        "GRPO on the rollouts whose advantages vary most, on their tokens of largest |A| * entropy",
        objective(
            "grpo",
            down_sampling={"share": 0.5, "anneal": {"end": 1.0, "steps": 100}},
            token_weights=[{"name": "signal", "share": 0.2, "anneal": {"end": 1.0, "steps": 100}}],
        ),
        unverified=("objective.down_sampling.share", "objective.token_weights signal.share", "both schedules"),
    ),
    "tea_rl": Method(
        "Token-wise entropy-adaptive RL (Light-IF)",
        "Qihoo 360 2025",
        "2508.03178",
        ("auxiliary", "policy_loss", "kl"),
        "- token mean of H * clamp(10 softmax(cov of advantage and logprob), 0, 5), beside GRPO with wide clips",
        objective(
            "grpo",
            policy_loss=clip(0.99, 1.0, 10.0),
            kl={"coefficient": 0.001, "estimator": "k3", "placement": "loss"},
            auxiliary=[{"name": "token_entropy", "coefficient": 0.001}],
        ),
        unverified=("objective.auxiliary token_entropy.coefficient",),
        deviations=("The released branch cannot be reached and its scripts have coefficient 0; this is the formula.",),
    ),
    "critical_token_kl": Method(
        "Critical-token prioritised KL",
        "Vassoyan et al. 2025, Ignore the KL penalty",
        "2502.06533",
        ("kl",),
        "+ alpha * mean of (1 - H_ref / log V)^beta * k2",
        objective(
            "grpo",
            kl={
                "coefficient": 0.1,
                "estimator": "k2",
                "placement": "loss",
                "critical": {"entropy_of": "reference", "exponent": 1.0},
            },
        ),
        unverified=("objective.kl.coefficient", "objective.kl.critical.exponent"),
        deviations=("The authors' code has alpha 5 and exponent 150, on ln of the largest probability.",),
    ),
    "skywork_or1": Method(
        "Adaptive entropy control (Skywork-OR1)",
        "He et al. 2025",
        "2505.22312",
        ("auxiliary",),
        "an entropy bonus whose coefficient steps up while the entropy is below its target",
        objective("grpo", auxiliary=[{"name": "entropy_control", "target": 0.2, "step": 0.005}]),
        unverified=("objective.auxiliary entropy_control.target", "objective.auxiliary entropy_control.step"),
    ),
    "representation_exploration": Method(
        "Representation-based exploration",
        "Tuyls et al. 2025",
        "2510.11686",
        ("exploration",),
        "r + 0.01 h / (1 - h), h the leverage of a completion's mean hidden state in its group",
        objective("grpo", exploration={"coefficient": 0.01, "size": 32, "ridge": 0.01}),
    ),
    "pods": Method(
        "Policy optimization with down-sampling",
        "Xu et al. 2025",
        "2504.13818",
        ("rollout",),
        "GRPO on the completions of a prompt whose rewards vary most",
        {**objective("grpo"), "rollout": {"oversample": {"completions": 32, "keep": "max_variance"}}},
    ),
    "kdrl": Method(
        "Knowledge distillation and RL",
        "Xu et al. 2025",
        "2506.02208",
        ("auxiliary", "teacher"),
        "GRPO + beta_t * k2 to a teacher on the policy's tokens, beta_t = max(5e-3 - 5e-5 t, 1e-3); no reference",
        objective(
            "grpo",
            auxiliary=[
                {
                    "name": "distillation",
                    "coefficient": 0.005,
                    "anneal": {"end": 0.001, "steps": 80},
                    "mask": "all",
                }
            ],
        ),
        deviations=(
            "The paper's reward-guided masks are mask: response (wrong completions) and mask: group (unsolved groups).",
        ),
    ),
    "guide_grpo": Method(
        "Guide-GRPO",
        "Nath et al. 2025",
        "2506.13923",
        ("rollout",),
        "where all completions fail, others get a hint and train without it: ratio p(y | x) / p_old(y | x, hint)",
        {**objective("grpo"), "rollout": {"hints": {"column": "hint", "completions": 4}}},
        unverified=("rollout.hints.completions",),
    ),
    "amft": Method(
        "Adaptive mix of SFT and RL (an experiment: the paper is withdrawn)",
        "AMFT 2025, withdrawn",
        "2508.06944",
        ("auxiliary",),
        "(1 - mu) L_RL + mu L_SFT, mu by entropy",
        objective(
            "grpo",
            auxiliary=[{"name": "sft_mix", "batch_size": 16, "balance": {"share": 0.1, "target": 0.3, "rate": 0.05}}],
        ),
        unverified=("everything: the paper is withdrawn; this is an experiment of ours",),
    ),
    "tis": Method(
        "Truncated importance sampling between trainer and engine",
        "Yao et al. 2025",
        "",
        ("mismatch",),
        "token losses times min(exp(old - behavior logprob), 2)",
        _mismatch(level="token", action="clamp", low=None, high=2.0),
    ),
    "icepop": Method(
        "IcePop",
        "Ling team 2025, a blog post",
        "",
        ("mismatch",),
        "token losses times exp(old - behavior logprob) within [0.5, 5], else 0",
        _mismatch(level="token", action="mask", low=0.5, high=5.0),
    ),
    "mis": Method(
        "Masked importance sampling of sequences",
        "Liu et al. 2025",
        "",
        ("mismatch",),
        "completions whose exp(mean of old - behavior logprob) leaves the bounds do not train",
        _mismatch(level="geometric", action="mask", low=0.999, high=1.001),
    ),
}
