"""Side models that hold weights of their own: reward models, implicit process reward models, progress estimators."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from rlvr.recipe.optimizer import OptimizerConfig
from rlvr.recipe.section import Dtype, Section

MODEL_FUNCTIONS: dict[str, str] = {
    "reward_model": "classifier",
    "implicit_prm": "implicit_prm",
    "progress": "progress",
    "token_outcome": "token_outcome",
}
"""Name of a term's function -> kind of the model that scores it. These terms run beside the reward processes."""

STEP_FUNCTIONS = ("implicit_prm", "progress", "token_outcome")
"""Those of them that score steps."""


class ScoredText(Section):
    """How a prompt and a completion become the text that a reward model scores."""

    input: Literal["text", "chat", "reference"] = Field(
        "text",
        description="text: the prompt as the policy saw it, then the completion. chat: the question and the completion "
        "in the reward model's own chat template. reference: question and gold answer, `separator`, question and "
        "completion, each pair joined by a line feed (POLAR's order).",
    )
    separator: str = Field("<|reward|>", description="Between the two halves of a `reference` input.")
    suffix: str | None = Field(
        None, description="Behind the completion; null is the tokenizer's eos token (with `chat`: nothing)."
    )
    max_tokens: int = Field(4096, ge=2, description="A longer text is a failed call: cut, it would be another text.")


class Placed(Section):
    """Where the processes of a side model run."""

    gpus: float = Field(0.0, ge=0, description="GPUs of each process, fractions allowed; 0 runs on CPU.")
    threads: int = Field(1, ge=1, description="OpenMP threads of each process.")


class TrainedBeside(Placed):
    """A side model with an optimizer of its own; the other settings of its training are those of `learner`."""

    ranks: int = Field(1, ge=1, description="Data-parallel ranks, with the stage's ZeRO stage.")


class CooperConfig(Section):
    """The reward model learns beside the policy, from answers that the rules have judged (Cooper, 2508.05613).

    Of each group the first right rollout and the first wrong one make a pair; groups without both are left out.
    """

    optimizer: OptimizerConfig = OptimizerConfig()
    ranks: int = Field(1, ge=1, description="Data-parallel ranks, with the stage's ZeRO stage.")


class ClassifierModel(ScoredText, Placed):
    """A sequence classification model with one output: a Bradley-Terry reward model."""

    kind: Literal["classifier"]
    path: str = Field(description="Local directory or hub id.")
    dtype: Dtype = Field("float32", description="Weights and activations; with `train`, learner.dtype holds.")
    output: Literal["raw", "sigmoid", "binary"] = Field(
        "raw",
        description="The logit itself, its sigmoid, or 1 where that exceeds 0.5. A Bradley-Terry logit has no zero of "
        "its own: only differences within a prompt mean something, so take sigmoid and binary for models trained on "
        "right and wrong answers.",
    )
    batch_size: int = Field(16, ge=1, description="Texts of similar length that are scored at a time.")
    trust_remote_code: bool = Field(False, description="Run the code that the model ships.")
    train: CooperConfig | None = Field(None, description="Train it beside the policy; null keeps it as it is.")


class PrmOptimizer(OptimizerConfig):
    """The optimizer of an implicit process reward model, with PRIME's clipping."""

    max_grad_norm: float = Field(10.0, gt=0, description="Gradients are clipped to this global L2 norm.")


class ImplicitPrmModel(TrainedBeside):
    """A language model whose log-ratio to its own start is a process reward (2412.01981, PRIME 2502.01456).

    It learns from `reward.correct` alone: cross entropy of the sigmoid of beta times the log-ratio of a completion.
    """

    kind: Literal["implicit_prm"]
    path: str | None = Field(
        None,
        description="Starting weights and reference, of the policy's tokenizer; null: the policy's own at the start.",
    )
    beta: float = Field(0.05, gt=0, description="Factor of the log-ratio, in training and in the reward.")
    update: Literal["after", "before"] = Field(
        "after", description="Learn from a step's outcomes after its completions are scored, or before."
    )
    granularity: Literal["token", "turn"] = Field(
        "token", description="One score per sampled token, or per turn of an environment."
    )
    optimizer: PrmOptimizer = PrmOptimizer()


class ProgressModel(TrainedBeside):
    """A scalar head at the end of each turn whose numbers learn to add up to the outcome (SPA-RL, 2505.20732).

    The outcome is the score of `reward.correct`. A completion without turns is one turn.
    """

    kind: Literal["progress"]
    path: str | None = Field(
        None, description="Starting weights, of the policy's tokenizer; null: the policy's own at the start."
    )
    optimizer: OptimizerConfig = OptimizerConfig()


class TokenOutcomeModel(TrainedBeside):
    """A scalar head at every sampled token that learns whether the completion will be right (OREAL, 2502.06781).

    The mean of its numbers up to a token is the log-odds, as of that token, that `reward.correct` says 1; the cross
    entropy of the mean over all tokens is what it learns by. `policy_loss.outcome_term` weighs tokens with it.
    """

    kind: Literal["token_outcome"]
    path: str | None = Field(
        None, description="Starting weights, of the policy's tokenizer; null: the policy's own at the start."
    )
    optimizer: OptimizerConfig = OptimizerConfig()


TrainedModel = ClassifierModel | ImplicitPrmModel | ProgressModel | TokenOutcomeModel
