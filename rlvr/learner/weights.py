"""Weights out of a training engine: their names, buckets for transfer, a Hugging Face directory.

Under LoRA they leave in one of several forms (`rlvr.transfer.buckets.Form`), computed tensor by tensor into temporaries
while a bucket is gathered; the parameters themselves are only read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from rlvr.errors import RunStopped
from rlvr.learner.lora import ADAPTER, adapted_layers, merged, peft_config
from rlvr.models.tokenizer import load_tokenizer
from rlvr.transfer.buckets import PEFT_PREFIX, Bucket, Form, checksums, cut, plan_buckets, unpack

if TYPE_CHECKING:
    from rlvr.learner.engine import TrainingEngine

EXPORT_BUCKET_BYTES = 1 << 30  # gathered at a time during an export; the host holds the whole model anyway


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A tensor as it leaves the learner: full shape, what must be gathered for it, and its value once that is done.

    The first of the parameters is the one that it stands for, or is.
    """

    shape: tuple[int, ...]
    parameters: tuple[Any, ...]
    value: Callable[[], Tensor]


def outgoing(engine: TrainingEngine, form: Form = "weights") -> dict[str, Outgoing]:
    """Every tensor of a form by the name under which others know it, in the order of the model; tied weights once."""
    model = engine.policy.model
    layers = dict(adapted_layers(model))
    if form in ("adapter", "peft"):
        return {PEFT_PREFIX + name: tensor for layer in layers.items() for name, tensor in _adapter(*layer, form)}
    found: dict[str, Outgoing] = {}
    for name, parameter in model.named_parameters():
        owner, base, leaf = name.partition(".base_layer.")
        if base and leaf == "weight" and form == "weights":
            layer = layers[owner]
            found[f"{owner}.{leaf}"] = _of(parameter, partial(merged, layer), tuple(layer.parameters()))
        elif base:
            found[f"{owner}.{leaf}"] = _of(parameter)
        elif not any(f".{part}." in name for part in ("lora_A", "lora_B", "lora_magnitude_vector")):
            found[name] = _of(parameter)
    return found


def _adapter(name: str, layer: Any, form: Form) -> list[tuple[str, Outgoing]]:
    """The tensors of one adapter: for an engine with the scaling in B, so that it has nothing left to multiply."""
    first, second = layer.lora_A[ADAPTER].weight, layer.lora_B[ADAPTER].weight
    scaling = layer.scaling[ADAPTER] if form == "adapter" else 1.0
    tensors = [
        (f"{name}.lora_A.weight", _of(first)),
        (f"{name}.lora_B.weight", _of(second, lambda: second.detach().float() * scaling if scaling != 1 else second)),
    ]
    if ADAPTER in layer.lora_magnitude_vector:
        # peft leaves out `.weight` here and takes either; transformers, which loads adapters too, needs it.
        lengths = layer.lora_magnitude_vector[ADAPTER].weight
        tensors.append((f"{name}.lora_magnitude_vector.weight", _of(lengths)))
    return tensors


def _of(parameter: Any, value: Callable[[], Tensor] | None = None, needed: tuple[Any, ...] = ()) -> Outgoing:
    """A tensor of a parameter's shape: its value, or one computed from the `needed` parameters."""
    shape = tuple(getattr(parameter, "ds_shape", parameter.shape))
    return Outgoing(shape, tuple(dict.fromkeys((parameter, *needed))), value or (lambda: parameter))


def _needed(tensors: Mapping[str, Outgoing]) -> list[Any]:
    return list(dict.fromkeys(p for tensor in tensors.values() for p in tensor.parameters))


def parameter_specs(engine: TrainingEngine, form: Form = "weights") -> list[tuple[str, tuple[int, ...]]]:
    """Names and full shapes: Hugging Face's, or peft's for an adapter; tied weights appear once."""
    return [(name, tensor.shape) for name, tensor in outgoing(engine, form).items()]


def gather_bucket(engine: TrainingEngine, bucket: Bucket, rank: int) -> tuple[np.ndarray, dict[str, int]]:
    """The bucket as one uint8 array and the checksum of each tensor, on rank 0; empty elsewhere. Collective.

    Beside the array, no more is gathered at a time than the bucket's largest tensor needs.
    """
    named = outgoing(engine, bucket.form)
    buffer = np.empty(0 if rank else bucket.num_bytes, dtype=np.uint8)
    views = {} if rank else dict(unpack(bucket, buffer))
    sizes = {name: _gathered_bytes(named[name]) for name in bucket.names}
    for names in cut(sizes, max(sizes.values())):
        with engine.gathered(_needed({name: named[name] for name in names})):
            for name in names if rank == 0 else ():
                views[name].copy_(named[name].value().detach())
    return buffer, checksums(views.items())


def _gathered_bytes(tensor: Outgoing) -> int:
    """Of what must be gathered for it, in full."""
    return sum(getattr(p, "ds_numel", p.numel()) * p.element_size() for p in tensor.parameters)


def require_finite(engine: TrainingEngine, action: str) -> None:
    """Raises RunStopped on every rank when any rank holds a weight that is NaN or infinite. Collective."""
    if not engine.weights_are_finite():
        raise RunStopped(
            f"learner: weights are not finite, so they were not {action}; the last checkpoint is sound. "
            "Lower learner.optimizer.lr, or look at grad_norm and ratio_max before this step"
        )


def export(
    engine: TrainingEngine, source: str, directory: Path, rank: int, trust_remote_code: bool, form: Form = "weights"
) -> None:
    """Writes a Hugging Face directory (an adapter's for form peft): what was trained, with `source`'s tokenizer.

    Collective.
    """
    state: dict[str, torch.Tensor] = {}
    named = outgoing(engine, form)
    for bucket in plan_buckets(parameter_specs(engine, form), "float32", EXPORT_BUCKET_BYTES):
        tensors = {name: named[name] for name in bucket.names}
        with engine.gathered(_needed(tensors)):
            if rank == 0:
                for name, tensor in tensors.items():
                    # A merged weight is rounded back to the dtype of its base.
                    state[name] = tensor.value().detach().to("cpu", tensor.parameters[0].dtype, copy=True)
    if rank:
        return
    if form == "peft":
        _save_adapter(engine, source, directory, state)
    else:
        _save_model(engine, source, directory, state, trust_remote_code)
    load_tokenizer(source, trust_remote_code=trust_remote_code).save_pretrained(directory)


def _save_model(
    engine: TrainingEngine, source: str, directory: Path, state: dict[str, Tensor], trust_remote_code: bool
) -> None:
    from transformers import AutoConfig, GenerationConfig

    model = engine.policy.model
    model.save_pretrained(directory, state_dict=state)
    # The training copy of the config has dropout switched off; the exported model is the user's.
    config = AutoConfig.from_pretrained(source, trust_remote_code=trust_remote_code)
    config.dtype = next(iter(state.values())).dtype
    config.architectures = [type(model).__name__]
    if not model.can_generate():
        config.num_labels, config.pad_token_id = model.config.num_labels, model.config.pad_token_id
    config.save_pretrained(directory)
    if model.can_generate():
        with suppress(OSError):  # The source ships none.
            GenerationConfig.from_pretrained(source).save_pretrained(directory)


def _save_adapter(engine: TrainingEngine, source: str, directory: Path, state: dict[str, Tensor]) -> None:
    """As peft writes one; its configuration names the base by an absolute path, or by its hub id."""
    from safetensors.torch import save_file

    lora = engine.learner.lora
    assert lora is not None, "a model that is trained in full has no adapter"
    base = str(Path(source).resolve()) if Path(source).is_dir() else source
    names = sorted({name.rpartition(".")[2] for name, _ in adapted_layers(engine.policy.model)})
    config = peft_config(lora, names, base)
    config.inference_mode = True
    directory.mkdir(parents=True, exist_ok=True)
    config.save_pretrained(directory)
    save_file(state, directory / "adapter_model.safetensors", metadata={"format": "pt"})
