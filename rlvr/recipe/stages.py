"""Gives every stage its full sections: preset, top level, the stage's own, the command line."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel

from rlvr.recipe import schema
from rlvr.recipe.marks import Node, Origin, from_plain
from rlvr.recipe.merge import merge, merge_stages, stage_name
from rlvr.recipe.presets import PRESETS
from rlvr.slots import is_path

SECTIONS: dict[str, type[BaseModel]] = {
    "task": schema.TaskConfig,
    "reward": schema.RewardConfig,
    "rollout": schema.RolloutConfig,
    "objective": schema.ObjectiveConfig,
    "learner": schema.LearnerConfig,
    "evaluation": schema.EvaluationConfig,
    "checkpoint": schema.CheckpointConfig,
    "monitor": schema.MonitorConfig,
}
"""Sections that may stand at the top level, as defaults of the stages, or in a stage."""

TOP_LEVEL = (*schema.Recipe.model_fields, *SECTIONS, "preset")
"""Keys of a recipe file, `extends` aside."""

_STAGES: dict[str, type[schema.StageBase]] = {"sft": schema.SftStage, "rl": schema.RlStage, "eval": schema.EvalStage}


def assemble(written: Node, command: Node, problems: list[str]) -> Node:
    """The tree of a resolved recipe, ready to be validated: top-level sections and presets are in the stages."""
    top = merge(
        written, Node({k: v for k, v in command.value.items() if k in schema.Recipe.model_fields}, written.origin)
    )
    stages, changes = written.get("stages"), command.get("stages")
    if changes is not None and not changes.is_mapping:
        stages, changes = changes, None
    if stages is None or not isinstance(stages.value, list):
        if stages is not None:
            problems.append(f"{stages.origin.source}: stages: expected a list of stages")
        stages = Node([], written.origin)
    _refuse_unread(written, command, stages, problems)
    filled = Node([_fill(stage, written, command, _chosen(stage, changes)) for stage in stages.value], stages.origin)
    if changes is not None:
        filled = merge_stages(filled, changes, problems)
    _refuse_twins(filled, problems)
    children = {name: child for name, child in top.value.items() if name in schema.Recipe.model_fields}
    if "stages" in written.value or filled.value:
        children["stages"] = filled
    return _absolute_paths(Node(children, written.origin))


def sections_of(stage: Node) -> list[str]:
    """The sections that a stage of this kind reads; all of them when the kind is unknown, so that one error remains."""
    kind = stage.get("kind")
    model = _STAGES.get(str(kind.value)) if kind is not None else None
    return [name for name in SECTIONS if model is None or name in model.model_fields]


def _chosen(stage: Node, changes: Node | None) -> Node | None:
    """The preset that the command line gives this stage by name."""
    return changes.get(stage_name(stage) or "", "preset") if changes is not None else None


def _fill(stage: Node, written: Node, command: Node, chosen: Node | None) -> Node:
    if not stage.is_mapping:
        return stage
    sections = sections_of(stage)
    defaults = Node({name: written.value[name] for name in sections if _is_section(written, name)}, stage.origin)
    filled = merge(defaults, stage)
    kind = stage.get("kind")
    if kind is not None and kind.value == "rl":
        preset = chosen or command.get("preset") or stage.get("preset") or written.get("preset")
        if preset is not None:
            filled = _with_preset(filled, preset)
    commands = Node({name: command.value[name] for name in sections if name in command.value}, stage.origin)
    filled = merge(filled, commands)
    children = dict(filled.value)
    if "name" not in children and kind is not None:
        children = {"name": kind, **children}
    for name in sections:
        if name not in children and name not in ("task", "reward"):
            children[name] = Node({}, Origin(stage.origin.source, f"{stage.origin.key}.{name}", stage.origin.directory))
    return Node(children, stage.origin)


def _with_preset(stage: Node, preset: Node) -> Node:
    children = {**stage.value, "preset": preset}
    choices = PRESETS.get(preset.value) if isinstance(preset.value, str) else None
    if choices is None:
        return Node(children, stage.origin)
    under = from_plain(choices, Origin(f"preset {preset.value}", "", Path.cwd()))
    return Node(merge(under, Node(children, stage.origin), over_first=True).value, stage.origin)


def _is_section(tree: Node, name: str) -> bool:
    """False for a section written as null, which takes back what `extends` brought."""
    return name in tree.value and tree.value[name].is_mapping


def _refuse_unread(written: Node, command: Node, stages: Node, problems: list[str]) -> None:
    kinds = [str(node.value) for stage in stages.value if (node := stage.get("kind")) is not None]
    read = {name for stage in stages.value if stage.is_mapping for name in sections_of(stage)}
    for tree in (written, command):
        for name, child in tree.value.items():
            if name in SECTIONS and child.value is not None and not child.is_mapping:
                problems.append(f"{child.origin.source}: {name}={child.value!r}: expected a mapping of its keys")
            elif (name in SECTIONS and child.is_mapping and name not in read) or (
                name == "preset" and "rl" not in kinds
            ):
                have = ", ".join(kinds) or "none"
                problems.append(
                    f"{child.origin.source}: {name}: no stage reads it (stages: {have}); remove it or add the stage"
                )


def _refuse_twins(stages: Node, problems: list[str]) -> None:
    seen: dict[str, Node] = {}
    for stage in stages.value:
        name = stage_name(stage)
        if name is not None and name in seen:
            problems.append(
                f"{stage.origin.source}: stages: two stages are called {name!r}, "
                f"the first at {seen[name].origin.source}; give one of them a name"
            )
        elif name is not None:
            seen[name] = stage


def _absolute_paths(tree: Node) -> Node:
    """Every path becomes absolute, relative to the file that wrote it (on the command line: to where rlvr starts)."""
    return Node({name: _resolve(child, (name,)) for name, child in tree.value.items()}, tree.origin)


def _resolve(node: Node, keys: tuple[str, ...]) -> Node:
    if isinstance(node.value, dict):
        return Node({name: _resolve(child, (*keys, name)) for name, child in node.value.items()}, node.origin)
    if isinstance(node.value, list):
        return Node([_resolve(child, (*keys, "*")) for child in node.value], node.origin)
    if isinstance(node.value, str) and _names_path(node.value, keys):
        return Node(_absolute(node.value, node.origin.directory), node.origin)
    return node


_DATASETS = (("task", "train", "dataset"), ("task", "test", "dataset"))


def _names_path(text: str, keys: tuple[str, ...]) -> bool:
    side_model = keys[2:4] == ("reward", "models") and keys[5:] == ("path",)
    beside = keys[2:] in (("objective", "critic", "path"), ("objective", "teacher", "path"))
    if keys == ("model", "path") or side_model or beside or keys[2:] in _DATASETS:
        return text.startswith(("./", "../", "/", "~")) or text in (".", "..")
    if keys[2:] in (("task", "train", "path"), ("task", "test", "path")):
        return True
    # Slots: a built-in's name stays as it is, path/to/file.py:function does not.
    return (
        is_path(text)
        and keys[2:3] in (("task",), ("reward",), ("objective",), ("rollout",))
        and keys[-1] in ("function", "fn", "advantage", "environment")
    )


def _absolute(text: str, directory: Path) -> str:
    return str((directory / Path(text).expanduser()).resolve())
