"""The closed, typed schema of a resolved recipe.

Loading (`rlvr.recipe.load`) merges `extends:`, presets, top-level sections and `key=value` overrides into the stages;
what stands here is the result, in which every stage carries its full sections. Ranges live on the fields;
rules that span sections live in `rlvr.recipe.rules`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, JsonValue

from rlvr.recipe.credit import AnchorConfig as AnchorConfig
from rlvr.recipe.credit import CreditConfig as CreditConfig
from rlvr.recipe.exploration import Hints as Hints
from rlvr.recipe.exploration import Oversampling as Oversampling
from rlvr.recipe.launch import LaunchConfig as LaunchConfig
from rlvr.recipe.lora import LoraConfig as LoraConfig
from rlvr.recipe.methods.names import PresetName
from rlvr.recipe.objective import FilterConfig as FilterConfig
from rlvr.recipe.objective import KlConfig as KlConfig
from rlvr.recipe.objective import ObjectiveConfig as ObjectiveConfig
from rlvr.recipe.optimizer import OptimizerConfig as OptimizerConfig
from rlvr.recipe.policy_losses import ClipLoss as ClipLoss
from rlvr.recipe.resources import EngineResources as EngineResources
from rlvr.recipe.resources import LearnerResources as LearnerResources
from rlvr.recipe.resources import ResourcesConfig as ResourcesConfig
from rlvr.recipe.resources import RewardResources as RewardResources
from rlvr.recipe.reward import FailurePolicy as FailurePolicy
from rlvr.recipe.reward import OutcomeTable as OutcomeTable
from rlvr.recipe.reward import RewardConfig as RewardConfig
from rlvr.recipe.reward import RewardTerm as RewardTerm
from rlvr.recipe.reward import TableRow as TableRow
from rlvr.recipe.schedule import Anneal as Anneal
from rlvr.recipe.scheme import EnvironmentScheme as EnvironmentScheme
from rlvr.recipe.scheme import Scheme as Scheme
from rlvr.recipe.scheme import SingleTurn as SingleTurn
from rlvr.recipe.section import Dtype as Dtype
from rlvr.recipe.section import Section as Section

# --- the model -------------------------------------------------------------------------------------------------------


class CharacterTokenizer(Section):
    """A tokenizer with one token per character, built here: nothing is downloaded."""

    characters: str | None = Field(None, description="The alphabet; null takes it from the tasks of the recipe.")


class InitConfig(Section):
    """A model with seeded random weights, for quickstarts, rehearsals and tests."""

    architecture: Literal["qwen2", "qwen3", "llama"] = Field("qwen2", description="Hugging Face `model_type`.")
    hidden_size: int = Field(128, ge=32, description="Width of the residual stream.")
    num_layers: int = Field(4, ge=1, description="Number of transformer blocks.")
    num_heads: int = Field(4, ge=1, description="Number of attention heads; hidden_size / num_heads is the head size.")
    num_kv_heads: int = Field(2, ge=1, description="Number of key/value heads (grouped-query attention).")
    intermediate_size: int = Field(384, ge=32, description="Width of the MLP.")
    max_position_embeddings: int = Field(2048, ge=32, description="Longest sequence, in tokens.")
    tie_word_embeddings: bool = Field(True, description="Whether the output head shares the input embedding.")
    rope_theta: float = Field(10000.0, gt=0, description="Base of the rotary position embedding.")
    tokenizer: CharacterTokenizer = CharacterTokenizer()


class ModelConfig(Section):
    """The policy. Exactly one of `path` and `init`."""

    path: str | None = Field(None, description="Local directory or hub id of a Hugging Face causal language model.")
    revision: str | None = Field(None, description="Hub revision; pin it to make a run repeatable.")
    init: InitConfig | None = Field(None, description="Build a small random model instead of loading one.")
    trust_remote_code: bool = Field(False, description="Allow code shipped with a hub model to run.")
    chat_template: str | None = Field(None, description="Jinja template that replaces the tokenizer's own.")


# --- tasks -----------------------------------------------------------------------------------------------------------


class AdditionSource(Section):
    """Procedural: additions with a short worked solution and a boxed answer."""

    source: Literal["addition"]
    digits: int = Field(2, ge=1, le=6, description="Digits of each operand.")
    size: int = Field(4096, ge=1, description="Number of distinct problems.")
    split: Literal["train", "test"] = Field("train", description="Disjoint halves of the problem space.")
    seed: int = Field(0, ge=0, description="Which problems are drawn.")


class CountdownSource(Section):
    """Procedural: reach a target from given numbers with + - * /, each number used once."""

    source: Literal["countdown"]
    num_operands: int = Field(3, ge=2, le=6, description="How many numbers are given.")
    max_number: int = Field(20, ge=2, description="Largest given number.")
    max_target: int = Field(50, ge=2, description="Largest target.")
    size: int = Field(4096, ge=1, description="Number of distinct problems.")
    split: Literal["train", "test"] = Field("train", description="Disjoint halves of the problem space.")
    seed: int = Field(0, ge=0, description="Which problems are drawn.")


class Columns(Section):
    """Which columns of a row hold what; every other column is passed to the reward functions."""

    prompt: str = Field("prompt", description="The question: a string, or a list of chat messages.")
    answer: str | None = Field("answer", description="The gold answer; null if the rows have none.")
    answer_pattern: str | None = Field(None, description="Regular expression; its first group is the gold answer.")
    solution: str | None = Field(None, description="A demonstration to imitate in `sft` stages.")
    domain: str | None = Field(None, description="Column that names the domain of a row.")


class ProgramRepairSource(Section):
    """Procedural: a small Python program with a bug, its tests, and the actions that mend it."""

    source: Literal["program_repair"]
    num_operations: int = Field(2, ge=1, le=6, description="Statements of the program; its name says what they do.")
    max_number: int = Field(9, ge=2, le=99, description="Largest constant in a program.")
    bugs: tuple[Literal["operator", "constant", "variable", "syntax"], ...] = Field(
        ("operator", "constant"), min_length=1, description="Kinds of bugs: the difficulty."
    )
    num_bugs: int = Field(1, ge=1, description="Statements that are wrong, at most num_operations.")
    num_tests: int = Field(3, ge=1, le=20, description="Tests of each program.")
    size: int = Field(4096, ge=1, description="Number of distinct problems.")
    split: Literal["train", "test"] = Field("train", description="Disjoint halves of the problem space.")
    seed: int = Field(0, ge=0, description="Which problems are drawn.")


class JsonlSource(Section):
    """Rows of a local .jsonl (or .parquet) file."""

    source: Literal["jsonl"]
    path: str = Field(description="File, relative to the recipe that names it.")
    columns: Columns = Columns()
    size: int | None = Field(None, ge=1, description="Keep the first rows only.")


class HubSource(Section):
    """A dataset of the Hugging Face hub, or a local copy of one."""

    source: Literal["hub"]
    dataset: str = Field(description="Hub id, e.g. openai/gsm8k, or a local directory.")
    subset: str | None = Field(None, description="Configuration name of the dataset.")
    split: str = Field("train", description="Split, slices allowed: train[:1000].")
    revision: str | None = Field(None, description="Revision; pin it to make a run repeatable.")
    columns: Columns = Columns()
    size: int | None = Field(None, ge=1, description="Keep the first rows only.")


class CustomSource(Section):
    """A user's own rows: a function that returns an iterable of dicts with at least `prompt`."""

    source: Literal["custom"]
    function: str = Field(description="path/to/file.py:function, relative to the recipe; called with `params`.")
    params: dict[str, JsonValue] = Field(default_factory=dict, description="Keyword arguments of the function.")
    columns: Columns = Columns()


Source = Annotated[
    AdditionSource | CountdownSource | ProgramRepairSource | JsonlSource | HubSource | CustomSource,
    Field(discriminator="source"),
]


class TemplateConfig(Section):
    """How a question becomes a prompt."""

    text: str = Field("{prompt}", description="Wraps the question; {prompt} stands for it.")
    system: str | None = Field(None, description="System message; needs chat.")
    chat: bool = Field(False, description="Apply the tokenizer's chat template, with its generation prompt.")


class TaskConfig(Section):
    """Where prompts come from."""

    train: Source = Field(description="Prompts that train.")
    test: Source | None = Field(None, description="Held-out prompts for evaluation; never trained on.")
    template: TemplateConfig = TemplateConfig()


# --- rollouts --------------------------------------------------------------------------------------------------------


class RolloutConfig(Section):
    """How completions arise. The engine's context length is derived from the two token limits."""

    engine: Literal["vllm", "transformers"] = Field("vllm", description="What generates.")
    prompts_per_step: int = Field(16, ge=1, description="Prompts that make one training batch.")
    group_size: int = Field(16, ge=1, description="Completions per prompt.")
    greedy_baseline: bool = Field(
        False,
        description="One more completion per training prompt, greedy: its reward is what `remax` compares with. It "
        "never trains.",
    )
    max_prompt_tokens: int = Field(512, ge=1, description="Longer prompts are counted and left out before step 0.")
    scheme: Scheme = Field(
        SingleTurn(), description="How a completion arises: in a single turn, or with an environment."
    )
    max_completion_tokens: int = Field(
        1024,
        ge=1,
        description="Completions are cut here (finish reason `length`). With an environment, the actions and "
        "observations of a rollout together.",
    )
    window_tokens: int | None = Field(
        None,
        ge=1,
        description="Completions are cut every so many tokens, train on them, and go on in the next step (T-PPO); "
        "those that ended make room for new prompts. Divides max_completion_tokens. null: they end in their step.",
    )
    temperature: float = Field(1.0, gt=0, description="Sampling temperature; the learner uses the same.")
    temperature_schedule: Anneal | None = Field(None, description="Changes it over steps, for engine and learner.")
    oversample: Oversampling | None = Field(None, description="Generate more completions than train; null does not.")
    hints: Hints | None = Field(None, description="Hints where no completion is correct; null gives none.")
    top_p: float = Field(1.0, gt=0, le=1, description="Nucleus mass; below 1 is refused for training.")
    top_k: int = Field(-1, ge=-1, description="-1 keeps the whole vocabulary; anything else is refused for training.")
    min_p: float = Field(0.0, ge=0, le=1, description="Above 0 is refused for training.")
    dtype: Dtype = Field("float32", description="Weights and activations of the engine.")
    max_concurrent_rollouts: int = Field(256, ge=1, description="Sequences that one engine decodes at a time.")
    kv_cache_gb: float | None = Field(
        None, gt=0, description="KV cache of one CPU engine, GiB; null derives it from the token limits."
    )
    gpu_memory_utilization: float = Field(0.85, gt=0, le=1, description="Share of its GPU that an engine may take.")
    enforce_eager: bool = Field(False, description="No CUDA graphs: slower, starts sooner. CPU engines are eager.")
    prefix_caching: bool = Field(True, description="Share the KV cache of common prefixes; reset at weight updates.")


# --- learner ---------------------------------------------------------------------------------------------------------


class LearnerConfig(Section):
    """How a batch becomes optimizer steps."""

    zero_stage: Literal[0, 1, 2, 3] = Field(2, description="DeepSpeed ZeRO stage.")
    dtype: Dtype = Field("float32", description="Parameters and activations; bfloat16 keeps float32 master weights.")
    optimizer: OptimizerConfig = OptimizerConfig()
    epochs: int = Field(1, ge=1, description="Passes over each batch.")
    mini_batches: int = Field(1, ge=1, description="Optimizer steps per pass; must divide the batch.")
    max_tokens_per_micro_batch: int = Field(
        4096, ge=1, description="Token budget of one forward/backward; a longer sequence gets a micro-batch alone."
    )
    packing: bool = Field(True, description="Pack sequences without padding; false gives each its own micro-batch.")
    attention: Literal["varlen_sdpa", "sdpa", "flash_attention_2"] = Field(
        "varlen_sdpa", description="Attention over packed sequences; flash_attention_2 needs the flash-attn package."
    )
    logprob_chunk_tokens: int = Field(
        256,
        ge=1,
        description="As many logits exist at a time as this many tokens have over the whole vocabulary: memory.",
    )
    sequence_parallel: int = Field(
        1,
        ge=1,
        description="Learner ranks that share the tokens of each row (Ulysses): long contexts. Must divide "
        "resources.learners.count and the model's heads.",
    )
    gradient_checkpointing: bool = Field(False, description="Recompute activations in the backward pass.")
    offload: Literal["none", "optimizer", "parameters"] = Field("none", description="What ZeRO keeps on the CPU.")
    offload_reference: bool = Field(
        False, description="Keep the reference policy and the teacher on the CPU between their passes over a batch."
    )
    lora: LoraConfig | None = Field(None, description="Train low-rank adapters; null trains all weights.")
    worst_case_step: bool = Field(
        True, description="Take the largest batch through the learner before the first step, which it does not change."
    )


# --- evaluation, checkpoints, monitoring ------------------------------------------------------------------------------


class EvaluationConfig(Section):
    """Held-out accuracy, by one evaluator for training and `rlvr eval`."""

    every: int = Field(0, ge=0, description="Steps between evaluations; 0 evaluates at the start and end only.")
    at_start: bool = Field(True, description="Evaluate before the first step.")
    at_end: bool = Field(True, description="Evaluate after the last step.")
    num_prompts: int | None = Field(None, ge=1, description="The first prompts of the test source; null takes all.")
    greedy: bool = Field(True, description="One greedy completion per prompt: `accuracy`.")
    num_samples: int = Field(0, ge=0, description="Sampled completions per prompt, for avg@k, pass@k, maj@k.")
    k: tuple[int, ...] = Field((1,), description="The k of pass@k and maj@k; each at most num_samples.")
    temperature: float = Field(1.0, gt=0, description="Of the sampled completions.")
    top_p: float = Field(1.0, gt=0, le=1, description="Of the sampled completions.")
    max_completion_tokens: int | None = Field(None, ge=1, description="null takes the rollout's limit.")
    confidence: float = Field(0.95, gt=0, lt=1, description="Mass of the bootstrap intervals.")
    bootstrap_samples: int = Field(1000, ge=100, description="Resamples of the bootstrap, over prompts.")


class CheckpointConfig(Section):
    """When a run can be taken up again."""

    every: int = Field(0, ge=0, description="Steps between checkpoints; 0 saves at the end of each stage only.")
    keep: int = Field(2, ge=1, description="Older checkpoints are removed once a newer one is complete.")


class MonitorConfig(Section):
    """Alarms that stop a run, and what is written."""

    max_logprob_difference: float | None = Field(
        0.1, gt=0, description="Mean |engine - trainer| logprob (nats per token) above which the run stops; null: off."
    )
    max_truncated_fraction: float = Field(0.5, gt=0, le=1, description="Share of cut completions that warns.")
    update_sparsity: bool = Field(
        False,
        description="Log the share of parameters that an optimizer step leaves as they are in bfloat16 (a copy of the "
        "weights in that format while the learner works).",
    )
    tensorboard: bool = Field(True, description="Write event files under the run directory.")


# --- stages ----------------------------------------------------------------------------------------------------------


START_FROM = "Name of the earlier stage whose weights this one starts from; null: the one before it that trains."


class StageBase(Section):
    """What every stage has. Sections missing in a stage are taken from the recipe's top level when it is loaded."""

    name: str = Field(description="Unique in the recipe; defaults to the kind.")
    preset: PresetName | None = Field(
        None, description="Named method (`rlvr methods`) whose slot choices stand under those written in the recipe."
    )
    task: TaskConfig
    reward: RewardConfig
    rollout: RolloutConfig
    evaluation: EvaluationConfig
    monitor: MonitorConfig


class SftStage(StageBase):
    """Supervised fine-tuning on the task's demonstrations (a cold start)."""

    kind: Literal["sft"]
    start_from: str | None = Field(None, description=START_FROM)
    steps: int = Field(ge=1, description="Optimizer steps.")
    batch_size: int = Field(64, ge=1, description="Demonstrations per optimizer step.")
    learner: LearnerConfig
    checkpoint: CheckpointConfig


class RlStage(StageBase):
    """Reinforcement learning with verifiable rewards."""

    kind: Literal["rl"]
    start_from: str | None = Field(None, description=START_FROM)
    steps: int = Field(ge=1, description="Rollout-and-update steps.")
    objective: ObjectiveConfig
    learner: LearnerConfig
    checkpoint: CheckpointConfig


class EvalStage(StageBase):
    """Evaluation of the weights as they stand."""

    kind: Literal["eval"]


Stage = Annotated[SftStage | RlStage | EvalStage, Field(discriminator="kind")]


class Recipe(Section):
    """A resolved recipe: what is saved with a run, and re-runs it."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="Names the run directory.")
    description: str = Field("", description="One line for `rlvr check`.")
    seed: int = Field(0, ge=0, description="Every other seed derives from it.")
    runs_dir: str = Field("runs", description="Directory that holds run directories, relative to where rlvr starts.")
    model: ModelConfig
    resources: ResourcesConfig = ResourcesConfig()
    launch: LaunchConfig = LaunchConfig()
    stages: list[Stage] = Field(min_length=1, description="Run in order, each from the weights of the one before.")
