"""Names of reward functions, with a check of a term against its function's signature that runs none of its code."""

from __future__ import annotations

import ast
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rlvr import slots
from rlvr.recipe.schema import RewardTerm
from rlvr.recipe.trained_models import MODEL_FUNCTIONS, STEP_FUNCTIONS

FUNCTIONS: dict[str, str] = {
    "arithmetic_steps": "rewards.arithmetic_steps:arithmetic_steps",
    "bleu": "rewards.bleu:bleu",
    "box_format": "rewards.box_format:box_format",
    "btl_ui": "rewards.btl_ui:btl_ui",
    "calibration": "rewards.calibration:calibration",
    "chart_code": "rewards.chart_code:chart_code",
    "chrf": "rewards.chrf:chrf",
    "classification": "rewards.classification:classification",
    "code_match": "rewards.code_match:code_match",
    "code_tests": "rewards.code_tests:code_tests",
    "cosine": "rewards.cosine:cosine",
    "countdown": "rewards.countdown:countdown",
    "dates": "rewards.dates:dates",
    "detection": "rewards.detection:detection",
    "doc_thinker": "rewards.doc_thinker:doc_thinker",
    "edit_similarity": "rewards.edit_similarity:edit_similarity",
    "exact_match": "rewards.exact_match:exact_match",
    "final": "rewards.environment:final",
    "format": "rewards.format:format",
    "graph": "rewards.graph:graph",
    "group_length": "rewards.group_length:group_length",
    "group_rank": "rewards.group_rank:group_rank",
    "gui_g1": "rewards.gui_g1:gui_g1",
    "gui_r1": "rewards.gui_r1:gui_r1",
    "hybrid": "rewards.hybrid:hybrid",
    "ifeval": "rewards.ifeval:ifeval",
    "iou": "rewards.iou:iou",
    "jigsaw": "rewards.jigsaw:jigsaw",
    "json_schema": "rewards.json_schema:json_schema",
    "judge": "rewards.judge:judge",
    "judge_listwise": "rewards.judge_listwise:judge_listwise",
    "judge_pairs": "rewards.judge_pairs:judge_pairs",
    "judge_steps": "rewards.judge_steps:judge_steps",
    "language": "rewards.language:language",
    "light_if": "rewards.light_if:light_if",
    "majority_vote": "rewards.majority_vote:majority_vote",
    "math": "rewards.math:math",
    "mm_eureka": "rewards.mm_eureka:mm_eureka",
    "mt_r1_zero": "rewards.mt_r1_zero:mt_r1_zero",
    "multiple_choice": "rewards.multiple_choice:multiple_choice",
    "numeric": "rewards.numeric:numeric",
    "overlong": "rewards.overlong:overlong",
    "patch_similarity": "rewards.patch_similarity:patch_similarity",
    "point_in_box": "rewards.point_in_box:point_in_box",
    "proof": "rewards.proof:proof",
    "ranking": "rewards.ranking:ranking",
    "ref_critic": "rewards.ref_critic:ref_critic",
    "refactoring": "rewards.refactoring:refactoring",
    "regex": "rewards.regex_match:regex",
    "repetition": "rewards.repetition:repetition",
    "reward_anything": "rewards.reward_anything:reward_anything",
    "rouge": "rewards.rouge:rouge",
    "router_r1": "rewards.router_r1:router_r1",
    "sat": "rewards.sat:sat",
    "self_confidence": "rewards.self_confidence:self_confidence",
    "simple_rl": "rewards.simple_rl:simple_rl",
    "sql": "rewards.sql:sql",
    "ssrl": "rewards.ssrl:ssrl",
    "sudoku": "rewards.sudoku:sudoku",
    "target_length": "rewards.target_length:target_length",
    "text_match": "rewards.text_match:text_match",
    "think_rm": "rewards.think_rm:think_rm",
    "time_r1": "rewards.time_r1:time_r1",
    "tool_cost": "rewards.tool_cost:tool_cost",
    "tree_similarity": "rewards.tree_similarity:tree_similarity",
    "triton_kernel": "rewards.triton_kernel:triton_kernel",
    "tulu_gsm8k": "rewards.tulu_gsm8k:tulu_gsm8k",
    "tulu_math": "rewards.tulu_math:tulu_math",
    "turn_rewards": "rewards.environment:turn_rewards",
    "ui_r1": "rewards.ui_r1:ui_r1",
    "ui_r1_efficient": "rewards.ui_r1_efficient:ui_r1_efficient",
    "visionary_r1": "rewards.visionary_r1:visionary_r1",
    "visual_quality": "rewards.visual_quality:visual_quality",
}
"""Name in a recipe -> module:function."""

FACTS = (
    "completion",
    "answer",
    "prompt",
    "num_tokens",
    "max_completion_tokens",
    "truncated",
    "finish_reason",
    "turns",
    "sum_logprob",
    "mean_logprob",
)
"""What a reward function can ask for by name beside the columns of its row (`rlvr.scoring.inputs`)."""

STEPS = "steps"  # what a term with `split` gets beside these
OF_BATCH = ("group_ids", "prompt_ids")  # and what a term of scope `batch` gets
OF_COMPLETION = {
    "completion",
    "completions",
    "num_tokens",
    "truncated",
    "finish_reason",
    "turns",
    "sum_logprob",
    "mean_logprob",
    STEPS,
}
ROOT = Path(__file__).resolve().parents[2]  # holds the packages `rlvr` and `rewards`


@dataclass(frozen=True, slots=True)
class Signature:
    """What a function definition accepts by name. `returns_steps`: its return annotation mentions `Steps`."""

    names: tuple[str, ...]
    required: tuple[str, ...]
    takes_any: bool
    positional_only: tuple[str, ...]
    returns_steps: bool = False


def target_of(fn: str) -> str:
    """The module:function of a built-in name, or path/to/file.py:function as it stands. RecipeError if unknown."""
    return slots.resolve(fn, FUNCTIONS, "fn") if not slots.is_path(fn) else fn


def kind_of(term: RewardTerm) -> Literal["scalar", "steps"]:
    """Whether a term scores the completion or its steps: `Steps` in the return annotation, or a parameter `steps`.

    Read from the source, as in `signature_problems`; what cannot be found there scores completions.
    """
    if term.fn in STEP_FUNCTIONS:
        return "steps"
    signature = _declared(term.fn)
    return "steps" if signature and (signature.returns_steps or STEPS in signature.names) else "scalar"


def accepted_names(fn: str) -> Collection[str] | None:
    """What a function takes by name, read from its source; None where it cannot be found there, or takes anything."""
    signature = _declared(fn)
    return None if signature is None or signature.takes_any else signature.names


def _declared(fn: str) -> Signature | None:
    """The signature in a function's source; None where there is none to read."""
    if not slots.is_path(fn) and fn not in FUNCTIONS:
        return None
    file, name = _location(fn)
    try:
        node = _functions(_parse(file)).get(name)
    except (OSError, SyntaxError, ValueError):
        return None
    return None if node is None else _signature(node)


def signature_problems(term: RewardTerm, columns: Collection[str] | None = None) -> list[str]:
    """What is wrong with a term, one sentence each; [] if nothing is.

    The function's file is parsed, never imported: it may need packages or hardware that only reward processes have.
    A name that is assigned or imported instead of defined by `def` is taken as it is; the reward process checks it
    when it starts. `columns`, if known, are the other columns of the task's rows.
    """
    if term.fn in MODEL_FUNCTIONS:
        return [
            f"{parameter}={value!r}: {term.fn} takes no parameters; its model has them, in reward.models"
            for parameter, value in term.params.items()
        ]
    if not slots.is_path(term.fn) and term.fn not in FUNCTIONS:
        hint = slots.near_miss(term.fn, (*FUNCTIONS, *MODEL_FUNCTIONS))
        known = ", ".join(sorted((*FUNCTIONS, *MODEL_FUNCTIONS)))
        return [f"fn={term.fn!r}: unknown; {hint}choose one of {known}, or path/to/file.py:function"]
    file, name = _location(term.fn)
    if not file.is_file():
        return [f"fn={term.fn!r}: no file {file}; give path/to/file.py:function"]
    try:
        module = _parse(file)
    except (SyntaxError, ValueError) as error:
        return [f"fn={term.fn!r}: {file} is not valid Python: {error}"]
    functions = _functions(module)
    if name not in functions:
        return [] if name in _other_names(module) else [_no_such_function(term.fn, file, name, functions)]
    return _mismatches(term, _signature(functions[name]), columns)


def _parse(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"), filename=str(file))


def _functions(module: ast.Module) -> dict[str, ast.FunctionDef | ast.AsyncFunctionDef]:
    return {node.name: node for node in module.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def _location(fn: str) -> tuple[Path, str]:
    if slots.is_path(fn):
        return slots.split_path(fn)
    module, _, name = FUNCTIONS[fn].partition(":")
    return ROOT.joinpath(*module.split(".")).with_suffix(".py"), name


def _other_names(module: ast.Module) -> set[str]:
    """Names that the module binds other than by a top-level def; '*' imports may bind any, so they are not followed."""
    bound = set()
    for node in ast.walk(module):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            bound.add(node.id)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            bound |= {(alias.asname or alias.name).split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            bound.add(node.name)
    return bound


def _no_such_function(fn: str, file: Path, name: str, functions: Collection[str]) -> str:
    hint = slots.near_miss(name, functions)
    return f"fn={fn!r}: {file.name} defines no function {name!r}; {hint}it defines {sorted(functions)}"


def _signature(node: ast.FunctionDef | ast.AsyncFunctionDef) -> Signature:
    arguments = node.args
    positional = [argument.arg for argument in arguments.posonlyargs + arguments.args]
    required = positional[: len(positional) - len(arguments.defaults)]
    keyword_only = [argument.arg for argument in arguments.kwonlyargs]
    required += [name for name, default in zip(keyword_only, arguments.kw_defaults, strict=True) if default is None]
    return Signature(
        names=tuple(positional + keyword_only),
        required=tuple(required),
        takes_any=arguments.kwarg is not None,
        positional_only=tuple(argument.arg for argument in arguments.posonlyargs),
        returns_steps=node.returns is not None and _mentions_steps(node.returns),
    )


def _mentions_steps(annotation: ast.expr) -> bool:
    """`Steps`, `records.Steps`, `Steps | None`, `list[Steps]`, "Steps"."""
    for node in ast.walk(annotation):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            if re.search(r"\bSteps\b", node.value):
                return True
        elif "Steps" in (getattr(node, "id", None), getattr(node, "attr", None)):
            return True
    return False


def _mismatches(term: RewardTerm, signature: Signature, columns: Collection[str] | None) -> list[str]:
    problems = []
    listed = f"{term.fn.rpartition(':')[2]}({', '.join(signature.names)}{', **' if signature.takes_any else ''})"
    if signature.positional_only:
        problems.append(f"fn={term.fn!r}: {listed} takes arguments by position only; remove the '/'")
    if not signature.takes_any:
        for parameter, value in term.params.items():
            if parameter not in signature.names:
                hint = slots.near_miss(parameter, signature.names)
                problems.append(f"{parameter}={value!r}: unknown parameter; {hint}the function is {listed}")
        if not OF_COMPLETION & set(signature.names):
            problems.append(
                f"fn={term.fn!r}: {listed} asks for nothing about the completion; name a parameter `completion` "
                "(or `completions` for the batched form): arguments are passed by name"
            )
    problems += _mismatched_steps(term, signature, listed) + _mismatched_scope(term, signature, listed)
    if columns is not None:
        available = {*FACTS, STEPS, "endpoint", *OF_BATCH, "completions", "answers", *columns, *term.params}
        missing = [name for name in signature.required if name not in available]
        problems += [
            f"fn={term.fn!r}: {listed} needs {name!r}, which is neither a column of the rows ({sorted(columns)}), "
            f"a parameter of the term, nor one of {', '.join(FACTS)}"
            for name in missing
        ]
    return problems


def _mismatched_steps(term: RewardTerm, signature: Signature, listed: str) -> list[str]:
    """`split` and a parameter `steps` go together."""
    if term.split is not None and STEPS not in signature.names:
        return [
            f"split={term.split!r}: {listed} has no parameter `steps` to pass the steps by; add it, or remove split "
            "(a function can also find steps itself and return Steps with their spans)"
        ]
    if term.split is None and STEPS in signature.required:
        return [
            f"fn={term.fn!r}: {listed} asks for `steps`, which only a term with `split` gets; set split: line, "
            "paragraph, sentence, turn or tag:NAME (for something else, give the parameter another name)"
        ]
    return []


def _mismatched_scope(term: RewardTerm, signature: Signature, listed: str) -> list[str]:
    """A batch is seen by the batched form only, and only there are groups told apart."""
    batched = signature.names[:1] == ("completions",)
    if term.scope == "batch" and not batched:
        return [
            f"scope='batch': {listed} scores one completion at a time; call its first parameter `completions` to get "
            "all of the step at once, or remove scope"
        ]
    asked = [name for name in OF_BATCH if name in signature.required]
    if term.scope != "batch" and asked:
        return [f"fn={term.fn!r}: {listed} asks for `{asked[0]}`, which only a term with `scope: batch` gets; set it"]
    return []
