"""What `rlvr launch` renders: valid before and after, from the recipe, and without a secret's value."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from rlvr.errors import RecipeError, RlvrError
from rlvr.launch import render as rendering
from rlvr.launch.launch import launch
from rlvr.launch.render import render
from rlvr.recipe.load import load_recipe
from tests.launch.jobs import EVERYTHING, LEAST, QUICKSTART, ROOT, TARGETS, rendered

SHELL = sorted([*ROOT.glob("launch/**/*.sh"), *ROOT.glob("launch/**/*.sbatch")])
YAML = sorted(ROOT.glob("launch/**/*.yaml"))


def shellcheck(*arguments: str, text: str | None = None) -> str:
    command = [Path(sys.executable).with_name("shellcheck"), *arguments]
    return subprocess.run(command, input=text, capture_output=True, text=True, check=False).stdout


@pytest.mark.parametrize("path", SHELL, ids=lambda path: path.name)
def test_shell_files_are_clean_as_they_stand(path: Path) -> None:
    assert shellcheck(str(path)) == ""


@pytest.mark.parametrize("overrides", [[], EVERYTHING], ids=["least", "everything"])
def test_the_rendered_batch_script_is_clean(overrides: list[str]) -> None:
    text = rendered("slurm", *overrides)
    assert shellcheck("-", text=text) == ""
    assert "<<" not in text
    assert "#%" not in text.split("set -uo pipefail")[1]


def test_yaml_templates_are_yaml_as_they_stand() -> None:
    assert len(YAML) == 3
    for path in YAML:
        assert all(isinstance(document, dict) for document in yaml.safe_load_all(path.read_text())), path


def test_the_batch_script_asks_for_what_the_recipe_says() -> None:
    lines = rendered("slurm", *EVERYTHING).splitlines()
    asked = {line.removeprefix("#SBATCH ").replace('"', "") for line in lines if line.startswith("#SBATCH")}
    # 8 + 8 GPUs fill two nodes of 8, and 30.5 hours are one day and six and a half.
    assert asked >= {
        "--nodes=2",
        "--gpus-per-node=8",
        "--cpus-per-task=96",
        "--mem=960G",
        "--time=1-06:30:00",
        "--partition=gpu",
        "--account=team",
        "--qos=high",
        "--constraint=h100",
        "--exclusive",
        "--signal=B:USR1@300",
        "--requeue",
    }
    least = rendered("slurm")
    for option in ("--gpus", "--time", "--partition", "--account", "--qos", "--constraint", "--exclusive", "source "):
        assert f"#SBATCH {option}" not in least
    assert '#SBATCH --nodes="1"' in least


@pytest.mark.parametrize("target", TARGETS)
def test_no_secret_is_written_down(target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Values come from the environment; the files hold names."""
    for name in ("HF_TOKEN", "WANDB_API_KEY"):
        monkeypatch.setenv(name, "s3cret-value")
    text = rendered(target, *EVERYTHING)
    assert "s3cret" not in text
    if target != "local":
        assert "HF_TOKEN" in text


def test_a_secret_that_is_not_set_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    from rlvr.launch.job import Job

    monkeypatch.delenv("MY_KEY", raising=False)
    with pytest.raises(RecipeError, match="MY_KEY is not set here; export MY_KEY="):
        Job.read(QUICKSTART, ["launch.secrets=[MY_KEY]"]).secrets()


def test_a_batch_script_cannot_be_talked_into_commands(tmp_path: Path) -> None:
    """An override stays one word of the run's command line, whatever is in it."""
    text = rendered("slurm", 'description=$(touch pwned) `id` "quoted" \\end')
    words = [line for line in text.splitlines() if line.strip().startswith("command+=") and "description" in line]
    printed = subprocess.run(
        ["bash", "-c", f'command=()\n{words[0]}\nprintf %s "${{command[0]}}"'],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    ).stdout
    assert printed == 'description=$(touch pwned) `id` "quoted" \\end'
    assert not list(tmp_path.iterdir())


def test_every_launched_run_resumes_and_has_its_changes_last() -> None:
    text = rendered("slurm", "runs_dir=mine")
    words = [line.split('"')[1] for line in text.splitlines() if line.strip().startswith("command+=")]
    assert words[:3] == ["rlvr.launch.supervise", "train", str(QUICKSTART)]
    assert words[3] == "--resume"
    assert words[-1] == f"runs_dir={Path.cwd() / 'mine'}"


def test_the_recipe_in_a_manifest_is_the_recipe() -> None:
    """Resolved, and with the paths of the image."""
    config, job, *_ = yaml.safe_load_all(rendered("k8s", *EVERYTHING))
    written = config["data"]["recipe.yaml"]
    assert str(ROOT) not in written
    path = ROOT / "runs" / "rendered-recipe.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(written)
    try:
        assert load_recipe(path) == load_recipe(QUICKSTART, EVERYTHING)
    finally:
        path.unlink()
    assert (
        "/etc/rlvr/recipe.yaml --resume runs_dir=/storage/runs resources.ray_address=auto" in job["spec"]["entrypoint"]
    )


@pytest.mark.parametrize(
    ("target", "overrides", "fault"),
    [
        ("ray", [], "runs_dir='runs'.*gone when the job ends; .*launch.storage"),
        ("k8s", [], "launch.kubernetes.image: --to k8s needs an image"),
        ("k8s", ["launch.kubernetes={image: rlvr, claim: x}"], "launch.storage: --to k8s needs"),
        (
            "k8s",
            [*LEAST["k8s"], "launch.secrets=[A]"],
            "launch.kubernetes.secret: --to k8s needs the Secret that holds A",
        ),
        ("k8s", [*LEAST["k8s"], "name=1st"], "name='1st'.*must begin with a letter"),
        ("sky", [], "launch.skypilot.bucket: --to sky needs a bucket"),
        ("slurm", ["launch.slurm.setup=nowhere.sh"], "launch.slurm.setup='nowhere.sh': no such file"),
        ("slurm", ["launch.slurm.partition=a b"], "launch.slurm.partition='a b'"),
        ("slrum", [], "--to slrum: unknown; did you mean 'slurm'"),
    ],
)
def test_what_a_target_cannot_do_is_told_at_once(target: str, overrides: list[str], fault: str) -> None:
    """R22: nothing is submitted, and nothing waits."""
    with pytest.raises(RecipeError, match=fault):
        rendered(target, *overrides)


def test_a_recipe_outside_of_the_repository_is_not_sent(tmp_path: Path) -> None:
    recipe = tmp_path / "mine.yaml"
    recipe.write_text(f"extends: {QUICKSTART}\n")
    with pytest.raises(RecipeError, match="it is outside of"):
        rendered("ray", *LEAST["ray"], recipe=recipe)
    assert str(recipe) in rendered("slurm", recipe=recipe)


@pytest.mark.parametrize(("target", "program"), [("slurm", "sbatch"), ("k8s", "kubectl"), ("sky", "sky")])
def test_a_missing_program_is_named(target: str, program: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("rlvr.launch.launch.ROOT", tmp_path)
    with pytest.raises(RlvrError, match=f"--to {target}: `{program}` is not on PATH"):
        launch(QUICKSTART, LEAST[target], target, dry_run=False, say=print)


def test_no_job_server_is_told_at_once() -> None:
    with pytest.raises(RlvrError, match=r"no Ray job server answers at http://127.0.0.1:9.*ray start --head"):
        launch(QUICKSTART, [*LEAST["ray"], "launch.ray.address=http://127.0.0.1:9"], "ray", dry_run=False, say=print)


def test_a_missing_template_names_the_remedy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(rendering, "TEMPLATES", tmp_path)
    with pytest.raises(RlvrError, match="install rlvr from a clone"):
        render("slurm/rlvr.sbatch", {})
    (tmp_path / "broken.yaml").write_text("a: <<nothing>>\n")
    with pytest.raises(RlvrError, match=r"broken.yaml.*'nothing' is undefined"):
        render("broken.yaml", {})
