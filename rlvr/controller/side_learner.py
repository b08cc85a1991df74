"""One side model that learns beside the policy: what it is fed, what its outputs mean, what it is trained on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rlvr.controller.side_group import start_side_group
from rlvr.errors import RecipeError
from rlvr.learner.batch import TrainSequence
from rlvr.learner.examples import marked, pair
from rlvr.metrics import Metrics
from rlvr.models.scored_text import UnscorableError, candidate_of, scored_ids
from rlvr.models.tokenizer import load_tokenizer
from rlvr.observe.statistics import area_under_curve
from rlvr.recipe.schema import LearnerConfig, ResourcesConfig
from rlvr.recipe.trained_models import (
    ClassifierModel,
    ImplicitPrmModel,
    ProgressModel,
    TokenOutcomeModel,
    TrainedModel,
)
from rlvr.records import Failure, Group, Outcome, Rollout, Score, Span, Steps
from rlvr.scoring.reward_model import outcome_of

LOSSES = {"classifier": "pair", "implicit_prm": "outcome", "progress": "progress", "token_outcome": "outcome"}
LOGGED = ("loss", "accuracy", "grad_norm", "lr", "skipped_steps")


class SideLearner:
    """A side model on learner ranks of its own. Its scores come from the weights that it trains, without a copy."""

    def __init__(
        self,
        name: str,
        config: TrainedModel,
        resources: ResourcesConfig,
        learner: LearnerConfig,
        model_dir: str,
        tokenizer: Any,
        correct_term: str,
        total_steps: int,
        seed: int,
    ) -> None:
        """`model_dir` and `tokenizer` are the policy's, at the start of the stage."""
        self.name = name
        self.config = config
        self.correct_term = correct_term
        trained = config.train if isinstance(config, ClassifierModel) else config
        assert trained is not None, "a classifier without `train` does not learn"
        path = config.path or model_dir
        self.tokenizer = load_tokenizer(path) if config.path else tokenizer
        if not isinstance(config, ClassifierModel) and self.tokenizer.get_vocab() != tokenizer.get_vocab():
            raise RecipeError(
                f"reward.models.{name}.path={path!r}: its tokenizer differs from the policy's, whose tokens it scores; "
                "name a model of the same family, or leave path out"
            )
        self.group = start_side_group(
            f"reward.models.{name}",
            config,
            trained.ranks,
            trained.optimizer,
            resources,
            learner,
            path,
            total_steps,
            seed,
            reference=isinstance(config, ImplicitPrmModel),
            trust_remote_code=isinstance(config, ClassifierModel) and config.trust_remote_code,
            head="policy" if isinstance(config, ImplicitPrmModel) else "scalar",
        )

    def score(self, groups: Iterable[Group], terms: Sequence[str]) -> Iterator[Group]:
        """Yields each group with the outcomes of `terms`, scored while the next is generated."""
        for group in groups:
            rollouts = [rollout for rollout in group.rollouts if rollout.failure is None]
            for rollout, outcome in zip(rollouts, self._outcomes(rollouts), strict=True):
                rollout.outcomes |= dict.fromkeys(terms, outcome)
            for rollout in group.rollouts:
                if rollout.failure is not None:
                    rollout.outcomes |= dict.fromkeys(terms, rollout.failure)
            yield group

    def update(self, groups: Sequence[Group], terms: Sequence[str]) -> Metrics:
        """One optimizer step on what the rules said of these groups; no step where they said nothing to learn from."""
        if isinstance(self.config, ClassifierModel):
            sequences = self._pairs(groups)
        else:
            judged = [(r, v) for g in groups for r in g.rollouts if (v := self._verdict(r)) is not None]
            sequences = [s for i, (rollout, v) in enumerate(judged) for s in self._sequences(rollout, i, v)]
        metrics: Metrics = {"examples": (float(len({s.rollout for s in sequences})), 1.0)}
        if sequences:
            learnt = self.group.train_examples(sequences, LOSSES[self.config.kind])
            metrics |= {key: learnt[key] for key in LOGGED if key in learnt}
        return metrics | self.agreement(groups, terms)

    def save(self, directory: Path) -> None:
        """Sharded training state."""
        self.group.save(directory)

    def load(self, directory: Path) -> None:
        """Takes up what `save` wrote."""
        self.group.load(directory)

    def close(self) -> None:
        """Ends the ranks."""
        self.group.close()

    def _outcomes(self, rollouts: Sequence[Rollout]) -> list[Outcome]:
        sequences: list[TrainSequence] = []
        faults: dict[int, Outcome] = {}
        for index, rollout in enumerate(rollouts):
            try:
                sequences += self._sequences(rollout, index, 0.0)
            except UnscorableError as error:
                faults[index] = Failure("exception", str(error))
        outputs: dict[int, list[np.ndarray]] = {}
        for sequence, values in zip(sequences, self.group.token_outputs(sequences), strict=True):
            outputs.setdefault(sequence.rollout, []).append(values)
        empty = [np.zeros(0)]
        return [
            faults[i] if i in faults else self._outcome(rollout, np.concatenate(outputs.get(i, empty)))
            for i, rollout in enumerate(rollouts)
        ]

    def _outcome(self, rollout: Rollout, outputs: np.ndarray) -> Outcome:
        """`outputs`: the model's numbers at the rollout's loss tokens or marks, in order."""
        if isinstance(self.config, ClassifierModel):
            return outcome_of(float(outputs[0]), self.config.output)
        if not np.isfinite(outputs).all():
            return Failure("non_finite", "the model's outputs are not finite; lower its learning rate")
        if isinstance(self.config, ProgressModel):
            return Steps(tuple(outputs.tolist()), tuple(turn_spans(rollout)), "token")
        if isinstance(self.config, TokenOutcomeModel):
            each = tuple((i, i + 1) for i in range(len(outputs)))
            return Steps(tuple(outputs.tolist()), each, "token", {"logit": float(outputs.mean()) if each else 0.0})
        rewards = self.config.beta * outputs.astype(np.float64)
        spans = turn_spans(rollout)
        if self.config.granularity == "token":
            spans = [(i, i + 1) for i in range(len(rewards))]
        values = tuple(float(rewards[start:end].sum()) for start, end in spans)
        return Steps(values, tuple(spans), "token", {"sequence_reward": float(rewards.sum())})

    def _sequences(self, rollout: Rollout, number: int, target: float) -> list[TrainSequence]:
        """The rollout as one example. UnscorableError for a text that a classifier cannot take."""
        if isinstance(self.config, ClassifierModel):
            ids = scored_ids(candidate_of(rollout), self.config, self.tokenizer)
            return [marked(ids, [len(ids) - 1], 1.0, number, target)]
        sequences = []
        for index, segment in enumerate(rollout.segments):
            start = len(segment.prompt_ids)
            ids = [*segment.prompt_ids, *segment.completion_ids]
            if isinstance(self.config, ProgressModel):
                ends = [start + end - 1 for at, end in _turn_ends(rollout) if at == index]
                if ends:
                    sequences.append(marked(ids, ends, 1.0, number, target))
                continue
            if isinstance(self.config, TokenOutcomeModel):
                sampled = [start + i for i, mask in enumerate(segment.loss_mask) if mask]
                if sampled:
                    sequences.append(marked(ids, sampled, 1.0 / rollout.num_sampled_tokens, number, target))
                continue
            mask = np.zeros(len(ids), dtype=bool)
            mask[start:] = segment.loss_mask
            coefficients = np.where(mask, self.config.beta, 0.0)
            sequences.append(TrainSequence(np.asarray(ids), mask, np.zeros(len(ids)), coefficients, number, target))
        return sequences

    def _pairs(self, groups: Sequence[Group]) -> list[TrainSequence]:
        """Cooper's: the first rollout of a group that the rules call right, over the first that they call wrong."""
        sequences: list[TrainSequence] = []
        for number, group in enumerate(groups):
            texts: dict[bool, list[int]] = {}
            for rollout in group.rollouts:
                verdict = self._verdict(rollout)
                if verdict is None or (verdict >= 1) in texts:
                    continue
                try:
                    texts[verdict >= 1] = scored_ids(candidate_of(rollout), self.config_of_text, self.tokenizer)
                except UnscorableError:
                    continue
            if len(texts) == 2:
                sequences += pair(texts[True], texts[False], number)
        return sequences

    @property
    def config_of_text(self) -> ClassifierModel:
        assert isinstance(self.config, ClassifierModel), self.config
        return self.config

    def _verdict(self, rollout: Rollout) -> float | None:
        """What the rules say of the rollout: 1 or 0 for models of right and wrong, the score itself for progress."""
        outcome = rollout.outcomes.get(self.correct_term)
        if rollout.failure is not None or not isinstance(outcome, Score):
            return None
        return outcome.value if isinstance(self.config, ProgressModel) else float(outcome.value >= 1)

    def agreement(self, groups: Sequence[Group], terms: Sequence[str]) -> Metrics:
        """`auc`: how well the scores that the groups hold rank right completions above wrong ones."""
        pairs = [
            (total, verdict >= 1)
            for group in groups
            for rollout in group.rollouts
            if (verdict := self._verdict(rollout)) is not None
            and (total := _total(rollout.outcomes.get(terms[0]))) is not None
        ]
        area = area_under_curve([score for score, _ in pairs], [right for _, right in pairs])
        return {} if area is None else {"auc": (area, 1.0)}


def turn_spans(rollout: Rollout) -> list[Span]:
    """Where the turns stand among the sampled tokens of all segments; a completion without turns is one turn."""
    counts = [np.cumsum([0, *segment.loss_mask]) for segment in rollout.segments]
    before = np.cumsum([0, *(count[-1] for count in counts)])
    if not rollout.turns:
        return [(0, int(before[-1]))]
    return [
        (int(before[t.segment] + counts[t.segment][t.start]), int(before[t.segment] + counts[t.segment][t.end]))
        for t in rollout.turns
    ]


def _turn_ends(rollout: Rollout) -> list[tuple[int, int]]:
    """(segment, end in its completion) of each turn."""
    if rollout.turns:
        return [(turn.segment, turn.end) for turn in rollout.turns]
    last = len(rollout.segments) - 1
    return [(last, len(rollout.segments[last].completion_ids))]


def _total(outcome: Outcome | None) -> float | None:
    if isinstance(outcome, Score | Steps) and outcome.info and "logit" in outcome.info:
        return float(outcome.info["logit"])
    if isinstance(outcome, Score):
        return outcome.value
    return sum(outcome.values) if isinstance(outcome, Steps) else None
