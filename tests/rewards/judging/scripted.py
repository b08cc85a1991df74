"""A real OpenAI-compatible server on loopback whose answers a test writes."""

from __future__ import annotations

import json
import re
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Reply:
    """What is sent back: a chat answer, or any status, body and headers."""

    text: str = ""
    status: int = 200
    headers: dict = field(default_factory=dict)
    body: bytes | None = None
    delay_s: float = 0.0
    top_logprobs: dict | None = None

    def payload(self) -> bytes:
        if self.body is not None:
            return self.body
        if self.status != 200:
            return json.dumps({"error": {"message": "scripted", "type": "scripted"}}).encode()
        logprobs = None
        if self.top_logprobs is not None:
            entries = [{"token": t, "logprob": p, "bytes": None} for t, p in self.top_logprobs.items()]
            logprobs = {"content": [{**entries[0], "top_logprobs": entries}], "refusal": None}
        choice = {
            "index": 0,
            "finish_reason": "stop",
            "message": {"role": "assistant", "content": self.text},
            "logprobs": logprobs,
        }
        answer = {"id": "x", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice]}
        return json.dumps(answer).encode()


class PatientServer(ThreadingHTTPServer):
    """Takes as many connections at once as a test opens."""

    request_queue_size = 256
    daemon_threads = True


class ScriptedServer:
    """`script` makes a Reply (or the text of one) of each request's body; requests are kept with their times."""

    def __init__(self, script):
        self.script = script
        self.requests: list[dict] = []
        self.times: list[float] = []
        self.headers: list[dict] = []
        self.under_way = self.most_under_way = self.hung_up = 0
        self._lock = threading.Lock()
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with server._lock:
                    server.requests.append(body)
                    server.times.append(time.monotonic())
                    server.headers.append({k.lower(): v for k, v in self.headers.items()})
                    server.under_way += 1
                    server.most_under_way = max(server.most_under_way, server.under_way)
                reply = server.script(body)
                reply = Reply(reply) if isinstance(reply, str) else reply
                time.sleep(reply.delay_s)
                payload = reply.payload()
                with server._lock:
                    server.under_way -= 1
                try:
                    self.send_response(reply.status)
                    for name, value in {"Content-Type": "application/json", **reply.headers}.items():
                        self.send_header(name, value)
                    self.send_header("Content-Length", str(len(payload)))
                    self.end_headers()
                    self.wfile.write(payload)
                except OSError:
                    server.hung_up += 1

            def log_message(self, *arguments):
                pass

        self._http = PatientServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_port}/v1"

    def endpoint(self, **facts) -> dict:
        """What a reward process passes to a function."""
        return {"url": self.url, "model": "m", "name": "judge", "timeout_s": 5.0, "max_retries": 0} | facts

    def close(self):
        self._http.shutdown()
        self._http.server_close()
        self._thread.join(5.0)


def user_text(body: dict) -> str:
    """The question of a request."""
    return body["messages"][-1]["content"]


def quoted(body: dict, label: str) -> str:
    """What a question quotes under a label."""
    found = re.search(rf"<{label} ([0-9a-f]{{16}})>\n(.*?)\n?</{label} \1>", user_text(body), re.DOTALL)
    assert found, user_text(body)
    return found[2]


@contextmanager
def serving():
    """A function that starts a server for a script (a reply, or a function of the request); all end with the block."""
    servers = []

    def start(script):
        servers.append(ScriptedServer(script if callable(script) else lambda body: script))
        return servers[-1]

    yield start
    for server in servers:
        server.close()
