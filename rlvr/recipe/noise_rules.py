"""Rules on noise corrections, appeals and quarantine in a reward section."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from rlvr.recipe.reward import NoiseConfig, RewardConfig
from rlvr.slots import is_path, near_miss

Fault = tuple[tuple[str, ...], object, str]
"""Where (a path below `reward`), the value there, the fault with its remedy."""


def noise_faults(reward: RewardConfig, advantage: str | None) -> Iterator[Fault]:
    """What is wrong with `reward.noise` and `reward.on_failure.quarantine`; `advantage` is None outside of training."""
    if reward.noise is not None:
        yield from _noise(reward, reward.noise, advantage)
        yield from _appeals(reward, reward.noise)
    quarantine = reward.on_failure.quarantine
    for name in quarantine.terms if quarantine else ():
        loc = ("on_failure", "quarantine", "terms")
        if name not in reward.terms:
            yield loc, name, f"names no term; {_choose(name, reward.terms)}"
        elif name == reward.correct_term:
            yield loc, name, "decides correctness, without which nothing can be trained or measured; leave it out"


def _noise(reward: RewardConfig, noise: NoiseConfig, advantage: str | None) -> Iterator[Fault]:
    if noise.term is not None and noise.term not in reward.terms:
        yield ("noise", "term"), noise.term, f"names no term; {_choose(noise.term, reward.terms)}"
    term = noise.term or reward.correct_term
    highest = noise.max_false_negative if noise.appeals else noise.false_negative
    key = "max_false_negative" if noise.appeals else "false_negative"
    if noise.false_positive + highest >= 1:
        text = f"with false_positive={noise.false_positive} the two rates must sum to less than 1"
        yield ("noise", key), highest, text
    if (noise.added_false_positive or noise.added_false_negative) and term not in reward.process_terms:
        text = (
            "is scored by a model beside the policy, whose scores take no added noise; name a verifier, or leave it out"
        )
        yield ("noise", "term"), term, text
    if noise.correction != "none" and advantage is not None and advantage != "reward" and not is_path(advantage):
        text = (
            f"objective.advantage={advantage} centres or scales rewards, which undoes this correction (an affine map) "
            "or turns it into a learning rate; set objective.advantage: reward, or correction: none"
        )
        yield ("noise", "correction"), noise.correction, text


def _appeals(reward: RewardConfig, noise: NoiseConfig) -> Iterator[Fault]:
    if noise.appeals is None:
        return
    by, loc = noise.appeals.by, ("noise", "appeals", "by")
    if by not in reward.terms:
        yield loc, by, f"names no term; {_choose(by, reward.terms)}"
    elif by == (noise.term or reward.correct_term):
        yield loc, by, "is the verifier that is appealed against; name another term"
    elif reward.total is None and reward.terms[by].weight != 0:
        yield loc, by, f"scores appealed completions only, so it cannot be a summand; set reward.terms.{by}.weight: 0"
    elif reward.terms[by].scope != "group":
        yield loc, by, f"hears single completions; remove reward.terms.{by}.scope"


def _choose(name: str, terms: Iterable[str]) -> str:
    return f"{near_miss(name, terms)}the terms are {', '.join(terms)}"
