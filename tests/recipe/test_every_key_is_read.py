"""No key of the schema is decoration: each is read by some line of rlvr outside the schema (R14)."""

import ast
import re
from pathlib import Path

from rlvr.recipe.reference import covered

PACKAGE = Path(__file__).parents[2] / "rlvr"
TEMPLATES = PACKAGE.parent / "launch"
# Places that describe or copy keys without acting on them.
NO_READERS = {"schema.py", "reference.py", "presets.py", "arithmetic.py", "rules.py"}

# Keys that nothing reads yet. This set only ever shrinks; a key that is read must leave it.
NOT_READ_YET: set[str] = set()


def attributes_read() -> set[str]:
    """Names that some module of rlvr reads as an attribute (config.key), or by getattr/model_dump key."""
    names = set()
    for path in PACKAGE.rglob("*.py"):
        if path.parent.name == "recipe" and path.name in NO_READERS:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
                names.add(node.attr)
    # What `rlvr launch` fills in: <<launch.slurm.partition>>.
    for path in (path for path in TEMPLATES.rglob("*") if path.is_file()):
        names |= set(re.findall(r"\blaunch\.(?:\w+\.)?(\w+)", path.read_text(encoding="utf-8")))
    # RewardConfig.correct is read through the schema's own property.
    return names | ({"correct"} if "correct_term" in names else set())


def test_every_key_is_read():
    # `source` and `kind` choose the class that is read; `preset` is consumed while loading.
    keys = {name for section in covered() for name in section.model_fields} - {"source", "kind", "preset"}
    unread = keys - attributes_read()
    assert unread - NOT_READ_YET == set(), "nothing reads these keys: wire them up or remove them from the schema"
    assert NOT_READ_YET - unread == set(), "these are read by now: take them out of NOT_READ_YET"
