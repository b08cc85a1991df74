"""Whether a run's directory has room for its first checkpoint; said before anything starts."""

from __future__ import annotations

import shutil
from pathlib import Path

from rlvr.errors import RlvrError
from rlvr.recipe.schema import EvalStage, InitConfig, ModelConfig, Recipe

FLOOR_BYTES = 16 << 20  # metrics, logs and rollouts of a small run
# Of a parameter in training: float32 weights and two moments in a checkpoint, the weights of an export.
CHECKPOINT_BYTES, EXPORT_BYTES = 12, 4


def check_space(directory: Path, recipe: Recipe) -> None:
    """RlvrError where less is free than one checkpoint and the export are known to take, at the least."""
    free, needed = shutil.disk_usage(directory).free, least_bytes(recipe)
    if free < needed:
        raise RlvrError(
            f"runs_dir={recipe.runs_dir!r}: {_mib(free)} are free on the disk of {directory}, and a checkpoint of this "
            f"model with its export takes at least {_mib(needed)}; free {_mib(needed - free)}, or set runs_dir=... "
            "elsewhere"
        )


def least_bytes(recipe: Recipe) -> int:
    """A lower bound of what the run writes; of a model that must be downloaded first nothing is known."""
    trains = [stage for stage in recipe.stages if not isinstance(stage, EvalStage)]
    if not trains:
        return FLOOR_BYTES
    # Under LoRA a checkpoint holds the adapters only.
    whole = any(stage.learner.lora is None for stage in trains)
    return FLOOR_BYTES + num_parameters(recipe.model) * (EXPORT_BYTES + whole * CHECKPOINT_BYTES)


def num_parameters(model: ModelConfig) -> int:
    """At least as many has the model: as its files hold in float32; 0 for a hub id."""
    if model.init is not None:
        return _of_init(model.init)
    files = Path(model.path or "").glob("*.safetensors")
    return sum(file.stat().st_size for file in files) // 4


def _of_init(init: InitConfig) -> int:
    head = init.hidden_size // init.num_heads
    attention = init.hidden_size * head * (2 * init.num_heads + 2 * init.num_kv_heads)
    return init.num_layers * (attention + 3 * init.hidden_size * init.intermediate_size)


def _mib(number: int) -> str:
    return f"{number / (1 << 20):,.1f} MiB"
