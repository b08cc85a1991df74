"""The quickstart with everything that each target asks for."""

import io
from contextlib import redirect_stdout
from pathlib import Path

from rlvr.launch.launch import launch

ROOT = Path(__file__).resolve().parents[2]
QUICKSTART = ROOT / "recipes" / "quickstart" / "addition.yaml"
GPUS = ["resources.device=cuda", "resources.engines.count=8", "resources.learners.count=8"]
EVERYTHING = [
    *GPUS,
    "launch.time_limit_h=30.5",
    "launch.secrets=[HF_TOKEN, WANDB_API_KEY]",
    "launch.storage=/storage",
    "launch.slurm={partition: gpu, account: team, qos: high, constraint: h100, exclusive: true, "
    "setup: launch/slurm/site.example.sh}",
    "launch.kubernetes={image: 'registry.example.com/rlvr:0.1', image_pull_secret: pull, secret: keys, claim: shared, "
    "queue: research, service_account: rlvr, node_selector: {gpu: h100}}",
    "launch.skypilot={infra: aws, spot: true, image: 'docker:example/rlvr', bucket: 's3://my-runs'}",
]
LEAST = {
    "slurm": [],
    "k8s": ["launch.kubernetes={image: rlvr, claim: shared}", "launch.storage=/storage"],
    "sky": ["launch.skypilot.bucket=s3://my-runs", "launch.storage=/storage"],
    "ray": ["launch.storage=/storage"],
    "local": [],
}
TARGETS = tuple(LEAST)


def rendered(target: str, *overrides: str, recipe: Path = QUICKSTART) -> str:
    """What `rlvr launch --dry-run` prints."""
    shown = io.StringIO()
    with redirect_stdout(shown):
        assert launch(recipe, overrides, target, dry_run=True, say=print) == 0
    return shown.getvalue()
