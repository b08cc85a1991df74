"""Kinds of reward expressions: every fault that can be known before a run, with its column."""

from __future__ import annotations

from collections.abc import Iterator

from rlvr.scoring.expression.errors import ExpressionError
from rlvr.scoring.expression.messages import GATE_PLACE, NESTED, literal_fault, shortened, step_fault, steps_name
from rlvr.scoring.expression.scope import TOTAL, Scope, is_reference
from rlvr.scoring.expression.signatures import (
    CONDITION,
    FACTS,
    FUNCTIONS,
    GATE,
    NUMBER,
    REDUCTIONS,
    REFERENCES,
    SHAPES,
    STEPS,
    TABLE,
)
from rlvr.scoring.expression.syntax import (
    Call,
    Compare,
    Logic,
    Name,
    Neg,
    Node,
    Not,
    Number,
    Product,
    Sum,
    children,
    is_gate,
    unparse,
    walk,
)
from rlvr.slots import near_miss

FEW_NAMES = 12


def faults(scope: Scope) -> Iterator[tuple[str, ExpressionError]]:
    """Every fault with the name of its expression ("total", or a definition). Stops at a cycle: kinds need an end."""
    if cycle := scope.cycle():
        first, second = cycle[:2]
        names = (node for node in walk(scope.roots[first]) if isinstance(node, Name) and node.name == second)
        at = next(names)
        fault = f"the definitions go in a circle, {' -> '.join(cycle)}; break it"
        yield first, ExpressionError(fault, scope.texts[first], at.start, at.end)
        return
    for name, root in scope.roots.items():
        checker = _Checker(scope, scope.texts[name])
        kind = checker.kind(root, gate=True)
        if name == TOTAL and kind == STEPS:
            checker.add(step_fault(scope, root), root)
        yield from ((name, error) for error in checker.found)


class _Checker:
    """Finds the kind of each node of one expression; "" stands for the kind of what is faulty already."""

    def __init__(self, scope: Scope, text: str) -> None:
        self.scope = scope
        self.text = text
        self.found: list[ExpressionError] = []

    def add(self, fault: str, node: Node) -> str:
        self.found.append(ExpressionError(fault, self.text, node.start, node.end))
        return ""

    def kind(self, node: Node, gate: bool = False, inside: bool = False) -> str:
        """`gate`: a gate may stand here. `inside`: within a reference to other rollouts."""
        match node:
            case Number():
                return NUMBER
            case Name():
                return self.name(node, gate, inside)
            case Call():
                return self.call(node, gate, inside)
            case Neg():
                return self.steps_or_number(node.operand, gate, inside)
            case Not():
                self.expect(CONDITION, node.operand, inside)
                return CONDITION
            case Logic():
                for operand in node.operands:
                    self.expect(CONDITION, operand, inside)
                return CONDITION
            case Sum():
                for _, term in node.terms:
                    self.expect(NUMBER, term, inside, gate=True)
                return NUMBER
            case Product():
                return self.product(node, inside)
            case Compare():
                return self.compare(node, inside)
        raise AssertionError(node)

    def expect(self, wanted: str, node: Node, inside: bool, gate: bool = False) -> None:
        """Adds a fault unless the node is of the wanted kind."""
        kind = self.kind(node, gate, inside)
        shown = shortened(unparse(node))
        if kind == "" or kind == wanted or (wanted == NUMBER and kind in (CONDITION, GATE)):
            return
        if wanted == CONDITION:
            example = f"mean({shown}) >= 1" if kind == STEPS else f"{shown} >= 1"
            self.add(f"a number is no condition; compare it, as in {example}", node)
        elif wanted == STEPS:
            fault = f"{shown} is one number; a step term is needed: one whose function returns Steps, or with `split`"
            self.add(fault, node)
        else:
            self.add(step_fault(self.scope, node), steps_name(self.scope, node))

    def steps_or_number(self, node: Node, gate: bool, inside: bool) -> str:
        kind = self.kind(node, gate, inside)
        return STEPS if kind == STEPS else NUMBER if kind else ""

    def name(self, node: Name, gate: bool, inside: bool) -> str:
        name = node.name
        if name in self.scope.terms:
            return self.scope.terms[name]
        if (body := self.scope.definition(node)) is not None:
            if inside and any(is_reference(child) for child in self.scope.walk(body)):
                return self.add(f"{name}: {NESTED}", node)
            kind = _Checker(self.scope, self.scope.texts[name]).kind(body, gate=True)
            return self.add(GATE_PLACE, node) if kind == GATE and not gate else kind
        if name in REFERENCES:
            return self.add(NESTED, node) if inside else REFERENCES[name]
        if name in FACTS or (name == TABLE and self.scope.has_table):
            return FACTS.get(name, NUMBER)
        if name == TABLE:
            return self.add("there is no outcome table; add reward.table", node)
        if name in FUNCTIONS:
            return self.add(f"{name} is a function; write {FUNCTIONS[name].usage}", node)
        known = [*self.scope.terms, *(n for n in self.scope.roots if n != TOTAL), *FACTS]
        pool = [*REFERENCES, *FUNCTIONS] if "." in name else known
        listed = f"the names are {', '.join(known)}" if len(known) <= FEW_NAMES else "it is no term, definition or fact"
        return self.add(f"unknown name {name!r}; {near_miss(name, pool)}{listed}", node)

    def call(self, node: Call, gate: bool, inside: bool) -> str:
        name = node.function
        if name not in FUNCTIONS:
            if name in self.scope.terms or name in self.scope.roots or name in FACTS or name in REFERENCES:
                return self.add(f"{name} is no function; write it without parentheses", node)
            pool = [known for known in FUNCTIONS if ("." in known) == ("." in name)]
            return self.add(f"unknown function {name!r}; {near_miss(name, pool)}known: {', '.join(pool)}", node)
        signature = FUNCTIONS[name]
        for key, value in node.named:
            if key not in signature.named:
                return self.add(f"{key}= is no argument here; write {signature.usage}", value)
        if is_gate(node) and not gate:
            return self.add(GATE_PLACE, node)
        if is_reference(node) and inside:
            return self.add(NESTED, node)
        if name == "gra":
            return self.gra(node, inside)
        if name in REDUCTIONS:
            return self.reduction(node, inside)
        if len(node.args) != len(signature.args):
            count = len(signature.args)
            plural = "s" * (count != 1)
            return self.add(f"takes {count} argument{plural}, not {len(node.args)}; write {signature.usage}", node)
        return self.arguments(node, inside)

    def arguments(self, node: Call, inside: bool) -> str:
        signature = FUNCTIONS[node.function]
        reference = is_reference(node) and node.function != "batch.top_groups"
        kinds: list[tuple[int | str, str, Node]] = [
            (index, kind, arg) for index, (kind, arg) in enumerate(zip(signature.args, node.args, strict=True))
        ]
        kinds += [(key, signature.named[key], value) for key, value in node.named]
        for place, kind, value in kinds:
            if kind == "shape":
                if not (isinstance(value, Name) and value.name in SHAPES):
                    self.add(f"unknown shape; choose one of {', '.join(SHAPES)}", value)
            elif place in signature.literals:
                if fault := literal_fault(value, signature.literals[place], whole=place in ("ddof", 2)):
                    self.add(fault, value)
            else:
                self.expect(kind, value, inside or reference)
        if node.function == "batch.top_groups":
            self.group_level(node.args[0])
        return GATE if is_gate(node) else CONDITION if node.function == "batch.top_groups" else NUMBER

    def group_level(self, node: Node) -> None:
        """Groups are ranked by what all members share: everything in `node` must come from group references."""
        if isinstance(node, Call) and node.function.startswith("group."):
            if node.function in ("group.rank", "group.zscore"):
                self.add(f"{node.function} differs within a group, and groups are ranked here", node)
            return
        if (body := self.scope.definition(node)) is not None:
            found = _Checker(self.scope, self.text)
            found.group_level(body)
            if found.found:
                self.add("groups are ranked here: only group.*(...) of a term, not the term itself", node)
        elif isinstance(node, Name) and not node.name.startswith("group."):
            self.add(f"groups are ranked here: take {node.name} over the group, as in group.mean({node.name})", node)
        elif isinstance(node, Call) and is_reference(node):
            self.add(NESTED, node)
        else:
            for child in children(node):
                self.group_level(child)

    def reduction(self, node: Call, inside: bool) -> str:
        if not node.args:
            return self.add(f"needs arguments; write {FUNCTIONS[node.function].usage}", node)
        if len(node.args) == 1:
            self.expect(STEPS, node.args[0], inside)
        else:
            for argument in node.args:
                self.expect(NUMBER, argument, inside)
        return NUMBER

    def gra(self, node: Call, inside: bool) -> str:
        if len(node.args) < 2:
            return self.add(f"needs at least two levels; write {FUNCTIONS['gra'].usage}", node)
        steps_above = False
        for index, level in enumerate(node.args):
            value = level
            if index < len(node.args) - 1:
                if not isinstance(level, Compare) or len(level.operators) > 1 or level.operators[0] not in (">=", ">"):
                    return self.add("every level but the lowest names its gate: level >= threshold, or >", level)
                value = level.operands[0]
                self.expect(NUMBER, level.operands[1], inside)
            kind = self.kind(value, inside=inside)
            if steps_above and kind and kind != STEPS:
                fault = "a number below a level of steps; write the level above as sum(...) or mean(...)"
                return self.add(fault, value)
            steps_above = steps_above or kind == STEPS
        return NUMBER

    def product(self, node: Product, inside: bool) -> str:
        kinds = []
        for operator, factor in node.factors:
            if operator == "/" and self.scope.gate_of(factor):
                return self.add(GATE_PLACE, factor)
            kinds.append(self.kind(factor, self.scope.gate_of(factor) is not None, inside))
        of_steps = [factor for kind, (_, factor) in zip(kinds, node.factors, strict=True) if kind == STEPS]
        if not of_steps:
            return NUMBER if all(kinds) else ""
        divisors = [factor for operator, factor in node.factors if operator == "/"]
        if len(of_steps) > 1 or any(factor is of_steps[0] for factor in divisors) or GATE in kinds:
            return self.add(step_fault(self.scope, of_steps[0]), steps_name(self.scope, of_steps[0]))
        return STEPS

    def compare(self, node: Compare, inside: bool) -> str:
        kinds = [self.kind(operand, inside=inside) for operand in node.operands]
        if STEPS not in kinds:
            return CONDITION if all(kinds) else ""
        if len(kinds) > 2 or kinds.count(STEPS) > 1:
            steps = node.operands[kinds.index(STEPS)]
            return self.add(step_fault(self.scope, steps), steps_name(self.scope, steps))
        return STEPS
