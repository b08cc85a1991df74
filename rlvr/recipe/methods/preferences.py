"""Methods that compare the completions of a prompt with each other instead of with a baseline."""

from __future__ import annotations

from typing import Any

from rlvr.recipe.methods.method import Method, objective


def _group(name: str, **loss: Any) -> dict[str, Any]:
    """These losses read rewards; the advantage slot plays no part."""
    return objective("reward", policy_loss={"name": name, **loss})


PREFERENCES: dict[str, Method] = {
    "dpo": Method(
        "Online DPO",
        "Rafailov et al. 2023; Guo et al. 2024",
        "2402.04792",
        ("policy_loss",),
        "-log sigmoid(beta (D_w - D_l)), D = sum of log(policy / reference), over pairs of a group",
        _group("dpo", beta=0.1, pairs="all"),
    ),
    "ipo": Method(
        "Identity preference optimization",
        "Azar et al. 2023",
        "2310.12036",
        ("policy_loss",),
        "((D_w - D_l) - 1 / (2 tau))^2 over pairs of a group",
        _group("ipo", tau=0.1, per_token=True, pairs="all"),
    ),
    "xpo": Method(
        "Exploratory preference optimization",
        "Xie et al. 2024",
        "2405.21046",
        ("policy_loss",),
        "DPO + alpha * sum of logprobs of the reference's samples",
        _group("xpo", beta=0.1, alpha=1e-5),
        deviations=("In-group rollouts, reweighted, stand for samples of the reference.",),
    ),
    "dno": Method(
        "Direct Nash optimization",
        "Rosset et al. 2024",
        "2404.03715",
        ("policy_loss",),
        "DPO against the current iterate over pairs with a good winner and a clear margin, + 0.005 NLL of winners",
        _group("dno", beta=0.1, alpha=0.005),
        deviations=("The paper's thresholds are on a judge's scale of 1 to 6; here the winner has reward 1.",),
    ),
    "nash_md": Method(
        "Nash mirror descent",
        "Munos et al. 2023",
        "2312.00886",
        ("policy_loss",),
        "policy gradient on P(y > y') - 1/2 - tau log(policy / reference), y' from a mixture of both",
        _group("nash_md", tau=0.008, mixture=0.125),
        deviations=("In-group rollouts, reweighted, stand for samples of the mixture.",),
    ),
    "sppo": Method(
        "Self-play preference optimization",
        "Wu et al. 2024",
        "2405.00675",
        ("policy_loss",),
        "(D - (win rate - 1/2) / beta)^2, D = sum of log(policy / current iterate)",
        _group("sppo", beta=0.001, rollouts="all"),
    ),
    "gpo": Method(
        "General preference optimization",
        "Zhang et al. 2024",
        "2410.02197",
        ("policy_loss",),
        "(D - mean preference score / beta)^2 / 2",
        _group("gpo", beta=0.001, rollouts="best_worst"),
        deviations=("Scores are reward differences; the paper's come from an embedding model of preferences.",),
    ),
    "trpa": Method(
        "Trust region preference approximation",
        "Su et al. 2025",
        "2504.04524",
        ("policy_loss", "auxiliary"),
        "-log sigmoid(0.1 (rho_w - rho_l)), times 2.5 inside for winners of the best level, rho mean log ratios; "
        "+ 0.001 k3 to the old policy",
        objective(
            "reward",
            policy_loss={"name": "trpa", "beta": 0.1, "top_factor": 2.5},
            auxiliary=[{"name": "old_policy_kl", "coefficient": 0.001}],
        ),
        deviations=("Two levels, by the verdict; the paper has four.",),
    ),
    "adpo": Method(
        "Anchored direct preference optimization",
        "ADPO 2025",
        "2510.18913",
        ("policy_loss",),
        "-sum of softmax(z(r) / 0.5) log softmax(D / 0.8) over a group, D to the old policy",
        _group("adpo", tau=0.8, target_temperature=0.5),
    ),
    "a_star_po": Method(
        "A*-PO",
        "Brantley et al. 2025",
        "2505.20686",
        ("policy_loss",),
        "(beta2 D - (r - V*))^2, V* = beta1 log mean exp(r / beta1) over 8 samples of the starting weights",
        _group("a_star_po", beta=0.001, value_beta=0.5, reference_samples=8),
    ),
    "rrhf": Method(
        "Rank responses to align with human feedback",
        "Yuan et al. 2023",
        "2304.05302",
        ("policy_loss",),
        "sum over pairs of max(0, p_worse - p_better) + NLL of the best, p mean logprobs",
        _group("rrhf", imitation=1.0),
    ),
    "rrtf": Method(
        "Rank responses with test and teacher feedback (PanGu-Coder2)",
        "Shen et al. 2023",
        "2307.14936",
        ("policy_loss",),
        "as RRHF against the best only, times the reward difference",
        _group("rrtf", imitation=1.0),
        deviations=("The best completion of the group stands for the teacher's.",),
    ),
    "mpo": Method(
        "Mixed preference optimization (InternVL, Skywork R1V2)",
        "Wang et al. 2024",
        "2411.10442",
        ("policy_loss",),
        "0.8 DPO + 0.2 BCO + 1.0 NLL of the better completions",
        _group("mpo", beta=0.1, preference=0.8, quality=0.2, generation=1.0),
        unverified=("weights in Skywork R1V2; these are InternVL's",),
    ),
}
