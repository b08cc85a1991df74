"""What the schema, the rules and the tasks need is light: they import without any of the model stack (R17)."""

import subprocess
import sys

HEAVY = ["torch", "ray", "vllm", "deepspeed", "transformers", "datasets", "pyarrow", "numpy"]


def test_the_core_imports_without_the_model_stack():
    code = (
        "import sys; import rlvr.recipe.load, rlvr.recipe.rules, rlvr.recipe.reference, rlvr.records, rlvr.slots, "
        "rlvr.tasks.sources, rlvr.tasks.prompts, rlvr.tasks.alphabet, rlvr.models.build, rlvr.models.tokenizer, "
        f"rlvr.cli.check; print([m for m in {HEAVY} if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert result.stdout.strip() == "[]"


def test_checking_a_recipe_needs_none_of_it():
    # The modules are made unimportable: what is only asked for lazily must not be asked for here either.
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({HEAVY[:5]}));\n"
        "from pathlib import Path; from rlvr.cli.check import check\n"
        "check(Path('recipes/quickstart/addition.yaml'), ['preset=dapo'])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    assert "The recipe is consistent." in result.stdout
