"""Low-rank adapters in a policy: put in by peft, switched off for the reference, added to the base in copies only.

Legend: out, in = sizes of an adapted linear layer, r = rank. The base is never written to: what leaves the learner is
computed into temporaries (`rlvr.learner.weights`), and `base_checksum` proves it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from rlvr.errors import RecipeError
from rlvr.recipe.lora import UNADAPTABLE, LoraConfig
from rlvr.records import derive_seed
from rlvr.transfer.buckets import WORD_MODULUS, checksum

if TYPE_CHECKING:
    from rlvr.learner.engine import TrainingEngine

ADAPTER = "default"  # peft's name of the one adapter


def adapted(load: Callable[[], Any], lora: LoraConfig, seed: int, directory: str) -> Any:
    """The policy that `load` loads, frozen, with adapters in its linear layers; a scalar head goes on learning whole.

    `directory` is what errors call the model. Every rank draws the same adapter, whatever was drawn before.
    """
    from peft import inject_adapter_in_model

    policy = load()
    model = policy.model
    names = target_names(model, lora, directory)
    model.requires_grad_(False)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "lora"))
        inject_adapter_in_model(peft_config(lora, names, directory), model, ADAPTER)
    head = getattr(model, "score", None)
    if head is not None:
        head.requires_grad_(True)
    # peft keeps adapters of a bfloat16 model in float32; here master weights of the optimizer do that.
    dtype = next(model.parameters()).dtype
    for _, layer in adapted_layers(model):
        for name in layer.adapter_layer_names:
            getattr(layer, name).to(dtype)
        layer.train(False)
    return policy


def target_names(model: Any, lora: LoraConfig, directory: str) -> list[str]:
    """Last names of the layers that get an adapter. RecipeError for a name that no linear layer of the model has."""
    linear = {
        short
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and (short := name.rpartition(".")[2]) not in UNADAPTABLE
    }
    if not linear:
        raise RecipeError(
            f"model.path={directory!r}: {type(model).__name__} has no linear layers that adapters fit; train it in full"
            " (learner.lora=null)"
        )
    if lora.target_modules == "all-linear":
        return sorted(linear)
    unknown = [name for name in lora.target_modules if name not in linear]
    if unknown:
        raise RecipeError(
            f"learner.lora.target_modules={list(lora.target_modules)}: the model has no linear layer "
            f"{', '.join(unknown)}; it has {', '.join(sorted(linear))}"
        )
    return list(lora.target_modules)


def peft_config(lora: LoraConfig, names: list[str], directory: str) -> Any:
    """peft's own configuration, as it is saved beside an adapter."""
    from peft import LoraConfig as PeftLoraConfig

    return PeftLoraConfig(
        r=lora.rank,
        # peft declares an int and takes a float as well; whole numbers are written as such.
        lora_alpha=int(lora.alpha) if lora.alpha.is_integer() else lora.alpha,  # type: ignore[arg-type]
        lora_dropout=lora.dropout,
        target_modules=names,
        use_rslora=lora.rslora,
        use_dora=lora.dora,
        init_lora_weights=True if lora.init == "kaiming" else "gaussian",
        task_type="CAUSAL_LM",
        base_model_name_or_path=directory,
    )


def adapted_layers(model: nn.Module) -> Iterator[tuple[str, Any]]:
    """(name, layer) of every layer with an adapter, in the order of the model."""
    from peft.tuners.lora import LoraLayer

    for name, module in model.named_modules():
        if isinstance(module, LoraLayer):
            yield name, module


def delta(layer: Any) -> Tensor:
    """What the adapter adds to its layer's weight, [out, in] in float32: B [out, r] @ A [r, in], scaled."""
    first, second = layer.lora_A[ADAPTER].weight, layer.lora_B[ADAPTER].weight
    return (second.detach().float() @ first.detach().float()) * layer.scaling[ADAPTER]


def merged(layer: Any) -> Tensor:
    """Base and adapter as one weight, [out, in] in float32; the layer stays as it is.

    In float32 whatever the layer holds, so that a small update is rounded once, with the sum, and not on its own. With
    DoRA each row of the sum gets the learnt length (Liu et al. 2024, eq. 5).
    """
    weight = layer.get_base_layer().weight.detach().float() + delta(layer)
    if ADAPTER in layer.lora_magnitude_vector:
        lengths = layer.lora_magnitude_vector[ADAPTER].weight.detach().float()
        weight *= (lengths / weight.norm(dim=1))[:, None]
    return weight


@contextmanager
def adapters_off(model: nn.Module) -> Iterator[None]:
    """The base alone, while it is open."""
    layers = [layer for _, layer in adapted_layers(model)]
    # Not peft's `enable_adapters`: that also stops adapters from training, which ZeRO has counted on since it started.
    for layer in layers:
        layer._disable_adapters = True
    try:
        yield
    finally:
        for layer in layers:
            layer._disable_adapters = False


@contextmanager
def dropping(model: nn.Module, lora: LoraConfig | None, key: tuple[int, ...]) -> Iterator[None]:
    """Dropout of the adapters' inputs while it is open. What is dropped follows from `key`, so a resumed run repeats
    it."""
    if lora is None or not lora.dropout:
        yield
        return
    layers = [layer for _, layer in adapted_layers(model)]
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(derive_seed("lora dropout", *key))
        for layer in layers:
            layer.train(True)
        try:
            yield
        finally:
            for layer in layers:
                layer.train(False)


def base_checksum(engine: TrainingEngine, rank: int) -> str:
    """Fingerprint of all frozen weights, the same at every ZeRO stage and number of ranks. Collective under ZeRO-3."""
    frozen = [(name, p) for name, p in engine.policy.model.named_parameters() if not p.requires_grad]
    if engine.partitioned:
        sums = torch.tensor([_signed(checksum(_share(p, rank))) for _, p in frozen], dtype=torch.int64)
        sums = sums.to(engine.device)
        dist.all_reduce(sums)
        words = [value % WORD_MODULUS for value in sums.tolist()]
    else:
        words = [checksum(p) for _, p in frozen]
    lines = (f"{name} {word}\n" for (name, _), word in zip(frozen, words, strict=True))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _share(parameter: Any, rank: int) -> Tensor:
    """This rank's part of a partitioned parameter without the padding, which holds anything."""
    held = parameter.ds_tensor.detach()
    start = rank * held.numel()
    return held.flatten()[: max(0, min(held.numel(), parameter.ds_numel - start))]


def _signed(word: int) -> int:
    return word - WORD_MODULUS if word >= WORD_MODULUS // 2 else word
