"""Hugging Face directories that are loaded back and compared before anyone relies on them."""

from __future__ import annotations

import shutil
from pathlib import Path

from rlvr.errors import RecipeError, RlvrError
from rlvr.learner.group import LearnerGroup
from rlvr.models.tokenizer import load_tokenizer
from rlvr.recipe.schema import RlStage, SftStage
from rlvr.transfer.buckets import Form, checksum, mismatches, plan_buckets

VERIFY_BUCKET_BYTES = 256 << 20


def export_form(stage: SftStage | RlStage, last: bool, asked: str | None = None) -> Form:
    """What a stage leaves: `asked` (merged or adapter) or what the recipe says; earlier stages than the last, models.

    Raises RecipeError for an adapter of a stage that has none.
    """
    lora = stage.learner.lora
    if asked not in (None, "merged", "adapter"):
        raise RecipeError(f"--form={asked}: choose merged or adapter")
    if asked == "adapter" and lora is None:
        raise RecipeError(
            f"--form=adapter: stage {stage.name} trained all weights (learner.lora=null), so it has no adapter"
        )
    chosen = asked or (lora.export if lora is not None and last else "merged")
    return "peft" if chosen == "adapter" else "weights"


def export_verified(learner: LearnerGroup, directory: Path, form: Form = "weights") -> Path:
    """Writes the learner's weights to `directory` and checks every tensor of the written files against the learner's.

    Under LoRA they are base and adapter merged, or for form peft the adapter alone.
    The directory appears whole or not at all. Raises RlvrError naming the tensors that differ.
    """
    partial = directory.with_name(f".partial-{directory.name}")
    shutil.rmtree(partial, ignore_errors=True)
    partial.parent.mkdir(parents=True, exist_ok=True)
    learner.export(partial, form)
    wrong = differing_tensors(learner, partial, form)
    if wrong:
        raise RlvrError(f"export {directory}: written tensors differ from the learner's: {', '.join(wrong[:5])}")
    shutil.rmtree(directory, ignore_errors=True)
    partial.rename(directory)
    return directory


def differing_tensors(learner: LearnerGroup, directory: Path, form: Form = "weights") -> list[str]:
    """Names of the tensors in a directory's safetensors files that are not the learner's."""
    from safetensors import safe_open

    held: dict[str, int] = {}
    dtype = "float32"
    for file in sorted(directory.glob("*.safetensors")):
        with safe_open(file, framework="pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118  # a safetensors handle is no dict
                tensor = tensors.get_tensor(name)
                dtype = str(tensor.dtype).removeprefix("torch.")
                held[name] = checksum(tensor)
    sent: dict[str, int] = {}
    for bucket in plan_buckets(learner.parameter_specs(form), dtype, VERIFY_BUCKET_BYTES, form):
        sent |= learner.gather_bucket(bucket)[1]
    return mismatches(sent, [held], {})


def load_back(directory: Path) -> None:
    """Loads an exported directory as any user would and runs it; raises RlvrError if its logits are not finite.

    transformers loads an adapter with the base that its configuration names.
    """
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(directory)
    tokenizer = load_tokenizer(directory)
    ids = torch.arange(min(8, len(tokenizer)))[None]
    with torch.inference_mode():
        logits = model(input_ids=ids).logits
    if not torch.isfinite(logits).all():
        raise RlvrError(f"export {directory}: the loaded model's logits are not finite")
