"""Says in the user's terms what pydantic found: file, line, dotted key, value, fault, remedy."""

from __future__ import annotations

import types
import typing
from typing import Annotated, Any, Union

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from rlvr.recipe.marks import Node, did_you_mean
from rlvr.recipe.presets import PRESETS
from rlvr.recipe.schema import Recipe, RlStage
from rlvr.slots import near_miss

Loc = tuple[int | str, ...]


def explain(error: ValidationError, tree: Node, root: type[BaseModel] = Recipe) -> list[str]:
    """One message per fault, without repetition: a top-level section merged into three stages is faulty once."""
    return list(dict.fromkeys(_message(fault, tree, root) for fault in error.errors(include_url=False)))


def locate(tree: Node, loc: Loc) -> tuple[Node, list[str]]:
    """The deepest node along `loc`, and the keys below it that were never written.

    Pydantic puts the tag of a discriminated union ('rl', 'addition') into its path; those name no key and are skipped.
    """
    node = tree
    missing: list[str] = []
    for part in loc:
        child = _child(node, part) if not missing else None
        if child is not None:
            node = child
        elif part not in _tags(node):
            missing.append(str(part))
    return node, missing


def describe(tree: Node, loc: Loc, fallback: object = None) -> str:
    """'file.yaml:12: rollout.group_size=1' for a written value; for a default, its dotted key and `fallback`."""
    node, missing = locate(tree, loc)
    key = ".".join(filter(None, [node.origin.key, *missing]))
    value = fallback if missing else _shown(node)
    suffix = "" if value is None else f"={value}"
    return f"{node.origin.source}: {key}{suffix}"


def _message(fault: ErrorDetails, tree: Node, root: type[BaseModel]) -> str:
    loc, kind = fault["loc"], fault["type"]
    if kind == "extra_forbidden":
        known = _fields(loc[:-1], root)
        where = describe(tree, loc).split("=")[0]
        if len(loc) == 4 and loc[0] == "stages" and loc[-1] in RlStage.model_fields:
            return f"{where}: {loc[2]} stages do not read it; remove it"
        return f"{where}: unknown key; {did_you_mean(str(loc[-1]), known)}"
    if kind == "missing":
        return f"{describe(tree, loc)}: missing; {_remedy(loc)}"
    if kind == "union_tag_not_found":
        discriminator = fault["ctx"]["discriminator"].strip("'")
        return f"{describe(tree, loc).split('=')[0]}.{discriminator}: missing; {_one_of(loc)}"
    if kind == "union_tag_invalid":
        discriminator = fault["ctx"]["discriminator"].strip("'")
        expected = [tag.strip(" '") for tag in fault["ctx"]["expected_tags"].split(",")]
        tag = fault["ctx"]["tag"]
        hint = did_you_mean(tag, expected)
        return f"{describe(tree, (*loc, discriminator))}: unknown {discriminator}; {hint} ({', '.join(expected)})"
    if kind == "literal_error" and loc[-1] == "preset" and isinstance(fault["input"], str):
        hint = near_miss(fault["input"], PRESETS)
        return f"{describe(tree, loc)}: no method has choices by this name; {hint}`rlvr methods` lists them"
    expectation = fault["msg"].replace("Input should be", "expected").replace("Value error, ", "")
    expectation = expectation[0].lower() + expectation[1:]
    return f"{describe(tree, loc)}: {expectation}"


def _remedy(loc: Loc) -> str:
    if len(loc) == 4 and loc[0] == "stages" and loc[-1] in ("task", "reward"):
        return "write it at the top level or in the stage"
    return f"add {loc[-1]}"


def _one_of(loc: Loc) -> str:
    return "write kind: sft, rl or eval" if loc[0] == "stages" and len(loc) == 2 else "name the source"


def _shown(node: Node) -> str | None:
    if isinstance(node.value, dict):
        return None
    if isinstance(node.value, list):
        return (
            None
            if any(isinstance(child.value, dict | list) for child in node.value)
            else str([c.value for c in node.value])
        )
    if node.value is None:
        return "null"
    return (
        repr(node.value)
        if isinstance(node.value, str)
        else str(node.value).lower()
        if isinstance(node.value, bool)
        else str(node.value)
    )


def _child(node: Node, part: int | str) -> Node | None:
    if isinstance(node.value, dict):
        return node.value.get(part)
    if isinstance(node.value, list) and isinstance(part, int) and part < len(node.value):
        child: Node = node.value[part]
        return child
    return None


def _tags(node: Node) -> set[str]:
    found = (node.get(key) for key in ("kind", "source"))
    return {str(tag.value) for tag in found if tag is not None}


def _fields(loc: Loc, root: type[BaseModel]) -> list[str]:
    """The keys that the model at `loc` below `root` knows."""
    models: list[Any] = [root]
    for part in loc:
        tagged = [model for model in models if _tag(model) == part]
        if tagged:
            models = tagged
        elif isinstance(part, str):
            annotations = [m.model_fields[part].annotation for m in models if part in m.model_fields]
            models = [model for annotation in annotations for model in _models_in(annotation)]
    return list(dict.fromkeys(name for model in models for name in model.model_fields))


def _tag(model: type[BaseModel]) -> object:
    for key in ("kind", "source"):
        if key in model.model_fields:
            return typing.get_args(model.model_fields[key].annotation)[0]
    return None


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    """The section classes inside an annotation such as list[Annotated[A | B, ...]] or A | None."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if typing.get_origin(annotation) in (Annotated, Union, types.UnionType, list, dict):
        return [model for part in typing.get_args(annotation) for model in _models_in(part)]
    return []
