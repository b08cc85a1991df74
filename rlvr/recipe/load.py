"""From a recipe file and `key=value` overrides to a resolved, checked Recipe; and back to YAML."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from rlvr.errors import RecipeError
from rlvr.recipe import rules
from rlvr.recipe.diagnose import describe, explain
from rlvr.recipe.marks import Node, Origin, did_you_mean, parse_file, parse_override, to_plain
from rlvr.recipe.merge import merge, merge_stages
from rlvr.recipe.schema import Recipe
from rlvr.recipe.stages import SECTIONS, TOP_LEVEL, assemble


def load_recipe(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """The recipe at `path` with everything merged in; every stage carries its full sections.

    Precedence, lowest first: defaults of the schema, preset, `extends` in order, the file's top-level sections, the
    stage's own, the command line. Raises one RecipeError that lists every problem found.
    """
    problems: list[str] = []
    file = Path(path)
    written = _load_file(file, problems, ())
    command = _command_line(overrides, problems)
    tree = assemble(written, command, problems)
    recipe = None
    try:
        # JSON mode is strict about types (no 'true' for a number) and still takes lists for tuples.
        recipe = Recipe.model_validate_json(json.dumps(to_plain(tree)), strict=True)
    except ValidationError as error:
        problems += explain(error, tree)
    if recipe is not None:
        found = rules.problems(recipe)
        problems += list(dict.fromkeys(f"{describe(tree, p.loc, p.value)}: {p.text}" for p in found))
    if problems or recipe is None:
        raise RecipeError("\n".join(dict.fromkeys(problems)))
    return recipe


def dump_recipe(recipe: Recipe) -> str:
    """YAML that `load_recipe` reads back to an equal Recipe, whatever presets do by then: every value is written."""
    plain = recipe.model_dump(mode="json")
    header = (
        "# A resolved recipe: every default, preset and override is written out. It re-runs the run it came from.\n"
    )
    return header + yaml.dump(plain, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


class _Dumper(yaml.SafeDumper):
    """Lists of scalars on one line; text that YAML 1.2 would read as a number is quoted."""

    def represent_str(self, text: str) -> yaml.ScalarNode:
        ambiguous = any(character in "0123456789" for character in text) and _reads_as_number(text)
        return self.represent_scalar("tag:yaml.org,2002:str", text, style="'" if ambiguous else None)

    def represent_list(self, values: Any) -> yaml.SequenceNode:
        flat = not any(isinstance(value, dict | list) for value in values)
        return self.represent_sequence("tag:yaml.org,2002:seq", values, flow_style=flat)

    def represent_float(self, number: float) -> yaml.ScalarNode:
        return self.represent_scalar("tag:yaml.org,2002:float", repr(number))


_Dumper.add_representer(str, _Dumper.represent_str)
_Dumper.add_representer(list, _Dumper.represent_list)
_Dumper.add_representer(float, _Dumper.represent_float)


def _reads_as_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _load_file(path: Path, problems: list[str], chain: tuple[Path, ...]) -> Node:
    """The tree of one file over those it extends."""
    own = parse_file(path, problems)
    extends = own.value.pop("extends", None)
    for name, child in own.value.items():
        if name not in TOP_LEVEL:
            problems.append(
                f"{child.origin.source}: {name}: unknown key; {did_you_mean(name, (*TOP_LEVEL, 'extends'))}"
            )
    own = Node({name: child for name, child in own.value.items() if name in TOP_LEVEL}, own.origin)
    tree: Node | None = None
    for entry in _entries(extends, problems):
        base_path = own.origin.directory / entry.value
        here = (*chain, path.resolve())
        if base_path.resolve() in here:
            loop = " -> ".join(file.name for file in (*here, base_path.resolve()))
            problems.append(f"{entry.origin.source}: extends={entry.value}: the files extend each other ({loop})")
        elif not base_path.is_file():
            problems.append(
                f"{entry.origin.source}: extends={entry.value}: no such file; it is relative to this recipe"
            )
        else:
            base = _load_file(base_path, problems, here)
            tree = base if tree is None else _over(tree, base, problems)
    return own if tree is None else _over(tree, own, problems)


def _entries(extends: Node | None, problems: list[str]) -> list[Node]:
    if extends is None:
        return []
    entries = extends.value if isinstance(extends.value, list) else [extends]
    for entry in entries:
        if not isinstance(entry.value, str):
            problems.append(f"{entry.origin.source}: extends: expected the path of a recipe, or a list of paths")
    return [entry for entry in entries if isinstance(entry.value, str)]


def _over(base: Node, over: Node, problems: list[str]) -> Node:
    merged = merge(base, over)
    if "stages" in over.value:
        merged.value["stages"] = merge_stages(base.get("stages"), over.value["stages"], problems)
    return merged


def _command_line(overrides: Sequence[str], problems: list[str]) -> Node:
    tree = Node({}, Origin("command line", "", Path.cwd()))
    for text in overrides:
        node = parse_override(text, problems)
        if node is None:
            continue
        name = next(iter(node.value))
        if name in TOP_LEVEL:
            tree = merge(tree, node)
        else:
            problems.append(f"command line: {name}: unknown key; {_suggest(name)}")
    return tree


def _suggest(name: str) -> str:
    hint = did_you_mean(name, TOP_LEVEL)
    if name in ("steps", "batch_size"):
        return f"it belongs to a stage: stages.<name>.{name}=..."
    owners = [section for section, model in SECTIONS.items() if name in model.model_fields]
    return f"did you mean {owners[0] + '.' + name!r}?" if owners else hint
