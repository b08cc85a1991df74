"""Both engines sample from the distribution they are told to, and report its logprobs."""

from collections.abc import Iterable, Sequence

import pytest
import ray
import torch
from transformers import AutoModelForCausalLM

from rlvr.errors import WorkerDied
from rlvr.records import Group, Prompt, SamplingParams
from rlvr.rollout.pool import RolloutPool
from rlvr.transfer.buckets import checksums, pack, plan_buckets
from tests.rollout.conftest import EOS, START_TIMEOUT_S, engine_spec

GREEDY = SamplingParams(temperature=0.0, max_completion_tokens=24, stop_token_ids=(EOS,))
WARM = SamplingParams(temperature=0.6, max_completion_tokens=24, stop_token_ids=(EOS,))
PROMPTS = [Prompt(f"p{i}", tuple(range(5, 9 + i)), "") for i in range(6)]


def model_logprobs(model: torch.nn.Module, group: Group, temperature: float) -> list[torch.Tensor]:
    """Per rollout the [T] logprobs of its completion under the model, by one plain forward pass each."""
    results = []
    for rollout in group.rollouts:
        segment = rollout.segments[0]
        ids = torch.tensor([[*segment.prompt_ids, *segment.completion_ids]])
        with torch.no_grad():
            logprobs = (model(ids, use_cache=False).logits[0] / temperature).log_softmax(-1)
        start = len(segment.prompt_ids) - 1
        results.append(logprobs[start:-1].gather(-1, ids[0, start + 1 :, None])[:, 0])
    return results


def largest_difference(model: torch.nn.Module, groups: Sequence[Group], temperature: float) -> float:
    return max(
        (torch.tensor(rollout.segments[0].behavior_logprobs) - expected).abs().max().item()
        for group in groups
        for rollout, expected in zip(group.rollouts, model_logprobs(model, group, temperature), strict=True)
    )


def load(model_dir: str) -> torch.nn.Module:
    return AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float32).eval()


def test_ratio_is_one_although_the_model_ships_a_repetition_penalty(pool: RolloutPool, small_model: str) -> None:
    """R5: at temperature 0.6 the engine's logprobs are those of softmax(logits / 0.6), whatever the model ships."""
    groups = list(pool.generate(PROMPTS, 4, WARM, ("ratio",)))
    assert largest_difference(load(small_model), groups, temperature=0.6) < 1e-3


def test_engines_agree_on_greedy_tokens_and_logprobs(vllm_pool: RolloutPool, transformers_pool: RolloutPool) -> None:
    ours, theirs = (
        {group.prompt.id: group.rollouts[0].segments[0] for group in pool.generate(PROMPTS, 1, GREEDY, ("g",))}
        for pool in (vllm_pool, transformers_pool)
    )
    for prompt in PROMPTS:
        assert list(ours[prompt.id].completion_ids) == list(theirs[prompt.id].completion_ids)
        assert ours[prompt.id].behavior_logprobs == pytest.approx(theirs[prompt.id].behavior_logprobs, abs=1e-3)


def test_restricted_sampling_stays_in_the_kept_set_and_renormalises(
    vllm_pool: RolloutPool, transformers_pool: RolloutPool, small_model: str
) -> None:
    """With top_k=3 each token is among the model's three most likely, and its logprob is renormalised over them."""
    model = load(small_model)
    for pool in (vllm_pool, transformers_pool):
        sampling = SamplingParams(temperature=1.0, top_k=3, max_completion_tokens=6, stop_token_ids=())
        for group in pool.generate(PROMPTS[:2], 3, sampling, ("top-k",)):
            for rollout in group.rollouts:
                segment = rollout.segments[0]
                ids = torch.tensor([[*segment.prompt_ids, *segment.completion_ids]])
                with torch.no_grad():
                    top = model(ids, use_cache=False).logits[0, len(segment.prompt_ids) - 1 : -1].topk(3)
                for t, token in enumerate(segment.completion_ids):
                    kept = top.indices[t].tolist()
                    assert token in kept
                    expected = top.values[t].log_softmax(-1)[kept.index(token)].item()
                    assert segment.behavior_logprobs[t] == pytest.approx(expected, abs=1e-4)


def test_a_seed_fixes_a_rollout_whatever_it_is_batched_with(pool: RolloutPool) -> None:
    def tokens(prompts: list[Prompt]) -> dict[tuple[str, int], tuple[int, ...]]:
        return {
            (group.prompt.id, rollout.member): tuple(rollout.segments[0].completion_ids)
            for group in pool.generate(prompts, 4, WARM, ("seed", 7))
            for rollout in group.rollouts
        }

    together, alone = tokens(PROMPTS), tokens(PROMPTS[2:3])
    assert {key: together[key] for key in alone} == alone
    assert len(set(together.values())) > len(together) // 2, "members must not repeat each other (R25)"


def test_the_greedy_member_is_greedy_and_changes_no_other(transformers_pool: RolloutPool) -> None:
    """Three sampled and a greedy one: the three are those of a group of three, the fourth that of a greedy request."""
    key = ("greedy-last",)
    groups = {g.prompt.id: g.rollouts for g in transformers_pool.generate(PROMPTS, 4, WARM, key, greedy_last=True)}
    plain = {g.prompt.id: g.rollouts for g in transformers_pool.generate(PROMPTS, 3, WARM, key)}
    alone = {g.prompt.id: g.rollouts[0] for g in transformers_pool.generate(PROMPTS, 1, GREEDY, ("alone",))}
    for prompt in PROMPTS:
        *sampled, greedy = groups[prompt.id]
        assert [r.segments[0].completion_ids for r in sampled] == [
            r.segments[0].completion_ids for r in plain[prompt.id]
        ]
        assert [r.sampling.temperature for r in groups[prompt.id]] == [0.6, 0.6, 0.6, 0.0]
        assert list(greedy.segments[0].completion_ids) == list(alone[prompt.id].segments[0].completion_ids)
        assert (greedy.member, greedy.sampling.max_completion_tokens) == (3, 24)


def test_a_prompt_drawn_twice_gets_other_completions(pool: RolloutPool) -> None:
    first, second = pool.generate([PROMPTS[0], PROMPTS[0]], 4, WARM, ("twice",))
    assert {r.seed for r in first.rollouts}.isdisjoint(r.seed for r in second.rollouts)
    members = sorted(rollout.member for group in (first, second) for rollout in group.rollouts)
    assert members == list(range(8))


def test_finish_reasons_and_masks_come_from_positions(pool: RolloutPool) -> None:
    """R10: the sampled eos is a trained token; a completion without one is `length`, even where eos would equal pad."""
    every_token_stops = SamplingParams(temperature=1.0, max_completion_tokens=5, stop_token_ids=tuple(range(50)))
    stopped = next(iter(pool.generate(PROMPTS[:1], 2, every_token_stops, ("stop",)))).rollouts
    for rollout in stopped:
        assert rollout.segments[0].finish_reason == "stop"
        assert not rollout.truncated
        assert len(rollout.segments[0].completion_ids) == 1
        assert list(rollout.segments[0].loss_mask) == [True]
    never_stops = SamplingParams(temperature=1.0, max_completion_tokens=5, stop_token_ids=())
    cut = next(iter(pool.generate(PROMPTS[:1], 2, never_stops, ("cut",)))).rollouts
    for rollout in cut:
        assert rollout.truncated
        assert list(rollout.segments[0].loss_mask) == [True] * 5


def test_more_groups_than_fit_are_all_returned_once(pool: RolloutPool) -> None:
    prompts = [Prompt(f"many{i}", (5, 6, 7 + i % 10), "") for i in range(40)]
    groups = list(pool.generate(prompts, 4, WARM, ("many",)))
    assert sorted(group.prompt.id for group in groups) == sorted(prompt.id for prompt in prompts)
    assert all(len(group.rollouts) == 4 for group in groups)


def test_updated_weights_are_what_the_engine_computes_with(pool: RolloutPool, small_model: str) -> None:
    """R7: after an update, a warm prefix gives the new weights' logprobs; a wrong tensor is named."""
    model = load(small_model)
    original = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    warm_prefix = [Prompt("warm", tuple(5 + i % 40 for i in range(160)), "")]
    list(pool.generate(warm_prefix, 2, WARM, ("before",)))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    sent = push(pool, dict(model.named_parameters()), version=3)
    groups = list(pool.generate(warm_prefix, 2, WARM, ("after",)))
    assert largest_difference(model, groups, temperature=0.6) < 1e-3
    assert set(groups[0].rollouts[0].segments[0].policy_versions) == {3}

    name = "model.layers.1.self_attn.k_proj.weight"
    tampered = sent | {name: (sent[name] + 1) % 2**64}
    for wrong in pool.on_all("finish_update", 4, tampered):
        assert len(wrong) == 1
        assert wrong[0].startswith("model.layers.1.self_attn.")
    push(pool, original, version=5)
    groups = list(pool.generate(warm_prefix, 2, WARM, ("again",)))
    assert largest_difference(load(small_model), groups, temperature=0.6) < 1e-3


def push(pool: RolloutPool, named: dict[str, torch.Tensor], version: int) -> dict[str, int]:
    specs = [(name, tuple(tensor.shape)) for name, tensor in named.items()]
    buckets = plan_buckets(specs, "float32", cap_bytes=1 << 20)
    assert len(buckets) > 1
    sent = {}
    for bucket in buckets:
        pool.on_all("load_bucket", bucket, ray.put(pack(bucket, named)))
        sent |= checksums((name, named[name]) for name in bucket.names)
    assert pool.on_all("finish_update", version, sent) == [[]] * len(pool.workers)
    return sent


def test_a_killed_engine_is_replaced_and_the_next_is_named(
    ray_cluster: None, small_model: str, transformers_pool: RolloutPool
) -> None:
    """R8: kill -9 in the middle of generation: the rollouts are those of an engine that lived. The second ends it."""
    import os
    import signal

    pool = RolloutPool(engine_spec("transformers", small_model), 1, timeout_s=60, restarts=1)
    restored: list[int] = []
    pool.restore = restored.append
    (pid,) = pool.start(START_TIMEOUT_S)
    endless = SamplingParams(temperature=1.0, max_completion_tokens=100, stop_token_ids=())
    undisturbed = transformers_pool.generate(PROMPTS * 8, 4, endless, ("kill",))
    groups = pool.generate(PROMPTS * 8, 4, endless, ("kill",))
    first = next(groups)
    os.kill(pid, signal.SIGKILL)
    assert completions_of([first, *groups]) == completions_of(undisturbed)
    assert restored == [0], "before it serves, it is given the weights of the others"
    assert pool.pids != [pid]
    groups = pool.generate(PROMPTS * 8, 4, endless, ("again",))
    next(groups)
    os.kill(pool.pids[0], signal.SIGKILL)
    with pytest.raises(WorkerDied, match=r"engine 0 \(transformers\) died in phase generate: killed by SIGKILL"):
        list(groups)
    pool.close()


def completions_of(groups: Iterable[Group]) -> list[tuple[str, int, list[int]]]:
    return sorted(
        (rollout.prompt.id, rollout.member, list(rollout.segments[0].completion_ids))
        for group in groups
        for rollout in group.rollouts
    )


def test_a_request_that_the_engine_refuses_fails_alone(vllm_pool: RolloutPool) -> None:
    out_of_vocabulary = SamplingParams(temperature=1.0, max_completion_tokens=2, stop_token_ids=(10**6,))
    with pytest.raises(WorkerDied, match="out-of-vocab"):
        list(vllm_pool.generate(PROMPTS[:1], 1, out_of_vocabulary, ("refused",)))
    assert len(list(vllm_pool.generate(PROMPTS[:1], 1, GREEDY, ("fine",)))) == 1


def test_an_engine_that_cannot_start_says_why(ray_cluster: None, tmp_path: object) -> None:
    pool = RolloutPool(engine_spec("transformers", str(tmp_path)), 1, timeout_s=60)
    with pytest.raises(WorkerDied, match=r"engine 0 .* failed in phase start"):
        pool.start(START_TIMEOUT_S)
    pool.close()
