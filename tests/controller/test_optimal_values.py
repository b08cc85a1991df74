"""V* from the rows: it reaches the loss of each rollout, and a row without it is named."""

import pytest

from rlvr.controller.advantages import NO_BASELINE
from rlvr.controller.batch import assemble
from rlvr.controller.optimal_values import rewards_by_prompt, with_values
from rlvr.curriculum.uniform import UniformCurriculum
from rlvr.errors import RlvrError, RunStopped
from rlvr.recipe.arithmetic import prompts_drawn
from rlvr.recipe.load import load_recipe
from rlvr.recipe.preference_losses import AStarPoLoss
from rlvr.recipe.schema import ObjectiveConfig, RlStage
from rlvr.records import Failure, Group, Prompt, Rollout, SamplingParams, Score, Segment

REFERENCE = ObjectiveConfig(
    advantage="reward", policy_loss=AStarPoLoss(name="a_star_po", reference_samples=2, value_beta=0.5)
)
OBJECTIVE = ObjectiveConfig(advantage="reward", policy_loss=AStarPoLoss(name="a_star_po", value_column="v"))


def group(value: object) -> Group:
    prompt = Prompt("p", (1, 2), "?", columns={"v": value})
    segment = Segment(prompt.token_ids, [3, 4], [True, True], [-0.5, -0.5], [1, 1], "stop")
    sampling = SamplingParams(temperature=1.0, max_completion_tokens=4)
    return Group(prompt, [Rollout(prompt, 0, 0, [segment], "", sampling, reward=1.0)])


def test_the_value_of_a_row_is_a_fact_of_its_rollouts() -> None:
    (sequence,) = assemble([group(0.25)], OBJECTIVE)
    assert sequence.facts == {"reward": 1.0, "value": 0.25}


def test_other_objectives_read_no_values() -> None:
    (sequence,) = assemble([group(None)], ObjectiveConfig(advantage="reward"))
    assert sequence.facts == {"reward": 1.0}


@pytest.mark.parametrize("value", [None, "0.5", float("nan"), True])
def test_a_row_without_a_value_is_named(value: object) -> None:
    with pytest.raises(RlvrError, match="value_column='v': prompt p holds"):
        assemble([group(value)], OBJECTIVE)


def test_values_of_reference_samples_by_hand() -> None:
    """r = [1, 0]: V* = .5 log((e^2 + 1) / 2) = .71689; equal rewards are their own value; no sample, no value."""
    prompts = [Prompt(name, (1, 2), "?", columns={"kept": 1}) for name in "abc"]
    mixed, equal, without = with_values(prompts, {"a": [1.0, 0.0], "b": [1.0, 1.0], "c": []}, 0.5)
    assert mixed.columns == {"kept": 1, "reference_value": pytest.approx(0.71689, abs=1e-5)}
    assert equal.columns["reference_value"] == 1.0
    assert without.columns == {"kept": 1}


def test_a_rollout_meets_the_value_of_its_prompt_or_does_not_train() -> None:
    (known,) = with_values([group(None).prompt], {"p": [1.0, 0.0]}, 0.5)
    made, lost = group(None), group(None)
    made.rollouts[0].prompt = known
    (sequence,) = assemble([made, lost], REFERENCE)
    assert sequence.facts["value"] == pytest.approx(0.71689, abs=1e-5)
    assert lost.rollouts[0].dropped == NO_BASELINE


def stage() -> RlStage:
    found = load_recipe("recipes/methods/a_star_po.yaml").stages[-1]
    assert isinstance(found, RlStage)
    return found


def test_broken_samples_are_left_out_until_they_are_too_many() -> None:
    def judged(*outcomes: object) -> Group:
        made = [group(None).rollouts[0] for _ in outcomes]
        for rollout, outcome in zip(made, outcomes, strict=True):
            rollout.outcomes["correct"] = outcome  # type: ignore[assignment]
        return Group(made[0].prompt, made)

    some = [Score(1.0)] * 30 + [Score(0.0), Failure("timeout")]
    assert rewards_by_prompt([judged(*some)], stage()) == {"p": [1.0] * 30 + [0.0]}
    with pytest.raises(RunStopped, match="verifiers broke for 1 of 2 samples of the starting weights"):
        rewards_by_prompt([judged(Score(1.0), Failure("timeout"))], stage())


def test_only_prompts_that_a_stage_can_draw_are_sampled_for() -> None:
    prompts = [Prompt(str(number), (1,), "") for number in range(9)]
    curriculum = UniformCurriculum(prompts, seed=3)
    ahead = curriculum.ahead(4)
    assert [prompt.id for prompt in ahead] == [prompt.id for prompt in curriculum.draw(4)]
    assert len(curriculum.ahead(40)) == 9
    assert prompts_drawn(stage()) == 60 * 256
