"""The models beside the policy of one stage: they score terms, and those that learn take a step per batch."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import ray

from rlvr.controller.side_learner import SideLearner
from rlvr.errors import RecipeError
from rlvr.metrics import Metrics
from rlvr.recipe.schema import ResourcesConfig, RlStage, Stage
from rlvr.recipe.trained_models import MODEL_FUNCTIONS, ClassifierModel, ImplicitPrmModel, TrainedModel
from rlvr.records import Abstain, Failure, Group
from rlvr.scoring.reward_model import FrozenRewardModel


class SideModels:
    """The classifiers, implicit PRMs and progress estimators of `reward.models`. Closing it leaves no process behind.

    Models that learn exist in `rl` stages only. Evaluation asks the frozen ones; a model that learns would score
    differently from step to step, so there its terms abstain.
    """

    def __init__(
        self,
        stage: Stage,
        resources: ResourcesConfig,
        model_dir: str | None = None,
        tokenizer: Any = None,
        seed: int = 0,
    ) -> None:
        """`model_dir` holds the policy's weights at the start of the stage; None builds no model that learns."""
        reward = stage.reward
        self.terms: dict[str, list[str]] = {}
        for name, term in reward.terms.items():
            if term.fn in MODEL_FUNCTIONS:
                assert term.model is not None, "the rules refuse a model's term without `model`"
                self.terms.setdefault(term.model, []).append(name)
        models = {name: reward.models[name] for name in self.terms}
        self.frozen: dict[str, FrozenRewardModel] = {}
        self.learners: dict[str, SideLearner] = {}
        self._learnt: list[tuple[str, Metrics]] = []
        start_s, step_s = resources.start_timeout_s, resources.step_timeout_s
        _check_gpus(models, resources)
        try:
            for name, model in models.items():
                if isinstance(model, ClassifierModel) and model.train is None:
                    self.frozen[name] = FrozenRewardModel(name, model, start_s, step_s)
                elif isinstance(stage, RlStage) and model_dir is not None:
                    assert isinstance(model, TrainedModel), model
                    correct, steps = reward.correct_term, stage.steps
                    self.learners[name] = SideLearner(
                        name, model, resources, stage.learner, model_dir, tokenizer, correct, steps, seed
                    )
        except BaseException:
            self.close()
            raise

    def score(self, groups: Iterable[Group], evaluation: bool = False) -> Iterator[Group]:
        """Yields the groups with `outcomes` of every model's term filled in, each as soon as it is scored.

        A model with `update: before` first learns from all of them.
        """
        stream = iter(groups)
        for name, terms in self.terms.items():
            if name in self.frozen:
                stream = self.frozen[name].score(stream, terms)
            elif evaluation or name not in self.learners:
                stream = _abstaining(stream, terms)
            elif self._learns_before(name):
                stream = self._learn_and_score(stream, name)
            else:
                stream = self.learners[name].score(stream, terms)
        return stream

    def update(self, groups: Sequence[Group]) -> Metrics:
        """One optimizer step of each model that learns after scoring. Metrics are `model/<name>/<metric>`.

        A model with `update: before` has learnt while it scored; its metrics come here too.
        """
        for name, learner in self.learners.items():
            if not self._learns_before(name):
                self._learnt.append((name, learner.update(groups, self.terms[name])))
        metrics: Metrics = {}
        for name, learnt in self._learnt:
            for key, (total, count) in learnt.items():
                before = metrics.get(f"model/{name}/{key}", (0.0, 0.0))
                metrics[f"model/{name}/{key}"] = (before[0] + total, before[1] + count)
        self._learnt = []
        return metrics

    @property
    def learns_while_scoring(self) -> bool:
        """Whether `score` changes the weights of a model."""
        return any(self._learns_before(name) for name in self.learners)

    def save(self, directory: Path) -> None:
        """The training state of every model that learns, under its name."""
        for name, learner in self.learners.items():
            learner.save(directory / name)

    def load(self, directory: Path) -> None:
        """Takes up what `save` wrote."""
        for name, learner in self.learners.items():
            learner.load(directory / name)

    def close(self) -> None:
        """Ends every process."""
        parts: list[FrozenRewardModel | SideLearner] = [*self.frozen.values(), *self.learners.values()]
        for part in parts:
            try:
                part.close()
            except Exception as error:  # noqa: BLE001  # the remaining ones must be closed all the same
                logging.getLogger(__name__).warning("closing reward.models.%s: %r", part.name, error)
        self.frozen, self.learners = {}, {}

    def _learns_before(self, name: str) -> bool:
        config = self.learners[name].config
        return isinstance(config, ImplicitPrmModel) and config.update == "before"

    def _learn_and_score(self, groups: Iterable[Group], name: str) -> Iterator[Group]:
        # Sorted, as groups finish in an order that differs from run to run.
        known = sorted(groups, key=lambda group: (group.prompt.id, group.rollouts[0].member))
        learner, terms = self.learners[name], self.terms[name]
        learnt = learner.update(known, terms)
        scored = list(learner.score(known, terms))
        self._learnt.append((name, learnt | learner.agreement(scored, terms)))
        yield from scored


def _abstaining(groups: Iterable[Group], terms: Sequence[str]) -> Iterator[Group]:
    for group in groups:
        for rollout in group.rollouts:
            outcome: Failure | Abstain = rollout.failure or Abstain("its model scores training rollouts only")
            rollout.outcomes |= dict.fromkeys(terms, outcome)
        yield group


def _check_gpus(models: dict[str, Any], resources: ResourcesConfig) -> None:
    asked = {
        name: model.gpus * (getattr(model, "ranks", None) or (model.train.ranks if model.train else 1))
        for name, model in models.items()
        if model.gpus
    }
    free = ray.available_resources().get("GPU", 0.0) if asked else 0.0
    if sum(asked.values()) > free:
        shown = ", ".join(f"{name} {gpus:g}" for name, gpus in asked.items())
        raise RecipeError(
            f"reward.models: their processes ask for {sum(asked.values()):g} GPUs ({shown}), and {free:g} are free "
            "beside engines and learners; lower reward.models.<name>.gpus or ranks, or give Ray more GPUs"
        )
