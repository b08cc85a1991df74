"""A YAML tree whose every value remembers the file, the line and the dotted key under which it was written."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from rlvr.errors import RecipeError


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a value was written: `source` is file:line, 'command line' or 'preset grpo'; `key` the dotted key there.

    `directory` is what a relative path written there refers to.
    """

    source: str
    key: str
    directory: Path


@dataclass(frozen=True, slots=True)
class Node:
    """A value with its origin: a dict of Nodes, a list of Nodes, or a YAML scalar."""

    value: Any
    origin: Origin

    @property
    def is_mapping(self) -> bool:
        return isinstance(self.value, dict)

    def get(self, *keys: str) -> Node | None:
        """The node under nested mapping keys, or None."""
        node: Node = self
        for key in keys:
            if not node.is_mapping or key not in node.value:
                return None
            node = node.value[key]
        return node


class _CoreLoader(yaml.SafeLoader):
    """YAML 1.2 scalars: `1e-6` is a number; `no`, `on`, `1:30` and dates are text. (YAML 1.1 has it the other way.)"""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 (PyYAML's own name)


_CoreLoader.add_implicit_resolver("tag:yaml.org,2002:null", re.compile(r"(?:~|null|Null|NULL|)$"), ["~", "n", "N", ""])
_CoreLoader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"(?:[Tt]rue|[Ff]alse|TRUE|FALSE)$"), list("tTfF")
)
_CoreLoader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"[-+]?[0-9]+$"), list("-+0123456789"))
_CoreLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"[-+]?(?:(?:\.[0-9]+|[0-9]+\.[0-9]*)(?:[eE][-+]?[0-9]+)?|[0-9]+[eE][-+]?[0-9]+|\.(?:inf|Inf|INF))$|\.(?:nan|NaN|NAN)$"
    ),
    list("-+.0123456789"),
)

_SCALARS: dict[str, Callable[[str], Any]] = {
    "null": lambda text: None,
    "bool": lambda text: text.lower() == "true",
    "int": int,
    "float": lambda text: float(text.lower().replace(".inf", "inf").replace(".nan", "nan")),
    "str": str,
}


def parse_file(path: Path, problems: list[str]) -> Node:
    """The marked tree of one file; duplicate keys go to `problems`. Raises RecipeError for text that is not YAML."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: cannot be read ({error}); give the path of a recipe") from error
    label = _short(path)
    try:
        root = yaml.compose(text, Loader=_CoreLoader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise RecipeError(f"{label}:{line}: not valid YAML: {error.problem}; check indentation and quotes") from error
    except yaml.YAMLError as error:
        raise RecipeError(f"{label}: not valid YAML: {error}") from error
    if not isinstance(root, yaml.MappingNode):
        raise RecipeError(f"{label}: a recipe is a mapping of keys such as name, model, task, stages")
    return _Marker(label, path.resolve().parent, problems).mark(root, "", 1)


def parse_override(text: str, problems: list[str]) -> Node | None:
    """`a.b.c=value` as a nested tree; None, and an entry in `problems`, where it is malformed. The value is YAML."""
    key, equals, value = text.partition("=")
    parts = key.split(".")
    if not equals or not all(parts):
        problems.append(f"command line: {text!r} is no override; write key=value, such as rollout.group_size=8")
        return None
    try:
        composed = yaml.compose(value, Loader=_CoreLoader)
    except yaml.YAMLError:
        problems.append(f"command line: {key}={value}: the value is not valid YAML; quote it")
        return None
    if composed is None:
        node = Node(None, Origin("command line", key, Path.cwd()))
    else:
        node = _Marker("command line", Path.cwd(), problems, lines=False).mark(composed, key, 1)
    for depth in range(len(parts) - 1, 0, -1):
        node = Node({parts[depth]: node}, Origin("command line", ".".join(parts[:depth]), Path.cwd()))
    return Node({parts[0]: node}, Origin("command line", "", Path.cwd()))


def from_plain(value: Any, origin: Origin) -> Node:
    """Marks plain data with one origin, its keys extended downwards."""
    if isinstance(value, dict):
        children = {k: from_plain(v, _extend(origin, k)) for k, v in value.items()}
        return Node(children, origin)
    if isinstance(value, list):
        return Node([from_plain(v, _extend(origin, f"[{i}]")) for i, v in enumerate(value)], origin)
    return Node(value, origin)


def to_plain(node: Node) -> Any:
    """The data without its marks."""
    if isinstance(node.value, dict):
        return {key: to_plain(child) for key, child in node.value.items()}
    if isinstance(node.value, list):
        return [to_plain(child) for child in node.value]
    return node.value


def did_you_mean(word: str, candidates: Iterable[str]) -> str:
    """' did you mean 'group_size'?', or all the candidates when none is close and they are few."""
    names = list(candidates)
    # groupsize, groupSize and group-size are the same typo to a person.
    folded = {name.replace("_", ""): name for name in names}
    match = difflib.get_close_matches(re.sub(r"[-_ ]", "", word).lower(), folded, n=1, cutoff=0.7)
    close = [folded[match[0]]] if match else difflib.get_close_matches(word, names, n=1)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"known keys: {', '.join(names)}" if names else "no key is known here"


@dataclass(frozen=True, slots=True)
class _Marker:
    """Turns PyYAML's nodes of one file into marked ones."""

    label: str
    directory: Path
    problems: list[str]
    lines: bool = True
    open_nodes: set[int] = field(default_factory=set)

    def origin(self, key: str, line: int) -> Origin:
        return Origin(f"{self.label}:{line}" if self.lines else self.label, key, self.directory)

    def mark(self, node: yaml.Node, key: str, line: int) -> Node:
        if isinstance(node, yaml.ScalarNode):
            return Node(self._scalar(node, key, line), self.origin(key, line))
        if id(node) in self.open_nodes:
            raise RecipeError(f"{self.label}:{line}: {key}: an alias refers to its own parent; write the value out")
        self.open_nodes.add(id(node))
        value = self._mapping(node, key) if isinstance(node, yaml.MappingNode) else self._sequence(node, key)
        self.open_nodes.discard(id(node))
        return Node(value, self.origin(key, line))

    def _scalar(self, node: yaml.ScalarNode, key: str, line: int) -> Any:
        convert = _SCALARS.get(node.tag.removeprefix("tag:yaml.org,2002:"))
        try:
            if convert is not None:
                return convert(node.value)
        except ValueError:
            pass
        self.problems.append(
            f"{self.origin(key, line).source}: {key}={node.value}: the tag {node.tag} has no meaning here"
        )
        return node.value

    def _mapping(self, node: yaml.MappingNode, parent: str) -> dict[str, Node]:
        children: dict[str, Node] = {}
        for key_node, value_node in node.value:
            name, line = str(key_node.value), key_node.start_mark.line + 1
            key = f"{parent}.{name}" if parent else name
            if not isinstance(key_node, yaml.ScalarNode):
                self.problems.append(f"{self.origin(parent, line).source}: {parent}: a key must be plain text")
            elif name in children:
                first = children[name].origin.source
                self.problems.append(
                    f"{self.origin(key, line).source}: {key}: written twice, first at {first}; keep one"
                )
            else:
                children[name] = self.mark(value_node, key, line)
        return children

    def _sequence(self, node: yaml.Node, parent: str) -> list[Node]:
        children = []
        for index, child in enumerate(node.value):
            name = _stage_name(child) if parent == "stages" else None
            key = f"{parent}.{name}" if name else f"{parent}[{index}]"
            children.append(self.mark(child, key, child.start_mark.line + 1))
        return children


def _stage_name(node: yaml.Node) -> str | None:
    """The name of an entry of `stages`, so that its keys read stages.rl.steps as on the command line."""
    if not isinstance(node, yaml.MappingNode):
        return None
    scalars = {k.value: v.value for k, v in node.value if isinstance(v, yaml.ScalarNode)}
    return scalars.get("name") or scalars.get("kind")


def _extend(origin: Origin, part: str) -> Origin:
    joint = "" if not origin.key or part.startswith("[") else "."
    return Origin(origin.source, f"{origin.key}{joint}{part}", origin.directory)


def _short(path: Path) -> str:
    resolved = path.resolve()
    return str(resolved.relative_to(Path.cwd())) if resolved.is_relative_to(Path.cwd()) else str(resolved)
