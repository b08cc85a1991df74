"""Hindsight relabelling: the prompt says what came out, the completion stays as it was sampled."""

import numpy as np

from rlvr.controller.batch import assemble
from rlvr.controller.relabel import relabel
from rlvr.learner.imitation_losses import RELABELLED
from rlvr.models.tokenizer import build_character_tokenizer
from rlvr.recipe.relabel import Label, Relabel
from rlvr.recipe.schema import ObjectiveConfig, TemplateConfig
from rlvr.records import Group, Prompt, Rollout, SamplingParams, Segment

TOKENIZER = build_character_tokenizer("1+= rightwonalfs")
TEMPLATE = TemplateConfig(text="{prompt} right")
HINDSIGHT = Relabel(
    asked="right",
    labels=(
        Label(min_reward=0.0, text="wrong"),
        Label(min_reward=0.5, text="half"),
    ),
)
SAMPLING = SamplingParams(temperature=1.0, max_completion_tokens=4)


def group(text: str, *rewards: float) -> Group:
    ids = TOKENIZER(text)["input_ids"]
    prompt = Prompt("p", tuple(ids), text)
    rollouts = []
    for member, reward in enumerate(rewards):
        segment = Segment(prompt.token_ids, [3, 4], [True, True], [-0.5, -0.25], [1, 1], "stop")
        rollouts.append(Rollout(prompt, member, 0, [segment], "", SAMPLING, reward=reward))
    return Group(prompt, rollouts)


def run(text: str, *rewards: float, config: Relabel = HINDSIGHT):  # type: ignore[no-untyped-def]
    groups = [group(text, *rewards)]
    sequences = assemble(groups, ObjectiveConfig(advantage="reward"))
    return relabel(sequences, groups, config, TEMPLATE, TOKENIZER), groups


def test_each_completion_stands_under_what_it_reached():
    (sequences, metrics), groups = run("1+1= right", 0.0, 0.7, -1.0)
    assert [TOKENIZER.decode(s.token_ids[:-2]) for s in sequences] == ["1+1= wrong", "1+1= half", "1+1= right"]
    assert metrics["relabelled"] == (2.0, 3.0)
    for sequence in sequences[:2]:
        assert sequence.token_ids[-2:].tolist() == [3, 4]
        assert sequence.loss_mask.tolist() == [False] * (len(sequence.token_ids) - 2) + [True, True]
        assert sequence.behavior_logprobs[-2:].tolist() == [-0.5, -0.25]
        np.testing.assert_array_equal(sequence.columns[RELABELLED], sequence.loss_mask)
    assert [float(s.advantage[-1]) for s in sequences] == [0.0, np.float32(0.7), -1.0]
    # What is logged is what was sampled.
    assert groups[0].rollouts[0].segments[0].prompt_ids == groups[0].prompt.token_ids
    assert RELABELLED not in sequences[2].columns


def test_for_contrast_each_completion_stands_under_every_instruction():
    groups = [group("1+1= right", 0.0, 0.7)]
    sequences = assemble(groups, ObjectiveConfig(advantage="reward"))
    made, metrics = relabel(sequences, groups, HINDSIGHT, TEMPLATE, TOKENIZER, contrast=True)
    shown = [(TOKENIZER.decode(s.token_ids[:-2]), s.group, s.rollout, s.facts["instructed"]) for s in made]
    assert shown == [
        ("1+1= wrong", 0, 0, 1.0),
        ("1+1= right", 0, 2, 0.0),
        ("1+1= half", 0, 3, 0.0),
        ("1+1= half", 1, 1, 1.0),
        ("1+1= right", 1, 4, 0.0),
        ("1+1= wrong", 1, 5, 0.0),
    ]
    assert all(s.token_ids[-2:].tolist() == [3, 4] and s.loss_mask.sum() == 2 for s in made)
    assert metrics["relabelled"] == (2.0, 2.0)


def test_a_prompt_without_an_instruction_has_nothing_to_be_told_from():
    groups = [group("1+1=", 0.0)]
    sequences = assemble(groups, ObjectiveConfig(advantage="reward"))
    (alone,), _ = relabel(sequences, groups, HINDSIGHT, TEMPLATE, TOKENIZER, contrast=True)
    assert (alone.group, alone.facts["instructed"]) == (0, 1.0)


def test_a_prompt_that_does_not_ask_stays():
    (sequences, metrics), _ = run("1+1=", 0.0)
    assert TOKENIZER.decode(sequences[0].token_ids[:-2]) == "1+1="
    assert metrics["relabelled"] == (0.0, 1.0)


def test_a_label_that_is_what_was_asked_changes_nothing():
    same = Relabel(asked="right", labels=(Label(min_reward=1.0, text="right"), Label(min_reward=0.0, text="wrong")))
    (sequences, metrics), _ = run("1= right", 1.0, 0.0, config=same)
    assert [TOKENIZER.decode(s.token_ids[:-2]) for s in sequences] == ["1= right", "1= wrong"]
    assert metrics["relabelled"] == (1.0, 2.0)
