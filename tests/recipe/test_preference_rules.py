"""Rules on preference and imitation losses, members of groups and replay: what is refused says what to do."""

from pathlib import Path

import pytest

from rlvr.errors import RecipeError
from rlvr.recipe.load import load_recipe
from rlvr.recipe.objective import needs_reference
from rlvr.recipe.preference_losses import SECTIONS
from rlvr.recipe.schema import RlStage

ADDITION = Path(__file__).parents[2] / "recipes/quickstart/addition.yaml"
AT = "stages.rl.objective."
DPO = AT + "policy_loss={name: dpo}"
SUCCESS = AT + "replay={name: success}"
HINDSIGHT = AT + "relabel={asked: right, labels: [{min_reward: 0, text: wrong}]}"
NAMES = [section.model_fields["name"].annotation.__args__[0] for section in SECTIONS]  # type: ignore[union-attr]


def stage_of(*overrides: str) -> RlStage:
    stage = load_recipe(ADDITION, list(overrides)).stages[-1]
    assert isinstance(stage, RlStage)
    return stage


@pytest.mark.parametrize("name", [*NAMES, "imitation", "iw_sft", "rlsc", "oreal"])
def test_every_loss_can_be_chosen_by_its_name_alone(name: str) -> None:
    objective = stage_of(f"{AT}policy_loss={{name: {name}}}").objective
    assert objective.policy_loss.name == name
    assert needs_reference(objective) == (getattr(objective.policy_loss, "anchor", None) == "reference")


def test_methods_that_are_combinations() -> None:
    oreal = stage_of(
        f"{AT}policy_loss={{name: oreal}}",
        f"{AT}advantage=rloo",
        f"{AT}filter.members=one_of_each",
        f"{AT}token_weights=[{{name: balanced_halves}}]",
        f"{AT}kl.coefficient=0.01",
    )
    assert oreal.objective.filter.members == "one_of_each"
    replay = stage_of(f"{AT}replay={{name: uniform}}", f"{AT}token_weights=[{{name: replay_importance}}]")
    assert replay.objective.replay is not None
    assert stage_of(
        AT + "policy_loss={name: a_star_po, value_column: v}",
        AT + "advantage=reinforce",
        "stages.rl.rollout.group_size=1",
    )
    assert stage_of(SUCCESS).objective.replay is not None


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            [DPO, "stages.rl.rollout.group_size=1"],
            r"policy_loss\.name='?dpo'?: compares the completions of a prompt; .*use at least 2",
        ),
        ([AT + "policy_loss={name: a_star_po}", "stages.rl.rollout.group_size=1"], r"takes V\* from the completions"),
        ([DPO, AT + "filter.members=correct"], r"filter\.members.*compares members of a group.*use all"),
        ([AT + "policy_loss={name: oreal}", AT + "filter.members=correct"], r"learns from wrong completions too"),
        (
            [AT + "filter.members=one_of_each", AT + "advantage=reinforce", "stages.rl.rollout.group_size=1"],
            r"needs a correct and a wrong completion",
        ),
        ([AT + "token_weights=[{name: replay_importance}]"], r"nothing to weigh; set objective\.replay"),
        ([SUCCESS, AT + "old_policy=engine"], r"old_policy.*from the trainer's own logprobs; use trainer"),
        ([SUCCESS, AT + "filter.zero_variance=drop"], r"zero_variance.*before their replayed successes join; use keep"),
        (
            [SUCCESS, AT + "credit={placement: reward_to_go}"],
            r"what each step of a replayed completion was worth is not kept",
        ),
        ([HINDSIGHT, "stages.rl.task.template.text='{prompt} right'"], r"relabel.*asked; use imitation"),
        ([HINDSIGHT, AT + "policy_loss={name: imitation}"], r"relabel\.asked='?right'?: stands neither"),
        ([AT + "policy_loss={name: hir}"], r"relabel: policy loss 'hir' compares instructions; name them here"),
        (
            [AT + "policy_loss={name: hir}", AT + "relabel={asked: '+', labels: [{min_reward: 0, text: '+'}]}"],
            "is the only instruction; policy loss 'hir' contrasts at least two",
        ),
        (
            [AT + "policy_loss={name: a_star_po, value_column: v, reference_samples: 8}"],
            r"reference_samples=8: policy_loss\.value_column says where V\* comes from",
        ),
        (
            [AT + "policy_loss={name: a_star_po, reference_samples: 8}", AT + "kl={anchor: {name: ema}}"],
            r"anchor\.name='ema': V\* belongs to the weights",
        ),
        (
            [AT + "policy_loss={name: adpo, adaptive: {low: 2, high: 1}}"],
            r"adaptive\.low=2.*must lie below 1",
        ),
        (
            [AT + "policy_loss={name: oreal, outcome_term: correct}"],
            r"outcome_term='correct': names no term of fn token_outcome; add one",
        ),
        ([HINDSIGHT, SUCCESS], r"replayed completions keep the prompt they had; remove objective\.replay"),
        ([DPO, AT + "replay={name: advantage}"], r"replay\.name.*compares rollouts of one group; use replay 'success'"),
    ],
)
def test_what_is_refused(overrides: list[str], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        load_recipe(ADDITION, overrides)
