"""Models beside the policy that score completions: judges behind an endpoint, reward models, process reward models."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, JsonValue

from rlvr.recipe.section import Dtype, Section
from rlvr.recipe.trained_models import ClassifierModel, ImplicitPrmModel, ProgressModel, TokenOutcomeModel

MAX_BACKOFF_S = 8.0  # longest pause between two attempts at a request


class TextModel(Section):
    """A model that answers in text, and how it is asked."""

    timeout_s: float = Field(60.0, gt=0, description="Wall-clock limit of one attempt at a request, in seconds.")
    max_retries: int = Field(
        3, ge=0, le=20, description="Attempts after the first on a timeout, a lost connection, status 429 or 5xx."
    )
    max_concurrent: int = Field(
        64, ge=1, description="Requests under way at a time, over all reward processes; each gets an equal share."
    )
    requests_per_minute: float | None = Field(
        None, gt=0, description="Rate limit over all reward processes, each with an equal share; null: none."
    )
    cache: str | None = Field(
        None, description="Directory that keeps answers, so that no question is paid for twice; null keeps none."
    )
    temperature: float = Field(0.0, ge=0, le=2, description="Sampling temperature of the judge; 0 is greedy.")
    max_tokens: int = Field(1024, ge=1, description="Longest answer of the judge, in tokens.")
    seed: int | None = Field(0, description="Seed of the judge's sampling; vote number i adds i. null sends none.")
    extra_body: dict[str, JsonValue] = Field(
        default_factory=dict, description="Further keys of the request's body, e.g. chat_template_kwargs of vLLM."
    )

    @property
    def patience_s(self) -> float:
        """The longest that one request may take with all its attempts and the pauses between them."""
        pauses = sum(min(MAX_BACKOFF_S, 0.5 * 2**attempt) for attempt in range(self.max_retries))
        return self.timeout_s * (1 + self.max_retries) + pauses


class EndpointModel(TextModel):
    """A model behind an OpenAI-compatible endpoint."""

    kind: Literal["endpoint"]
    url: str = Field(pattern=r"^https?://", description="Base URL, e.g. http://127.0.0.1:8000/v1.")
    model: str = Field(description="Model name that the endpoint serves.")
    api_key_env: str | None = Field(
        None, description="Environment variable of the reward workers that holds the key; null sends none."
    )


class VllmModel(TextModel):
    """A model that the run itself serves with vLLM's OpenAI-compatible server, and ends with."""

    kind: Literal["vllm"]
    path: str = Field(description="Local directory or hub id.")
    dtype: Dtype = Field("bfloat16", description="Weights and activations.")
    context_length: int | None = Field(None, ge=1, description="Longest prompt and answer, in tokens; null: all of it.")
    gpus: float = Field(
        1.0, gt=0, description="GPUs of the server; a fraction shares one, more than one is tensor parallelism."
    )
    gpu_memory_utilization: float = Field(0.9, gt=0, le=1, description="Share of each GPU's memory that it may take.")
    kv_cache_gb: float = Field(1.0, gt=0, description="Cache of keys and values on a CPU, GiB.")
    threads: int = Field(1, ge=1, description="OpenMP threads on a CPU.")
    chat_template: str | None = Field(None, description="Jinja file, for a model whose tokenizer ships no template.")
    trust_remote_code: bool = Field(False, description="Run the code that the model ships.")


SideModel = Annotated[
    EndpointModel | VllmModel | ClassifierModel | ImplicitPrmModel | ProgressModel | TokenOutcomeModel,
    Field(discriminator="kind"),
]
