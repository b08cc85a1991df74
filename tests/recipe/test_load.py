"""Loading: every fault is named with its file, line, key and remedy (R14); what is resolved re-runs."""

from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from rlvr.errors import RecipeError
from rlvr.recipe.load import dump_recipe, load_recipe

BASE = """\
name: base
model: {init: {}}
task:
  train: {source: addition, size: 64}
  test: {source: addition, size: 16, split: test}
reward: {terms: {correct: {fn: exact_match}}}
rollout:
  prompts_per_step: 4
  group_size: 4
stages:
  - {kind: sft, steps: 3}
  - {kind: rl, steps: 5, preset: grpo}
"""


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Writes a recipe file and returns its path; runs in its directory, so that messages show short names."""
    monkeypatch.chdir(tmp_path)

    def write_file(text, name="a.yaml"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    return write_file


def faults(path, *overrides):
    with pytest.raises(RecipeError) as caught:
        load_recipe(path, overrides)
    assert caught.value.exit_code == 2
    return str(caught.value).splitlines()


def test_sections_reach_the_stages_that_read_them(write):
    recipe = load_recipe(write(BASE))
    sft, rl = recipe.stages
    assert (sft.name, sft.kind, rl.name, rl.kind) == ("sft", "sft", "rl", "rl")
    assert sft.rollout.group_size == rl.rollout.group_size == 4
    assert not hasattr(sft, "objective")
    # DeepSeekMath's beta, from the preset.
    assert rl.objective.kl.coefficient == 0.04
    assert sft.preset is None


def test_a_stage_writes_over_the_top_level_key_by_key(write):
    text = BASE.replace("preset: grpo", "preset: grpo, rollout: {group_size: 8}")
    sft, rl = load_recipe(write(text)).stages
    assert (sft.rollout.group_size, rl.rollout.group_size) == (4, 8)
    assert rl.rollout.prompts_per_step == 4


def test_the_unknown_key_is_named_with_its_line_and_a_guess(write):
    text = BASE.replace("  group_size: 4", "  groupsize: 4")
    assert faults(write(text)) == ["a.yaml:9: rollout.groupsize: unknown key; did you mean 'group_size'?"]


def test_all_faults_of_one_load_are_listed_together(write):
    text = (
        BASE.replace("group_size: 4", "group_size: many").replace("steps: 3", "stepz: 3").replace("reward:", "rewards:")
    )
    lines = faults(write(text), "learner.optimzer.lr=1", "rollout.temperature=hot", "nonsense")
    assert lines == [
        "a.yaml:6: rewards: unknown key; did you mean 'reward'?",
        "command line: 'nonsense' is no override; write key=value, such as rollout.group_size=8",
        "a.yaml:11: stages.sft.reward: missing; write it at the top level or in the stage",
        "a.yaml:9: rollout.group_size='many': expected a valid integer",
        "command line: rollout.temperature='hot': expected a valid number",
        "a.yaml:11: stages.sft.steps: missing; add steps",
        "command line: learner.optimzer: unknown key; did you mean 'optimizer'?",
        "a.yaml:11: stages.sft.stepz: unknown key; did you mean 'steps'?",
        "a.yaml:12: stages.rl.reward: missing; write it at the top level or in the stage",
    ]


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("steps: 5", 'steps: "5"', "a.yaml:12: stages.rl.steps='5': expected a valid integer"),
        ("steps: 5", "steps: true", "a.yaml:12: stages.rl.steps=true: expected a valid integer"),
        ("steps: 5", "steps: 0", "a.yaml:12: stages.rl.steps=0: expected greater than or equal to 1"),
        ("name: base", "name: 5", "a.yaml:1: name=5: expected a valid string"),
        ("name: base", "name: no/slash", "a.yaml:1: name='no/slash': string should match pattern"),
        ("kind: rl", "kind: rll", "a.yaml:12: stages.rll.kind='rll': unknown kind; did you mean 'rl'? (sft, rl, eval)"),
        ("size: 64", "digit: 2", "a.yaml:4: task.train.digit: unknown key; did you mean 'digits'?"),
        ("source: addition, size: 64", "source: adition", "a.yaml:4: task.train.source='adition': unknown source;"),
        (
            "prompts_per_step: 4",
            "group_size: 3",
            "a.yaml:9: rollout.group_size: written twice, first at a.yaml:8; keep one",
        ),
        (
            "steps: 3",
            "steps: 3, objective: {}",
            "a.yaml:11: stages.sft.objective: sft stages do not read it; remove it",
        ),
        ("preset: grpo", "name: sft", "a.yaml:12: stages: two stages are called 'sft'"),
        (
            "preset: grpo",
            "preset: gprpo",
            "a.yaml:12: stages.rl.preset='gprpo': no method has choices by this name; did you mean 'grpo'?",
        ),
        ("rollout:", "rollout: 5\nx:", "a.yaml:7: rollout=5: expected a mapping of its keys"),
        ("name: base", "name: ]", "a.yaml:1: not valid YAML"),
        ("group_size: 4", "temperature: .inf", "a.yaml:9: rollout.temperature=inf: expected a finite number"),
        ("group_size: 4", "temperature: .nan", "a.yaml:9: rollout.temperature=nan: expected a finite number"),
    ],
)
def test_each_fault_has_its_line(write, old, new, line):
    assert any(found.startswith(line) for found in faults(write(BASE.replace(old, new, 1))))


def test_a_section_that_no_stage_reads_is_an_error(write):
    text = BASE.replace("  - {kind: rl, steps: 5, preset: grpo}\n", "") + "objective: {advantage: rloo}\n"
    assert faults(write(text)) == ["a.yaml:12: objective: no stage reads it (stages: sft); remove it or add the stage"]
    assert "preset: no stage reads it" in faults(write(text), "preset=grpo")[-1]


def test_yaml_scalars_follow_version_1_2(write):
    text = BASE.replace("group_size: 4", "group_size: 4\n  temperature: 1e-1").replace("name: base", "name: on")
    recipe = load_recipe(write(text + "description: 12:30\n"))
    assert recipe.stages[1].rollout.temperature == 0.1
    assert (recipe.name, recipe.description) == ("on", "12:30")


def test_extends_merges_in_order_and_changes_stages_by_name(write):
    write(BASE, "base.yaml")
    write("rollout: {group_size: 6, temperature: 0.5}\n", "mixin.yaml")
    child = write(
        "extends: [base.yaml, mixin.yaml]\nname: child\nrollout: {group_size: 2}\nstages: {rl: {steps: 7}}\n", "c.yaml"
    )
    recipe = load_recipe(child)
    assert [stage.steps for stage in recipe.stages] == [3, 7]
    rollout = recipe.stages[1].rollout
    assert (recipe.name, rollout.group_size, rollout.temperature, rollout.prompts_per_step) == ("child", 2, 0.5, 4)


def test_a_fault_in_a_base_is_reported_there(write):
    write(BASE.replace("group_size: 4", "group_size: 4.5"), "base.yaml")
    child = write("extends: base.yaml\nname: child\n")
    assert faults(child) == ["base.yaml:9: rollout.group_size=4.5: expected a valid integer"]


def test_extends_in_a_circle_and_into_nothing(write):
    write("extends: a.yaml\n" + BASE, "b.yaml")
    lines = faults(write("extends: [b.yaml, none.yaml]\nname: a\nstages: {rx: {steps: 1}}\n"))
    assert lines[0] == "b.yaml:1: extends=a.yaml: the files extend each other (a.yaml -> b.yaml -> a.yaml)"
    assert lines[1] == "a.yaml:1: extends=none.yaml: no such file; it is relative to this recipe"
    assert lines[2] == "a.yaml:3: stages.rx: no such stage; the recipe has sft, rl"


def test_another_source_does_not_inherit_the_keys_of_the_old_one(write, tmp_path):
    write(BASE, "base.yaml")
    write('{"prompt": "1+1=", "answer": "2", "s": "x"}\n', "rows.jsonl")
    child = write(
        "extends: base.yaml\nname: child\n"
        "task: {train: {source: jsonl, path: rows.jsonl, columns: {solution: s}}}\nrollout: {prompts_per_step: 1}\n"
    )
    train = load_recipe(child).stages[0].task.train
    assert (train.source, train.path) == ("jsonl", str(tmp_path / "rows.jsonl"))


def test_model_path_replaces_init(write):
    recipe = load_recipe(write(BASE), ["model.path=some/model"])
    assert (recipe.model.path, recipe.model.init) == ("some/model", None)


def test_the_command_line_wins_everywhere(write):
    text = BASE.replace("preset: grpo", "preset: grpo, learner: {optimizer: {lr: 0.5}}, rollout: {group_size: 8}")
    sft, rl = load_recipe(
        write(text), ["learner.optimizer.lr=0", "stages.rl.rollout.group_size=2", "preset=dapo"]
    ).stages
    assert sft.learner.optimizer.lr == rl.learner.optimizer.lr == 0
    assert (sft.rollout.group_size, rl.rollout.group_size) == (4, 2)
    assert rl.preset == "dapo"
    assert rl.objective.policy_loss.clip_high == 0.28
    assert load_recipe(write(text), ["stages.1.steps=9"]).stages[1].steps == 9


def test_an_override_that_belongs_elsewhere_is_redirected(write):
    lines = faults(write(BASE), "steps=3", "group_size=2", "stages.r.steps=1")
    assert lines == [
        "command line: steps: unknown key; it belongs to a stage: stages.<name>.steps=...",
        "command line: group_size: unknown key; did you mean 'rollout.group_size'?",
        "command line: stages.r: no such stage; the recipe has sft, rl",
    ]


def test_the_first_written_term_stays_first_under_a_preset(write):
    # Accuracy reads the first term: a preset's penalty must not become it.
    recipe = load_recipe(write(BASE), ["preset=dapo"])
    assert list(recipe.stages[1].reward.terms) == ["correct", "overlong"]
    assert list(recipe.stages[0].reward.terms) == ["correct"]


def test_a_preset_for_one_stage_on_the_command_line_brings_its_choices(write):
    stage = load_recipe(write(BASE), ["stages.rl.preset=dapo", "preset=gspo"]).stages[1]
    assert stage.preset == "dapo"
    assert stage.objective == load_recipe(write(BASE), ["preset=dapo"]).stages[1].objective
    assert load_recipe(write(BASE), ["stages.rl.preset=null"]).stages[1].preset is None


def test_written_keys_beat_the_preset(write):
    text = BASE.replace("preset: grpo", "preset: dapo, objective: {policy_loss: {clip_high: 0.5, dual_clip: null}}")
    loss = load_recipe(write(text)).stages[1].objective.policy_loss
    assert (loss.clip_low, loss.clip_high, loss.dual_clip) == (0.2, 0.5, None)


def test_paths_are_relative_to_the_file_that_wrote_them(write, tmp_path):
    write("def mine(completion): return 1.0\n", "lib/r.py")
    write("def rows(): return [{'prompt': 'a', 'answer': 'b', 'solution': 'c'}]\n", "lib/rows.py")
    write(BASE.replace("fn: exact_match", "fn: r.py:mine"), "lib/base.yaml")
    child = write("extends: lib/base.yaml\nname: child\nmodel: {path: ./model}\n")
    write("{}", "model/config.json")
    recipe = load_recipe(
        child, ["task.train={source: custom, function: lib/rows.py:rows, columns: {solution: solution}}"]
    )
    stage = recipe.stages[1]
    assert stage.reward.terms["correct"].fn == f"{tmp_path}/lib/r.py:mine"
    assert stage.task.train.function == f"{tmp_path}/lib/rows.py:rows"
    assert recipe.model.path == f"{tmp_path}/model"


def test_aliases_work_and_do_not_recurse(write):
    text = BASE.replace("train: {source: addition, size: 64}", "train: &t {source: addition, size: 64}")
    text = text.replace(
        "test: {source: addition, size: 16, split: test}", "test: {source: addition, size: 9, split: test}"
    )
    assert load_recipe(write(text)).stages[0].task.test.size == 9
    assert "alias refers to its own parent" in faults(write(BASE + "monitor: &m {tensorboard: *m}\n"))[0]


def test_the_resolved_recipe_reads_back_equal(write):
    recipe = load_recipe(write(BASE), ["preset=dapo", "learner.optimizer.lr=1e-6", "description='1e5'"])
    text = dump_recipe(recipe)
    assert load_recipe(write(text, "elsewhere/resolved.yaml")) == recipe
    # Every stage stands on its own: the resolved file has no top-level sections and leaves nothing to defaults.
    plain = yaml.safe_load(text)
    assert set(plain) == {"name", "description", "seed", "runs_dir", "model", "resources", "launch", "stages"}
    assert plain["stages"][1]["learner"]["optimizer"]["eps"] == 1e-8


@settings(max_examples=40, deadline=None)
@given(
    lr=st.floats(0, 1e3),
    group_size=st.integers(2, 64),
    description=st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"])),
    betas=st.tuples(st.floats(0, 0.999), st.floats(0, 0.999)),
)
def test_any_values_survive_the_round_trip(tmp_path_factory, lr, group_size, description, betas):
    directory = tmp_path_factory.mktemp("round")
    (directory / "a.yaml").write_text(BASE)
    recipe = load_recipe(directory / "a.yaml")
    rl = recipe.stages[1]
    optimizer = rl.learner.optimizer.model_copy(update={"lr": lr, "betas": betas})
    rl = rl.model_copy(
        update={
            "learner": rl.learner.model_copy(update={"optimizer": optimizer}),
            "rollout": rl.rollout.model_copy(update={"group_size": group_size}),
        }
    )
    recipe = recipe.model_copy(update={"description": description, "stages": [recipe.stages[0], rl]})
    (directory / "b.yaml").write_text(dump_recipe(recipe), encoding="utf-8")
    assert load_recipe(directory / "b.yaml") == recipe


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=60))
def test_junk_is_refused_and_never_crashes(tmp_path_factory, text):
    path = Path(tmp_path_factory.mktemp("junk")) / "a.yaml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(RecipeError):
        load_recipe(path, [text])
