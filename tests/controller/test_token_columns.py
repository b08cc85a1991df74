"""Columns that the driver gives a rollout's tokens: weights of spans, beliefs of an outcome model."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from rlvr.controller.batch import assemble
from rlvr.controller.outcome_weights import outcome_weights
from rlvr.controller.span_weights import matches, span_weights
from rlvr.errors import RecipeError
from rlvr.learner.imitation_losses import OUTCOME_WEIGHT
from rlvr.learner.token_scale import SPAN_WEIGHT, TOKEN_WEIGHTS
from rlvr.models.tokenizer import build_character_tokenizer
from rlvr.objectives.token_weights import TokenFacts
from rlvr.recipe.imitation_losses import OrealLoss
from rlvr.recipe.load import load_recipe
from rlvr.recipe.objective import SpanWeight
from rlvr.recipe.schema import ObjectiveConfig
from rlvr.records import Abstain, Group, Prompt, Rollout, SamplingParams, Segment, Steps

TOKENIZER = build_character_tokenizer("<think>/ab12= ")
TEXT = "<think>ab</think>12"


def rollout(text: str = TEXT, **outcomes: Any) -> Rollout:
    ids = [*TOKENIZER(text)["input_ids"], TOKENIZER.eos_token_id]
    prompt = Prompt("p", (3, 4), "?")
    segment = Segment(prompt.token_ids, ids, [True] * len(ids), [-0.5] * len(ids), [1] * len(ids), "stop")
    return Rollout(prompt, 0, 0, [segment], text, SamplingParams(1.0, 99), outcomes=outcomes, reward=1.0)


def spans(**config: Any) -> ObjectiveConfig:
    return ObjectiveConfig(advantage="reward", token_weights=(SpanWeight(name="span", **config),))


def test_matches_are_spans_or_their_first_group() -> None:
    assert matches("[0-9]", "a1b2") == ((1, 2), (3, 4))
    assert matches("a(.*?)b", "a1b a\n2b") == ((1, 2), (5, 7))
    assert matches("x*", "ab") == ()


def test_the_tokens_of_a_pattern_are_inside() -> None:
    """A token is a character: 7 of `<think>`, 2 inside, 8 of `</think>`, `12`, and the eos, which writes nothing."""
    column = span_weights(rollout(), spans(pattern="<think>(.*)</think>", inside=2.0, outside=0.5), TOKENIZER)
    assert column[SPAN_WEIGHT].tolist() == [0.5] * 7 + [2.0] * 2 + [0.5] * 11
    assert span_weights(rollout("12"), spans(pattern="<think>"), TOKENIZER)[SPAN_WEIGHT].tolist() == [0.0] * 3
    assert span_weights(rollout(), ObjectiveConfig(), TOKENIZER) == {}


def test_the_steps_of_a_term_are_spans() -> None:
    judged = Steps((1.0, 0.0), ((0, 2), (4, 5)), "token")
    column = span_weights(rollout("ab12=", steps=judged), spans(term="steps"), TOKENIZER)
    assert column[SPAN_WEIGHT].tolist() == [1, 1, 0, 0, 1, 0]
    assert not span_weights(rollout("ab", steps=Abstain()), spans(term="steps"), TOKENIZER)[SPAN_WEIGHT].any()


def test_the_column_reaches_the_learner_and_multiplies_the_loss() -> None:
    made = rollout()
    (sequence,) = assemble([Group(made.prompt, [made])], spans(pattern="[0-9]"), tokenizer=TOKENIZER)
    weights = torch.tensor(sequence.columns[SPAN_WEIGHT][sequence.loss_mask])
    assert weights.tolist() == [0.0] * 17 + [1.0] * 2 + [0.0]
    none = torch.zeros(len(weights))
    facts = TokenFacts(none, none, none, none + 0.05, none.long(), {SPAN_WEIGHT: weights})
    assert TOKEN_WEIGHTS["span"](facts, SpanWeight(name="span", pattern="x")).tolist() == weights.tolist()
    # Demonstrations and dummies have no such column of their own: all of a batch without one is outside.
    bare = TokenFacts(none, none, none, none, none.long(), {})
    assert not TOKEN_WEIGHTS["span"](bare, SpanWeight(name="span", pattern="x")).any()


OREAL = ObjectiveConfig(advantage="rloo", policy_loss=OrealLoss(name="oreal", outcome_term="outcome"))


def test_beliefs_weigh_the_tokens_of_right_and_wrong_completions() -> None:
    """Logits 2, -4, 5: means 2, -1, 1; p = .88080, .26894, .73106; w+ = max(2 p - 1, 0), w- = max(1 - 2 p, 0)."""
    judged = rollout("ab", outcome=Steps((2.0, -4.0, 5.0), ((0, 1), (1, 2), (2, 3)), "token"))
    right = outcome_weights(judged, 0.5, OREAL)[OUTCOME_WEIGHT]
    assert right == pytest.approx([0.76159, 0, 0.46212], abs=1e-5)
    wrong = outcome_weights(judged, np.array([-0.5, -0.5, -0.5]), OREAL)[OUTCOME_WEIGHT]
    assert wrong == pytest.approx([0, 0.46212, 0], abs=1e-5)
    assert outcome_weights(rollout("ab"), 0.5, OREAL)[OUTCOME_WEIGHT].tolist() == [1, 1, 1]
    assert outcome_weights(judged, 0.5, ObjectiveConfig()) == {}


@pytest.mark.parametrize(
    ("weights", "fault"),
    [
        ("[{name: span}]", "give exactly one of pattern and term"),
        ("[{name: span, pattern: a, term: correct}]", "give exactly one of pattern and term"),
        ("[{name: span, term: steps}]", "names no term; the terms are correct"),
        ("[{name: span, pattern: '('}]", "is no regular expression"),
        ("[{name: span, pattern: a, outside: 1}]", "no token stands out"),
        ("[{name: span, pattern: a}, {name: span, pattern: b}]", "stands there 2 times; join the patterns"),
    ],
)
def test_faults_of_spans_are_named_with_a_remedy(weights: str, fault: str) -> None:
    with pytest.raises(RecipeError, match=fault):
        load_recipe("recipes/quickstart/addition.yaml", [f"stages.rl.objective.token_weights={weights}"])
