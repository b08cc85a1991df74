"""The recipe of a reward model: its schema and its loading."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import yaml
from pydantic import Field, ValidationError

from rlvr.errors import RecipeError
from rlvr.recipe.diagnose import explain
from rlvr.recipe.marks import Node, parse_file, parse_override, to_plain
from rlvr.recipe.merge import merge
from rlvr.recipe.schema import CheckpointConfig, LearnerConfig, ModelConfig, Source, TemplateConfig
from rlvr.recipe.section import Section
from rlvr.recipe.trained_models import ScoredText, TrainedBeside


class PairsConfig(Section):
    """Where pairs come from. A row has a prompt, a chosen and a rejected completion, perhaps a margin."""

    train: Source = Field(description="Pairs that train.")
    test: Source | None = Field(None, description="Held-out pairs; null evaluates nothing.")
    chosen: str = Field("chosen", description="Column of the better completion.")
    rejected: str = Field("rejected", description="Column of the worse one.")
    margin: str | None = Field(None, description="Column of the difference that the scores shall have at least.")
    template: TemplateConfig = TemplateConfig()


class PairEvaluation(Section):
    """Held-out pairs: the share in which the chosen text scores higher, and the mean loss."""

    every: int = Field(0, ge=0, description="Steps between evaluations; 0 evaluates before and after training only.")
    num_pairs: int | None = Field(None, ge=1, description="The first pairs of the test source; null takes all.")
    confidence: float = Field(0.95, gt=0, lt=1, description="Mass of the bootstrap interval.")
    bootstrap_samples: int = Field(1000, ge=100, description="Resamples of the bootstrap, over pairs.")


class SelfTraining(Section):
    """After `steps`, the model labels pairs without a label and learns from those it is sure of (SSRM, 2409.06903)."""

    pairs: Source = Field(description="Unlabelled pairs: `chosen` and `rejected` hold two completions in any order.")
    confidence: float = Field(0.8, ge=0.5, lt=1, description="A pair is kept where max(p, 1 - p) exceeds this.")
    rounds: int = Field(1, ge=1, description="How often the pairs are labelled anew.")
    steps: int = Field(ge=1, description="Optimizer steps of each round.")


class RewardModelRecipe(ScoredText, TrainedBeside):
    """A Bradley-Terry reward model, trained on pairs with the learner's stack."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="Names the run directory.")
    description: str = Field("", description="One line.")
    seed: int = Field(0, ge=0, description="Of the fresh head, the order of the pairs, and a model built by `init`.")
    runs_dir: str = Field("runs", description="Directory that holds run directories.")
    model: ModelConfig = Field(
        description="Starting weights: a causal language model, or a reward model to go on with."
    )
    pairs: PairsConfig = Field(description="The data.")
    steps: int = Field(ge=1, description="Optimizer steps.")
    batch_size: int = Field(64, ge=1, description="Pairs per optimizer step.")
    learner: LearnerConfig = LearnerConfig()
    evaluation: PairEvaluation = PairEvaluation()
    checkpoint: CheckpointConfig = CheckpointConfig()
    self_training: SelfTraining | None = Field(None, description="Go on with pairs that have no label; null does not.")
    timeout_s: float = Field(1800.0, gt=0, description="Deadline of any one wait, in seconds.")

    @property
    def total_steps(self) -> int:
        """Optimizer steps with those of self-training."""
        extra = self.self_training
        return self.steps + (extra.rounds * extra.steps if extra else 0)


def load_reward_model_recipe(path: str | Path, overrides: Sequence[str] = ()) -> RewardModelRecipe:
    """The recipe with `key=value` overrides; one RecipeError lists every fault with its line."""
    problems: list[str] = []
    tree = parse_file(Path(path), problems)
    for text in overrides:
        node = parse_override(text, problems)
        tree = tree if node is None else merge(tree, node)
    tree = _absolute(tree, ())
    try:
        recipe = RewardModelRecipe.model_validate_json(json.dumps(to_plain(tree)), strict=True)
    except ValidationError as error:
        raise RecipeError("\n".join([*problems, *explain(error, tree, RewardModelRecipe)])) from error
    problems += _faults(recipe)
    if problems:
        raise RecipeError("\n".join(problems))
    return recipe


def dump_reward_model_recipe(recipe: RewardModelRecipe) -> str:
    """YAML that loads back to an equal recipe."""
    return yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def _faults(recipe: RewardModelRecipe) -> list[str]:
    faults = []
    if (recipe.model.path is None) == (recipe.model.init is None):
        faults.append("model: give exactly one of path and init")
    for name in ("epochs", "mini_batches"):
        if getattr(recipe.learner, name) != 1:
            faults.append(f"learner.{name}={getattr(recipe.learner, name)}: a reward model counts steps; use 1")
    lora = recipe.learner.lora
    for name in ("transfer", "export") if lora is not None else ():
        if getattr(lora, name) != "merged":
            faults.append(f"learner.lora.{name}={getattr(lora, name)}: a reward model is left whole; use merged")
    if recipe.learner.optimizer.schedule != "constant" and recipe.learner.optimizer.warmup_steps >= recipe.total_steps:
        faults.append(
            f"learner.optimizer.warmup_steps={recipe.learner.optimizer.warmup_steps}: the run has "
            f"{recipe.total_steps} optimizer steps, so the schedule never starts; use fewer"
        )
    return faults


def _absolute(node: Node, keys: tuple[str, ...]) -> Node:
    """Paths are relative to the file that wrote them; on the command line, to where rlvr starts."""
    if isinstance(node.value, dict):
        return Node({name: _absolute(child, (*keys, name)) for name, child in node.value.items()}, node.origin)
    file = keys[-1:] == ("path",) and keys[:1] in (("pairs",), ("self_training",))
    local = keys in (("model", "path"),) and str(node.value).startswith(("./", "../", "/", "~"))
    function = keys[-1:] == ("function",) and ".py:" in str(node.value)
    if isinstance(node.value, str) and (file or local or function):
        return Node(str((node.origin.directory / Path(node.value).expanduser()).resolve()), node.origin)
    return node
