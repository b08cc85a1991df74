"""Rules that tie reward terms to the models beside the policy."""

from __future__ import annotations

from collections.abc import Iterator

from rlvr.recipe.marks import did_you_mean
from rlvr.recipe.reward import RewardConfig, RewardTerm
from rlvr.recipe.trained_models import MODEL_FUNCTIONS, ClassifierModel, TrainedModel

Fault = tuple[tuple[str, ...], object, str]
"""Where in the reward section, the value there, what is wrong with its remedy."""

# What only reward processes read; the terms of models have neither process nor steps of their own.
PROCESS_KEYS = {"split": None, "scope": "group", "isolated": False, "timeout_s": None}


def model_faults(reward: RewardConfig) -> Iterator[Fault]:
    """Terms and models that do not fit each other, and models that no term asks."""
    for name, term in reward.terms.items():
        yield from ((("terms", name, *loc), value, text) for loc, value, text in _term(term, reward))
    asked = {term.model for term in reward.terms.values()}
    for name, model in reward.models.items():
        if name not in asked:
            yield ("models", name), model.kind, f"no term asks it; give a term `model: {name}`, or remove it"
    verdict = reward.terms.get(reward.correct_term)
    for name, model in reward.models.items():
        learns = isinstance(model, TrainedModel) and not (isinstance(model, ClassifierModel) and model.train is None)
        if learns and verdict is not None and verdict.fn in MODEL_FUNCTIONS:
            text = f"learns from reward.correct, which is {reward.correct_term!r}, itself a model; name a rule there"
            yield ("models", name), model.kind, text


def _term(term: RewardTerm, reward: RewardConfig) -> Iterator[Fault]:
    wanted = MODEL_FUNCTIONS.get(term.fn)
    if wanted is not None:
        for key, neutral in PROCESS_KEYS.items():
            if getattr(term, key) != neutral:
                yield (key,), getattr(term, key), f"{term.fn} runs beside the reward processes and has none; remove it"
    if term.model is None:
        if wanted is not None:
            have = [name for name, model in reward.models.items() if model.kind == wanted]
            hint = f"one of {', '.join(have)}" if have else f"an entry of reward.models of kind {wanted}"
            yield ("model",), None, f"fn {term.fn} needs a model; name {hint}"
        return
    model = reward.models.get(term.model)
    if model is None:
        hint = did_you_mean(term.model, tuple(reward.models)) if reward.models else "reward.models has no entries"
        yield ("model",), term.model, f"unknown model; {hint}"
    elif wanted is not None and model.kind != wanted:
        yield ("model",), term.model, f"is of kind {model.kind}; fn {term.fn} asks a model of kind {wanted}"
    elif wanted is None and model.kind in MODEL_FUNCTIONS.values():
        fn = next(fn for fn, kind in MODEL_FUNCTIONS.items() if kind == model.kind)
        yield ("model",), term.model, f"is of kind {model.kind}, which only fn {fn} asks, and not {term.fn}"
