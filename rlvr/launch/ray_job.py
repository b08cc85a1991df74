"""`--to ray`: a job of a running Ray cluster, in a copy of the working directory, its log streamed here."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from rlvr.cluster.environment import forget_addresses
from rlvr.errors import RlvrError
from rlvr.launch.job import Job
from rlvr.launch.render import ROOT

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

# Beside what git ignores: caches and results are large, and no job reads them.
EXCLUDED = (".git/", ".venv/", "/runs/", "__pycache__/", ".mypy_cache/", ".pytest_cache/", ".ruff_cache/")
ANSWER_TIMEOUT_S = 10.0


def job_address(job: Job) -> str:
    """Where the job server is: the recipe's word, the environment's, this machine."""
    return job.recipe.launch.ray.address or os.environ.get("RAY_API_SERVER_ADDRESS") or "http://127.0.0.1:8265"


def entrypoint(job: Job) -> str:
    """The command that the cluster runs; RecipeError where its results would be lost with the working directory."""
    runs_dir = job.runs_dir("ray", shared=True)
    changes = [f"runs_dir={runs_dir}", "resources.ray_address=auto"]
    train = job.train(job.inside_repository("ray"), *changes, supervisor=job.limit())
    # The job is that process and no shell around it: a shell would end at once when the job is stopped.
    return shlex.join(["exec", "python", "-m", *train])


def runtime_env(job: Job, secrets: dict[str, str]) -> dict[str, Any]:
    """What the job runs in: this working directory, the time to save, the recipe's variables."""
    return {
        "working_dir": str(ROOT),
        "excludes": [*EXCLUDED, *job.recipe.launch.ray.exclude],
        "env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": str(job.recipe.launch.grace_s)} | secrets,
    }


def render_ray(job: Job) -> str:
    """What is submitted, as YAML: names of variables only."""
    import yaml

    shown = runtime_env(job, dict.fromkeys(job.recipe.launch.secrets, "(from your environment)"))
    request = {"address": job_address(job), "entrypoint": entrypoint(job), "runtime_env": shown}
    return yaml.safe_dump(request, sort_keys=False, width=120)


def submit_ray(job: Job, say: Callable[[str], None]) -> int:
    """Submits, streams the log, and gives the run's exit code.

    Ctrl-C stops the job, which saves first; a second one leaves it to do so alone. RlvrError where no job server
    answers, or it cannot take the working directory.
    """
    address = job_address(job)
    secrets = job.secrets()
    command = entrypoint(job)
    client = connect(address)
    try:
        number = client.submit_job(entrypoint=command, runtime_env=runtime_env(job, secrets))
    except (ValueError, RuntimeError) as error:
        raise RlvrError(
            f"--to ray: {address} did not take the job: {str(error).strip()}. If the working directory {ROOT} is too "
            "large, leave out what the job does not read with launch.ray.exclude=[...]"
        ) from error
    say(f"Ray job {number} at {address}; Ctrl-C stops it, and it saves first")
    return follow(client, number, job.recipe.launch.grace_s, say)


def connect(address: str) -> JobSubmissionClient:
    """A client of the job server; RlvrError at once where none answers."""
    remedy = (
        "start the head with `ray start --head --dashboard-host=0.0.0.0` in an environment that has ray[default] "
        "(launch/setup.sh cpu cluster), forward its port 8265 to here, or name it with launch.ray.address=http://..."
    )
    try:
        with urllib.request.urlopen(f"{address}/api/version", timeout=ANSWER_TIMEOUT_S) as answer:
            answer.read()
    except urllib.error.HTTPError as error:
        if error.code not in (401, 403):
            raise RlvrError(f"--to ray: {address} answers {error.code} {error.reason}; {remedy}") from error
        # It wants the cluster's token, which Ray's own client sends.
        if os.environ.get("RAY_AUTH_MODE") != "token":
            raise RlvrError(
                f"--to ray: {address} asks for the cluster's token: set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN to "
                "what `ray get-auth-token` prints on the head"
            ) from error
    except (OSError, ValueError, urllib.error.URLError) as error:
        raise RlvrError(f"--to ray: no Ray job server answers at {address} ({error}); {remedy}") from error
    from ray.job_submission import JobSubmissionClient

    # The constructor prefers these variables to its argument, and we have chosen already.
    forget_addresses()
    try:
        return JobSubmissionClient(address)
    except (RuntimeError, ConnectionError) as error:
        raise RlvrError(f"--to ray: {address}: {error}") from error


def follow(client: JobSubmissionClient, number: str, grace_s: float, say: Callable[[str], None]) -> int:
    """Prints the job's log until it ends; its exit code, or 130 where Ctrl-C stopped it."""
    stopped = False
    stream = threading.Thread(target=_print_log, args=(client, number), daemon=True)
    stream.start()
    while True:
        try:
            status = client.get_job_status(number)
            if status.is_terminal():
                break
            time.sleep(1.0)
        except KeyboardInterrupt:
            if stopped:
                say(f"left; job {number} goes on saving, at most {grace_s:.0f} s")
                return 130
            stopped = True
            say(f"stopping job {number}; it saves, for at most {grace_s:.0f} s (Ctrl-C again leaves it to that)")
            client.stop_job(number)
    stream.join(timeout=10.0)
    details = client.get_job_info(number)
    if status == "STOPPED":
        say(f"job {number} was stopped; launch it again to take it up")
        return 130
    code = details.driver_exit_code
    if code is None:
        raise RlvrError(f"job {number} {status.lower()} before it ran: {details.message}")
    return code


def _print_log(client: JobSubmissionClient, number: str) -> None:
    async def tail() -> None:
        async for lines in client.tail_job_logs(number):
            sys.stdout.write(lines)
            sys.stdout.flush()

    # The stream ends with the job; if it breaks before, the status is still asked for.
    with contextlib.suppress(RuntimeError, OSError):
        asyncio.run(tail())
