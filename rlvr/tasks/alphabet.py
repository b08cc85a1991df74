"""The characters that a recipe's tasks are written in, for a character tokenizer."""

from __future__ import annotations

from rlvr.recipe.schema import AdditionSource, CountdownSource, ProgramRepairSource, Recipe, RlStage, Source, TaskConfig
from rlvr.tasks import addition, countdown, program_repair
from rlvr.tasks.sources import load_rows

PRINTABLE = "".join(map(chr, range(32, 127))) + "\n\t"
"""Printable ASCII, line feed and tab: what a rehearsal of any recipe is written in."""


def characters_of(recipe: Recipe) -> str:
    """Every character of prompts, answers, demonstrations, templates, hints and instructions, sorted, each once."""
    found: set[str] = set()
    for stage in recipe.stages:
        found |= _characters_of_task(stage.task)
        relabel = stage.objective.relabel if isinstance(stage, RlStage) else None
        if relabel is not None:
            found |= {character for label in relabel.labels for character in label.text}
        hints = stage.rollout.hints
        if hints is not None:
            found |= set(hints.text.replace("{prompt}", "").replace("{hint}", ""))
            for row in load_rows(stage.task.train):
                found |= set(str(row.get(hints.column) or ""))
    return "".join(sorted(found))


def _characters_of_task(task: TaskConfig) -> set[str]:
    found = set(task.template.text.replace("{prompt}", "")) | set(task.template.system or "")
    for source in (task.train, task.test):
        if source is not None:
            found |= _characters_of_source(source)
    return found


def _characters_of_source(source: Source) -> set[str]:
    # Known without drawing a problem, and the same whatever is drawn: the vocabulary must not depend on a seed.
    if isinstance(source, AdditionSource):
        return set(addition.CHARACTERS)
    if isinstance(source, CountdownSource):
        return set(countdown.CHARACTERS)
    if isinstance(source, ProgramRepairSource):
        return set(program_repair.CHARACTERS)
    found: set[str] = set()
    for row in load_rows(source):
        question = row["prompt"]
        texts = [question] if isinstance(question, str) else [message["content"] for message in question]
        solution = row.get("solution")
        for text in (*texts, row["answer"], *(solution if isinstance(solution, list) else [solution])):
            found |= set(text or "")
    return found
