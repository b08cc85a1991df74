"""The reward section of a recipe as a checked expression; a weighted sum and an outcome table are sugar over one."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from rlvr.recipe.reward import OutcomeTable, RewardConfig
from rlvr.scoring.expression.check import faults
from rlvr.scoring.expression.errors import ExpressionError
from rlvr.scoring.expression.parse import parse
from rlvr.scoring.expression.scope import TOTAL, Scope
from rlvr.scoring.expression.signatures import NUMBER, RESERVED, STEPS, TABLE
from rlvr.scoring.expression.syntax import Call, Name, Neg, Node, Number, Product, Sum, is_gate, unparse, walk
from rlvr.slots import near_miss

WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with the reward section: below which of its keys, and the message."""

    key: tuple[str, ...]
    text: str


@dataclass(frozen=True, slots=True)
class Program:
    """A checked reward expression. `gates` names its gates by the id of their nodes: gate(...) and the levels of gra.

    `calibrations` are the calls of calibrated() by their text.
    """

    scope: Scope
    correct: str
    table: OutcomeTable | None
    gates: Mapping[int, str] = field(default_factory=dict)
    calibrations: Mapping[str, Call] = field(default_factory=dict)

    @property
    def total(self) -> Node:
        return self.scope.roots[TOTAL]

    @property
    def table_term(self) -> str:
        """The term that the outcome table is about."""
        return (self.table and self.table.of) or self.correct


def compile_total(config: RewardConfig, kinds: Mapping[str, str]) -> Program:
    """The program of a reward section; `kinds` says of each term whether it is "scalar" or "steps".

    Raises ExpressionError for the first fault of an expression.
    """
    scope = _scope(config, kinds)
    for _, error in faults(scope):
        raise error
    nodes = [node for root in scope.roots.values() for node in walk(root)]
    calibrated = [node for node in nodes if isinstance(node, Call) and node.function == "calibrated"]
    return Program(
        scope, config.correct_term, config.table, _gate_names(scope), {unparse(node): node for node in calibrated}
    )


def reward_faults(config: RewardConfig, kinds: Mapping[str, str], used: Collection[str] = ()) -> list[Fault]:
    """Everything that is wrong with `total`, `define` and `table`, and terms that they leave out.

    `used` are terms that something else than the reward reads.
    """
    found = [*_table_faults(config), *_name_faults(config)]
    if config.total is None and config.table is None:
        return found + _sum_faults(config, kinds)
    texts = {TOTAL: config.total or TABLE, **config.define}
    broken = False
    for name, text in texts.items():
        try:
            parse(text)
        except ExpressionError as error:
            broken = True
            found.append(Fault(_key(name), str(error)))
    if broken or found:
        return found
    scope = _scope(config, kinds)
    found += [Fault(_key(name), str(error)) for name, error in faults(scope)]
    return found or _unused(config, scope, used)


def weighted_sum(config: RewardConfig) -> Node:
    """The expression behind a reward section without `total`: the sum of weight * term."""
    terms: list[tuple[str, Node]] = []
    for name, term in config.terms.items():
        if term.weight == 0:
            continue  # scored and logged only: where it breaks, the reward is known all the same
        weight = Number(abs(term.weight))
        node: Node = Name(name) if term.weight in (1.0, -1.0) else Product((("*", weight), ("*", Name(name))))
        negative = term.weight < 0
        terms.append(("-", node) if negative and terms else ("+", Neg(node) if negative else node))
    if len(terms) == 1:
        return terms[0][1]
    return Sum(tuple(terms)) if terms else Number(0.0)


def _scope(config: RewardConfig, kinds: Mapping[str, str]) -> Scope:
    texts = dict(config.define)
    if config.total is not None or config.table is not None:
        texts = {TOTAL: config.total or TABLE, **texts}
        roots = {name: parse(text) for name, text in texts.items()}
    else:
        total = weighted_sum(config)
        texts = {TOTAL: unparse(total), **texts}
        roots = {TOTAL: total, **{name: parse(text) for name, text in config.define.items()}}
    of_terms = {name: STEPS if kinds.get(name) == STEPS else NUMBER for name in config.terms}
    return Scope(of_terms, roots, texts, config.table is not None)


def _gate_names(scope: Scope) -> dict[int, str]:
    """1, 2, ... in the total; in a definition its name, with a number where it holds several."""
    names: dict[int, str] = {}
    for root_name, root in scope.roots.items():
        found: list[Node] = []
        for node in walk(root):
            if is_gate(node):
                found.append(node)
            elif isinstance(node, Call) and node.function == "gra":
                found += node.args[:-1]
        for index, node in enumerate(found, 1):
            alone = str(index) if root_name == TOTAL else root_name
            names[id(node)] = alone if root_name == TOTAL or len(found) == 1 else f"{root_name}.{index}"
    return names


def _table_faults(config: RewardConfig) -> list[Fault]:
    if config.table is None or config.table.of is None or config.table.of in config.terms:
        return []
    of = config.table.of
    hint = near_miss(of, config.terms)
    return [Fault(("table", "of"), f"names no term; {hint}the terms are {', '.join(config.terms)}")]


def _name_faults(config: RewardConfig) -> list[Fault]:
    found = []
    written = config.total is not None or config.define
    for name in config.terms if written else ():
        if name in RESERVED or not WORD.fullmatch(name):
            why = "has a meaning of its own in expressions" if name in RESERVED else "cannot be written in expressions"
            found.append(Fault(("terms", name), f"the name {name!r} {why}; rename the term (letters, digits, _)"))
    for name in config.define:
        if name in RESERVED or name == TOTAL or not WORD.fullmatch(name):
            found.append(Fault(("define", name), f"the name {name!r} is taken or no word; choose another"))
        elif name in config.terms:
            found.append(Fault(("define", name), f"{name!r} names a term too; choose another name"))
    return found


def _sum_faults(config: RewardConfig, kinds: Mapping[str, str]) -> list[Fault]:
    found = [
        Fault(
            ("terms", name),
            f"{name} scores steps; say in reward.total what they add up to, as in mean({name}), or set weight: 0",
        )
        for name, term in config.terms.items()
        if kinds.get(name) == STEPS and term.weight != 0
    ]
    if config.define:
        found.append(Fault(("define",), "nothing refers to it: reward.total is missing; write it"))
    return found


def _unused(config: RewardConfig, scope: Scope, used_elsewhere: Collection[str]) -> list[Fault]:
    """Terms that are paid for and count for nothing; weights that nobody reads."""
    used = set(scope.mentioned(scope.roots[TOTAL]))
    refers_to_table = any(isinstance(node, Name) and node.name == TABLE for node in scope.walk(scope.roots[TOTAL]))
    if config.table is not None and refers_to_table:
        used.add(config.table.of or config.correct_term)
    elsewhere = {config.correct_term, *used_elsewhere, *_named_elsewhere(config)}
    found = []
    for name, term in config.terms.items():
        if name in used and term.weight != 1:
            text = f"weights count only where reward.total is left out; write {term.weight:g} * {name} there"
            found.append(Fault(("terms", name, "weight"), text))
        elif name not in used | elsewhere and term.weight != 0:
            text = (
                f"reward.total does not mention {name}, so it is scored for nothing; use it there, remove it, or set "
                "weight: 0 to have it scored and logged only"
            )
            found.append(Fault(("terms", name), text))
    reached = {node.name for node in scope.walk(scope.roots[TOTAL]) if isinstance(node, Name)}
    found += [
        Fault(("define", name), "nothing refers to it; use it in reward.total or remove it")
        for name in config.define
        if name not in reached
    ]
    if config.table is not None and not refers_to_table:
        found.append(
            Fault(("table",), "reward.total does not mention `table`; write it there or leave one of them out")
        )
    return found


def _named_elsewhere(config: RewardConfig) -> set[str]:
    """Terms that the corrections of the reward section ask for."""
    noise = config.noise
    if noise is None:
        return set()
    return {name for name in (noise.term, noise.appeals and noise.appeals.by) if name}


def _key(name: str) -> tuple[str, ...]:
    return ("total",) if name == TOTAL else ("define", name)
