"""Named methods: the slot choices that `preset:` lays under what a recipe writes.

A preset holds slot choices only, with the values of its source; batch sizes, learning rates and limits belong to a
recipe. The resolved recipe shows every choice, and any written key beats the preset's.
"""

from __future__ import annotations

from typing import Any

PRESETS: dict[str, dict[str, Any]] = {
    # DeepSeekMath (2402.03300), sections 4.1 and 4.2: z-scored group rewards, token means averaged over sequences,
    # beta = 0.04 on the k3 estimate in the loss. The KL term needs a reference policy; objective.kl.coefficient: 0
    # does without, as most later work does.
    "grpo": {
        "objective": {
            "advantage": "grpo",
            "policy_loss": {"name": "clip", "clip_low": 0.2, "clip_high": 0.2, "dual_clip": None},
            "aggregation": "sequence_mean",
            "kl": {"coefficient": 0.04, "estimator": "k3", "placement": "loss"},
            "filter": {"zero_variance": "keep", "mask_truncated": False},
        },
    },
    # Understanding R1-Zero-like training (2503.20783), section 3.2: no division by the group's standard deviation,
    # token sums over a constant, no KL.
    "dr_grpo": {
        "objective": {
            "advantage": "dr_grpo",
            "policy_loss": {"name": "clip", "clip_low": 0.2, "clip_high": 0.2, "dual_clip": None},
            "aggregation": "sequence_sum_constant",
            "kl": {"coefficient": 0.0},
            "filter": {"zero_variance": "keep", "mask_truncated": False},
        },
    },
    # DAPO (2503.14476), section 3: clip-higher, dynamic sampling, token-level loss, overlong filtering and the soft
    # overlong punishment, no KL. dual_clip and the limit of 10 rounds are those of the authors' released script. The
    # script pays +1 and -1 where verifiers here pay 1 and 0: weight 0.5 keeps the punishment's share. Its buffer
    # defaults to the paper's fifth of max_completion_tokens.
    "dapo": {
        "objective": {
            "advantage": "grpo",
            "policy_loss": {"name": "clip", "clip_low": 0.2, "clip_high": 0.28, "dual_clip": 10.0},
            "aggregation": "token_mean",
            "kl": {"coefficient": 0.0},
            "filter": {
                "zero_variance": "refill",
                "variance_of": "correct",
                "max_generation_rounds": 10,
                "mask_truncated": True,
            },
        },
        "reward": {"terms": {"overlong": {"fn": "overlong", "weight": 0.5}}},
    },
}
