"""The `rlvr` command: one thin function per sub-command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rlvr import __version__
from rlvr.cli import methods, reward
from rlvr.cli.errors import user_errors as _user_errors

app = typer.Typer(
    name="rlvr",
    help="Post-train language models by reinforcement learning with verifiable rewards.\n\n"
    "Start with [bold]rlvr check recipes/quickstart/addition.yaml[/bold], then "
    "[bold]rlvr train recipes/quickstart/addition.yaml[/bold].",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_show_locals=False,
    add_completion=False,
)
app.add_typer(reward.app, name="reward")
app.add_typer(methods.app, name="methods")

RecipePath = Annotated[Path, typer.Argument(help="A recipe (.yaml).", show_default=False)]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(help="Overrides, key=value: learner.optimizer.lr=1e-5 stages.rl.steps=10", show_default=False),
]
Resume = Annotated[bool, typer.Option("--resume", help="Take up the run of this name from its last checkpoint.")]
Replace = Annotated[bool, typer.Option("--replace", help="Remove an earlier run of this name first.")]


@app.command()
def train(recipe: RecipePath, overrides: Overrides = None, resume: Resume = False, replace: Replace = False) -> None:
    """Run all stages of a recipe: cold start, reinforcement learning, evaluation.

    Everything is written to runs/<name>/: metrics.jsonl, every rollout, checkpoints, the exported model, summary.json.
    Ctrl-C ends the run after the current step with a checkpoint; --resume goes on from there.

    [dim]rlvr train recipes/quickstart/addition.yaml name=mine stages.rl.steps=20[/dim]
    """
    from rlvr.cli.train import train as run

    with _user_errors():
        run(recipe, overrides or [], _on_existing(resume, replace))


@app.command()
def sft(recipe: RecipePath, overrides: Overrides = None, resume: Resume = False, replace: Replace = False) -> None:
    """Run only the supervised stages of a recipe (the cold start).

    [dim]rlvr sft recipes/quickstart/addition.yaml name=cold-start[/dim]
    """
    from rlvr.cli.train import train as run

    with _user_errors():
        run(recipe, overrides or [], _on_existing(resume, replace), only="sft")


@app.command()
def rm(
    recipe: Annotated[Path, typer.Argument(help="A reward model's recipe (.yaml).", show_default=False)],
    overrides: Overrides = None,
    pairs: Annotated[
        Path | None, typer.Option(help="A .jsonl of prompt, chosen, rejected that replaces the training pairs.")
    ] = None,
    resume: Resume = False,
    replace: Replace = False,
) -> None:
    """Train a Bradley-Terry reward model on pairs; what is exported serves as `reward.models` of kind classifier.

    [dim]rlvr rm recipes/reward_models/sums.yaml[/dim]
    """
    from rlvr.cli.rm import train_reward_model

    with _user_errors():
        train_reward_model(recipe, overrides or [], pairs, _on_existing(resume, replace))


@app.command("eval")
def evaluate(
    recipe: RecipePath,
    overrides: Overrides = None,
    model: Annotated[
        str | None, typer.Option(help="Model directory or hub id; the recipe's own model if left out.")
    ] = None,
    output: Annotated[Path | None, typer.Option(help="Also write the result to this JSON file.")] = None,
) -> None:
    """Evaluate a model on a recipe's held-out prompts, with the evaluator that training uses.

    [dim]rlvr eval recipes/quickstart/addition.yaml --model runs/addition/export evaluation.num_samples=16
    'evaluation.k=[1,4,16]'[/dim]
    """
    from rlvr.cli.evaluate import evaluate as run

    with _user_errors():
        run(recipe, overrides or [], model, output)


@app.command()
def rehearse(recipe: RecipePath, overrides: Overrides = None) -> None:
    """Run two real steps of any recipe on this machine, with a tiny random model of the same architecture.

    Engines, learners, rewards and weight transfer are the real ones; sizes are cut until two CPU cores do.

    [dim]rlvr rehearse recipes/scale/dapo-math-qwen2.5-32b.yaml[/dim]
    """
    from rlvr.cli.rehearse import rehearse as run

    with _user_errors():
        run(recipe, overrides or [])


@app.command()
def check(
    recipe: RecipePath,
    overrides: Overrides = None,
    resolved: Annotated[bool, typer.Option("--resolved", help="Print the resolved recipe as YAML instead.")] = False,
) -> None:
    """Check a recipe and print what follows from its numbers. Needs no GPU, no model, no network.

    [dim]rlvr check recipes/tasks/gsm8k-qwen2.5-1.5b.yaml rollout.group_size=8[/dim]
    """
    from rlvr.cli.check import check as run

    with _user_errors():
        run(recipe, overrides or [], resolved=resolved)


@app.command()
def launch(
    recipe: RecipePath,
    overrides: Overrides = None,
    to: Annotated[str, typer.Option(help="local, ray, slurm, k8s or sky.", show_default=False)] = "local",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be submitted, and how.")] = False,
) -> None:
    """Run a recipe on a cluster: its `launch:` section and its GPUs fill in the templates under launch/.

    The run resumes where one of this name and recipe stopped. docs/launch.md has a section per target.

    [dim]rlvr launch recipes/scale/dapo-math-qwen2.5-32b.yaml --to slurm launch.slurm.partition=gpu --dry-run[/dim]
    """
    from rlvr.cli.launch import launch as run

    with _user_errors():
        run(recipe, overrides or [], to, dry_run=dry_run)


@app.command()
def export(
    run_dir: Annotated[Path, typer.Argument(help="A run directory, e.g. runs/addition.", show_default=False)],
    output: Annotated[Path, typer.Argument(help="Directory to write; must not exist.", show_default=False)],
    checkpoint: Annotated[
        str | None, typer.Option(help="Name of a checkpoint, e.g. step-000220; the newest valid one if left out.")
    ] = None,
    form: Annotated[
        str | None, typer.Option(help="merged or adapter; the recipe's learner.lora.export if left out.")
    ] = None,
) -> None:
    """Write a checkpoint as a Hugging Face model directory, load it back and compare.

    [dim]rlvr export runs/addition my-model[/dim]
    """
    from rlvr.cli.export import export as run

    with _user_errors():
        run(run_dir, output, checkpoint, form)


@app.command()
def doctor(
    address: Annotated[
        str | None, typer.Option(help="Look at every node of this Ray cluster (host:port, or auto).")
    ] = None,
    runs_dir: Annotated[str, typer.Option(help="Where runs are to be written.")] = "runs",
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> None:
    """Check this machine, or every node of a cluster, and run a small all-reduce and weight transfer.

    Versions, the stack inside a Ray worker, GPU driver, memory, limits, disks, caches, cores, clock; each finding with
    its remedy. Exit code 1 if anything stands in the way of a run; warnings do not.

    [dim]rlvr doctor --address auto[/dim]
    """
    from rlvr.cli.doctor import doctor as run

    with _user_errors():
        raise typer.Exit(run(address, runs_dir, as_json))


@app.command()
def version() -> None:
    """Print the versions of rlvr and of the packages it runs on."""
    from rlvr.cluster.versions import versions

    typer.echo(f"rlvr {__version__}")
    for name, found in versions().items():
        if name != "rlvr":
            typer.echo(f"{name} {found or 'not installed'}")


def _on_existing(resume: bool, replace: bool) -> str:
    if resume and replace:
        raise typer.BadParameter("--resume and --replace exclude each other")
    return "resume" if resume else "replace" if replace else "refuse"


if __name__ == "__main__":
    app()
