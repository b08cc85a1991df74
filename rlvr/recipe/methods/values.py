"""Methods with a value model."""

from __future__ import annotations

from rlvr.recipe.methods.method import Method, clip, objective

VALUES: dict[str, Method] = {
    "ppo": Method(
        "Proximal policy optimization with generalised advantage estimation",
        "Schulman et al. 2017; 2015",
        "1707.06347",
        ("critic", "advantage", "policy_loss"),
        "A_t = sum of (gamma lambda)^k delta, delta = r + gamma V' - V, whitened; clip 0.2; value clip 0.5",
        objective("gae", critic={"policy_lambda": 0.95, "gamma": 1.0, "clip": 0.5}),
    ),
    "vapo": Method(
        "Value-augmented PPO",
        "Yue et al. 2025",
        "2504.05118",
        ("critic", "advantage", "policy_loss", "auxiliary"),
        "GAE with lambda = 1 - 1 / (0.05 l) for the policy and 1 for the critic, which learns alone for 50 steps; "
        "clip -0.2/+0.28; token mean; + 0.1 NLL of correct completions",
        objective(
            "gae",
            policy_loss=clip(0.2, 0.28),
            critic={"length_adaptive": 0.05, "critic_lambda": 1.0, "warmup_steps": 50},
            auxiliary=[{"name": "positive_nll", "coefficient": 0.1}],
        ),
        unverified=("learning rates",),
    ),
    "t_ppo": Method(
        "Truncated PPO",
        "Fan et al. 2025",
        "2506.15050",
        ("rollout", "critic", "advantage"),
        "completions train a window at a time and go on in the next step; GAE that bootstraps at the cut (EGAE); the "
        "critic learns from finished completions only",
        objective("gae", critic={"truncated": "bootstrap", "policy_lambda": 0.95, "critic_lambda": 1.0}),
        unverified=("the length of a window", "that tokens of earlier windows do not train again"),
        deviations=("rollout.window_tokens, a length, is the recipe's own; without it nothing is continued.",),
    ),
    "dvpo": Method(
        "Decoupled value policy optimization",
        "Huang et al. 2025",
        "2502.16944",
        ("critic", "advantage"),
        "GAE or A = Q from a value model that was trained beforehand and stays frozen",
        deviations=("The value model is trained in a stage of its own, on the policy's own completions.",),
    ),
}
