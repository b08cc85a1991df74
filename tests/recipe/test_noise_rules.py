"""Corrections that could do nothing or do harm are refused before a run."""

import pytest

from rlvr.recipe.noise_rules import noise_faults
from rlvr.recipe.reward import AppealsConfig, NoiseConfig, QuarantineConfig
from rlvr.recipe.schema import FailurePolicy, RewardConfig, RewardTerm

TERMS = {"answer": RewardTerm(fn="math"), "second": RewardTerm(fn="exact_match", weight=0.0)}


def faults(advantage="reward", terms=TERMS, quarantine=None, **noise):
    policy = FailurePolicy(quarantine=quarantine)
    section = NoiseConfig(**noise) if noise else None
    reward = RewardConfig(terms=terms, noise=section, on_failure=policy)
    return [f"{'.'.join(loc)}={value}: {text}" for loc, value, text in noise_faults(reward, advantage)]


def test_what_is_sound_passes():
    assert faults(false_positive=0.1, false_negative=0.2) == []
    assert faults(correction="forward", appeals=AppealsConfig(by="second")) == []
    assert faults("grpo", correction="none", appeals=AppealsConfig(by="second")) == []
    assert faults("my.py:advantage", false_negative=0.2) == []
    assert faults("grpo", correction="none", added_false_positive=0.9, added_false_negative=0.9) == []
    assert faults(None, false_negative=0.2) == []  # an evaluation has no advantage
    assert faults(quarantine=QuarantineConfig(terms=("second",))) == []


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"false_negative": 0.2, "advantage": "grpo"}, "noise.correction=backward: objective.advantage=grpo centres"),
        ({"false_positive": 0.6, "false_negative": 0.4}, "noise.false_negative=0.4: with false_positive=0.6"),
        (
            {"false_positive": 0.6, "appeals": AppealsConfig(by="second")},
            "noise.max_false_negative=0.5: with false_positive=0.6",
        ),
        ({"term": "answr", "false_negative": 0.2}, "noise.term=answr: names no term; did you mean 'answer'?"),
        ({"appeals": AppealsConfig(by="secnd")}, "noise.appeals.by=secnd: names no term; did you mean 'second'?"),
        ({"appeals": AppealsConfig(by="answer")}, "noise.appeals.by=answer: is the verifier that is appealed against"),
        (
            {"appeals": AppealsConfig(by="second"), "terms": {**TERMS, "second": RewardTerm(fn="exact_match")}},
            "set reward.terms.second.weight: 0",
        ),
        (
            {
                "appeals": AppealsConfig(by="second"),
                "terms": {**TERMS, "second": RewardTerm(fn="exact_match", weight=0, scope="batch")},
            },
            "remove reward.terms.second.scope",
        ),
        (
            {
                "term": "rm",
                "added_false_positive": 0.1,
                "terms": TERMS | {"rm": RewardTerm(fn="reward_model", model="m")},
            },
            "noise.term=rm: is scored by a model beside the policy",
        ),
        ({"quarantine": QuarantineConfig(terms=("thrid",))}, "on_failure.quarantine.terms=thrid: names no term"),
        ({"quarantine": QuarantineConfig(terms=("answer",))}, "decides correctness"),
    ],
)
def test_what_is_not_is_refused_with_a_remedy(given, said):
    (found,) = faults(**given)
    assert said in found
