"""The reward section of a recipe: terms, the expression over them, and what happens when one breaks."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from rlvr.recipe.section import Section
from rlvr.recipe.side_models import SideModel
from rlvr.recipe.trained_models import MODEL_FUNCTIONS


class RewardTerm(BaseModel):
    """One reward function; keys other than these are its parameters, checked against its signature."""

    model_config = ConfigDict(extra="allow", frozen=True, allow_inf_nan=False)
    __pydantic_extra__: dict[str, JsonValue]

    fn: str = Field(description="Name of a built-in function (`rlvr.scoring.functions`) or path/to/file.py:function.")
    weight: float = Field(1.0, description="Factor of this term in the total reward, where `total` is left out.")
    split: str | None = Field(
        None,
        pattern=r"^(line|paragraph|sentence|turn|tag:[A-Za-z][A-Za-z0-9_-]*)$",
        description="Cut the completion into steps (line, paragraph, sentence, turn, or the contents of tag:NAME) and "
        "pass them to the function as `steps`; it returns one number per step.",
    )
    scope: Literal["group", "batch"] = Field(
        "group",
        description="Whom a batched function sees at once: the completions of one prompt, or of the whole step.",
    )
    isolated: bool = Field(
        False,
        description="Give the term reward processes of its own, as many as resources.rewards.processes, shared with no "
        "other term.",
    )
    timeout_s: float | None = Field(
        None, gt=0, description="Wall-clock limit of one call of this term, in seconds; null takes `reward.timeout_s`."
    )
    model: str | None = Field(None, description="Entry of `reward.models` that the function asks.")

    @property
    def params(self) -> dict[str, JsonValue]:
        return dict(self.__pydantic_extra__ or {})


class AppealsConfig(Section):
    """A second verifier hears a sample of the completions that the first one rejected (2510.00915)."""

    by: str = Field(description="The term that hears appeals; it is asked about those completions only.")
    fraction: float = Field(0.1, gt=0, le=1, description="Share of the rejected completions that are appealed.")
    window: int = Field(
        20, ge=1, description="Scoring rounds (one per step, more with refills) that the estimate is taken over."
    )
    overturn: bool = Field(False, description="Whether a completion whose appeal succeeds counts as right.")


class NoiseConfig(Section):
    """Known or estimated error rates of a verifier that says 0 or 1, and the correction for them (2510.00915)."""

    term: str | None = Field(None, description="The noisy verifier; null takes `reward.correct`.")
    correction: Literal["backward", "forward", "none"] = Field(
        "backward",
        description="backward: an unbiased estimate of the right verdict; forward: weights that need the "
        "false-negative rate only; none: only estimate. Needs objective.advantage reward.",
    )
    false_positive: float = Field(0.0, ge=0, lt=1, description="rho0: share of wrong completions that are accepted.")
    false_negative: float = Field(0.0, ge=0, lt=1, description="rho1: share of right ones that are rejected.")
    appeals: AppealsConfig | None = Field(None, description="Estimate false_negative while training.")
    max_false_negative: float = Field(0.5, gt=0, lt=1, description="Bound on the estimate from appeals.")
    added_false_positive: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Share of the wrong completions that training is told are right: noise put in on purpose, to see "
        "what a method stands. Held-out evaluation keeps the verdicts.",
    )
    added_false_negative: float = Field(
        0.0, ge=0, le=1, description="Share of the right completions that training is told are wrong."
    )


class QuarantineConfig(Section):
    """A verifier that keeps breaking is left out of the total instead of ending the run."""

    max_failure_rate: float = Field(0.5, gt=0, le=1, description="Share of its calls over the window.")
    window: int = Field(3, ge=1, description="Scoring rounds over which a term's failure rate is taken.")
    terms: tuple[str, ...] = Field(description="Terms that may be left out; never the one that decides correctness.")


class FailurePolicy(Section):
    """What becomes of a rollout whose verifier broke. It is never scored 0."""

    retries: int = Field(1, ge=0, le=10, description="How often a failed call is tried again in a fresh process.")
    then: Literal["drop_rollout", "drop_group"] = Field("drop_rollout", description="After the last retry.")
    max_failure_rate: float = Field(
        0.2, ge=0, le=1, description="Share of failed calls in a step above which the run stops and shows samples."
    )
    quarantine: QuarantineConfig | None = Field(None, description="Terms that may be left out when they keep failing.")


class TableRow(Section):
    """What one verdict is worth, by how the completion ended."""

    finished: float = Field(description="Reward of a completion that ended by itself.")
    truncated: float = Field(description="Reward of one that was cut at its token limit.")


class OutcomeTable(Section):
    """The reward of each of eight outcomes: correct, wrong, none or unparsable, finished or truncated."""

    of: str | None = Field(None, description="The term that decides; null takes `reward.correct`.")
    correct: float | TableRow = Field(description="The term scored at least 1.")
    wrong: float | TableRow = Field(description="It scored less.")
    none: float | TableRow | None = Field(
        None, description="It found no answer (its info holds `extracted: null`); null counts as wrong."
    )
    unparsable: float | TableRow | None = Field(
        None, description="It found an answer that it could not read (`unparsable` in its info); null counts as wrong."
    )


class RewardConfig(Section):
    """What a completion is worth: an expression over its terms, or their weighted sum."""

    terms: dict[str, RewardTerm] = Field(min_length=1, description="Name -> reward function.")
    total: str | None = Field(
        None, description="Expression over the terms (docs/rewards/gating.md); null is the weighted sum of the terms."
    )
    define: dict[str, str] = Field(
        default_factory=dict, description="Name -> expression that `total` and other definitions refer to."
    )
    table: OutcomeTable | None = Field(
        None, description="Outcome table: `table` in `total`, or the total itself where that is left out."
    )
    models: dict[str, SideModel] = Field(
        default_factory=dict, description="Name -> model that terms ask: judges, reward models, process reward models."
    )
    correct: str | None = Field(
        None, description="Term whose score >= 1 counts as correct in accuracy metrics; null takes the first term."
    )
    timeout_s: float = Field(10.0, gt=0, description="Wall-clock limit of one call, in seconds.")
    memory_mb: int = Field(2048, ge=256, description="Address space that calls may add to a reward process, MiB.")
    calls_per_process: int = Field(1000, ge=1, description="A reward process is replaced after so many calls.")
    on_failure: FailurePolicy = FailurePolicy()
    noise: NoiseConfig | None = Field(None, description="Error rates of the verifier, and the correction for them.")

    @property
    def process_terms(self) -> dict[str, RewardTerm]:
        """The terms that reward processes score; models beside them score the others."""
        return {name: term for name, term in self.terms.items() if term.fn not in MODEL_FUNCTIONS}

    @property
    def correct_term(self) -> str:
        """The term that accuracy is read from."""
        return self.correct or next(iter(self.terms))

    def lanes(self, model: str) -> int:
        """Sets of reward processes that ask a model: those of shared terms, and those of each isolated one."""
        isolated = [term.isolated for term in self.terms.values() if term.model == model]
        return max(1, sum(isolated) + (not all(isolated)))

    def limit_s(self, term: str) -> float:
        """Wall-clock limit of one call of a term, in seconds."""
        return self.terms[term].timeout_s or self.timeout_s
