"""R6: engine and trainer stay together while nothing is wrong; the alarm rings at the next step when something is."""

from collections.abc import Iterator
from typing import Any

import pytest
import ray
import torch
from rich.console import Console

from rlvr.controller.account import check_alarms
from rlvr.controller.context import StageContext
from rlvr.controller.rl import generate_batch, update
from rlvr.controller.run import Position, open_log, open_stage, prepare_learner
from rlvr.controller.rundir import open_run_dir
from rlvr.controller.session import Session
from rlvr.errors import RunStopped
from rlvr.metrics import means
from rlvr.recipe.load import load_recipe
from rlvr.transfer.buckets import Bucket, pack
from tests.end_to_end.conftest import ONE_ENGINE, QUICKSTART, SMALL

FLAT = ["learner.optimizer.lr=0", "evaluation.at_start=false", "evaluation.at_end=false", "monitor.tensorboard=false"]


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StageContext[Any]]:
    """The RL stage of the quickstart over random weights, with lr=0, ready for its first step."""
    recipe = load_recipe(QUICKSTART, [*SMALL, *FLAT, ONE_ENGINE, f"runs_dir={tmp_path_factory.mktemp('drift')}"])
    recipe = recipe.model_copy(update={"stages": recipe.stages[1:]})
    run = open_run_dir(recipe, "refuse")
    with open_log(recipe, run, None) as log, Session(recipe, run) as session:
        position = Position(session.model_dir)
        opened = open_stage(session, run, log, recipe.stages[0], 0, position, Console(quiet=True))
        prepare_learner(opened, position)
        yield opened


def step(context: StageContext[Any], number: int) -> dict[str, tuple[float, float]]:
    groups, _ = generate_batch(context, number)
    # Advantages of random rewards: the quickstart's verifier would give a random model nothing but zeros.
    for group in groups:
        for rollout in group.rollouts:
            rollout.reward = float(rollout.seed % 2)
    return update(context, groups, number)


def test_with_lr_0_everything_stays_flat(context: StageContext[Any]) -> None:
    sums = []
    for number in range(3):
        learnt = step(context, number)
        assert means(learnt)["logprob_difference"] < 1e-5
        assert means(learnt)["grad_norm"] > 0
        check_alarms(learnt, context.stage.monitor)
        context.session.push()
        buckets = context.session.pusher.buckets["weights"]
        sums.append([context.session.learner.gather_bucket(bucket)[1] for bucket in buckets])
    assert sums[0] == sums[1] == sums[2]


def test_one_corrupted_engine_tensor_rings_the_alarm(context: StageContext[Any]) -> None:
    name = "model.layers.0.mlp.down_proj.weight"
    shape = dict(context.session.learner.parameter_specs())[name]
    bucket = Bucket((name,), (shape,), "float32")
    garbage = ray.put(pack(bucket, {name: torch.full(shape, 0.5)}))
    context.session.rollouts.on_all("load_bucket", bucket, garbage)
    learnt = step(context, 10)
    with pytest.raises(RunStopped, match="engine and trainer logprobs differ"):
        check_alarms(learnt, context.stage.monitor)
    # The next update heals it: every tensor is sent every time.
    context.session.push()
    check_alarms(step(context, 11), context.stage.monitor)
