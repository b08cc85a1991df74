"""The synchronous loop of reinforcement learning with verifiable rewards."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from rlvr.controller.account import account, check_alarms
from rlvr.controller.advantages import set_greedy_aside
from rlvr.controller.auxiliary import coefficients_of, demonstrations_of
from rlvr.controller.batch import assemble, drop_groups, group_order, keep_top_std, members_per_prompt
from rlvr.controller.context import StageContext
from rlvr.controller.credit import credit_metrics
from rlvr.controller.estimates import Estimate
from rlvr.controller.exploring import guide_unsolved, representation_bonus
from rlvr.controller.kl import charged, charged_by_token, token_prices
from rlvr.controller.relabel import relabel
from rlvr.controller.selecting import keep_selected
from rlvr.controller.windows import completions, num_prompts, this_window, unfinished
from rlvr.metrics import Metrics, merge, of_values
from rlvr.observe.rollout_log import write_rollouts
from rlvr.recipe.schema import RlStage
from rlvr.records import Group, Rollout, derive_seed
from rlvr.scoring.total import apply_failure_policy


def train_rl(context: StageContext[RlStage], first_step: int) -> None:
    """Runs the stage's steps from `first_step` on (0 unless resumed)."""
    stage = context.stage
    for stage_step in range(first_step, stage.steps):
        groups, counted = generate_batch(context, stage_step)
        context.begin_update()
        with context.clock.phase("learn"):
            # Where they share the GPU, engines give it to the learner; `push` wakes them with new weights.
            context.session.rollouts.on_all("sleep")
            side_models = context.session.side_models(stage)
            learnt = merge([update(context, groups, stage_step), side_models.update(groups)])
            learnt = merge([learnt, follow_kl(context, groups, stage_step, learnt)])
            context.adaptive.observe(learnt)
        # Before the alarms, which may end the run: then the samples are what one wants to read.
        write_rollouts(context.run.path, context.step + 1, groups, stage.name)
        with context.clock.phase("transfer"):
            check_alarms(learnt, stage.monitor)
            context.session.push()
        context.curriculum.observe(groups)
        context.finish_step(stage_step, merge([counted, learnt, account(groups, stage)]))
        if context.stop_requested:
            return


def generate_batch(context: StageContext[RlStage], stage_step: int) -> tuple[list[Group], Metrics]:
    """Scored and filtered groups of one step; with zero_variance=refill, rounds of them until the batch is full."""
    stage = context.stage
    refill = stage.objective.filter.zero_variance == "refill"
    rounds = stage.objective.filter.max_generation_rounds if refill else 1
    wanted = num_prompts(context)
    groups: list[Group] = []
    parts: list[Metrics] = []
    num_rounds = 0
    if context.session.side_models(stage).learns_while_scoring:
        context.begin_update()
    with context.clock.phase("rollout"):
        for generation_round in range(rounds):
            missing = wanted - sum(1 for group in groups if group.kept)
            if generation_round and missing == 0:
                break
            num_rounds += 1
            prompts = context.curriculum.draw(missing)
            key = (context.seed, stage.name, stage_step, generation_round)
            generated = completions(context, prompts, key, stage_step, members_per_prompt(stage.rollout))
            fresh = sorted(context.judge(generated), key=group_order)
            parts.append(guide_unsolved(context, fresh, key, stage_step))
            parts.append(context.total.assign(fresh, stage_step))
            parts.append(apply_failure_policy(fresh, stage.reward))
            set_greedy_aside(fresh)
            keep_selected(fresh, stage.rollout.oversample, stage.rollout.group_size)
            drop_groups(fresh, stage.objective.filter, stage.reward.correct_term)
            groups += fresh
    keep_top_std(groups, stage.objective.filter)
    if context.windows:
        groups += unfinished(context)
        parts.append(context.windows.metrics())
    parts.append({"generation_rounds": (float(num_rounds), 1.0)})
    return groups, merge(parts)


def follow_kl(context: StageContext[RlStage], groups: list[Group], stage_step: int, learnt: Metrics) -> Metrics:
    """What the KL of a finished update leads to: another coefficient, a reference that moves."""
    assert context.kl is not None, "an rl stage is opened with one"
    num_rollouts = sum(len(group.kept) for group in groups)
    return context.kl.after_step(stage_step, learnt, num_rollouts, context.session.learner)


def update(context: StageContext[RlStage], groups: list[Group], stage_step: int) -> Metrics:
    """Advantages, then the learner's optimizer steps. A batch in which nothing trains changes no weight."""
    stage, learner = context.stage, context.session.learner
    assert context.kl is not None, "an rl stage is opened with one"
    objective = context.adaptive.now(context.kl.now(stage.objective), stage_step)
    temperature = context.session.sampling(stage, stage_step).temperature
    paid: Metrics = {}
    penalise = objective.kl.placement == "reward" and objective.kl.coefficient > 0

    def token_penalties(rollouts: list[Rollout]) -> list[np.ndarray]:
        if not penalise:
            return [np.zeros(rollout.num_sampled_tokens) for rollout in rollouts]
        prices, metrics = token_prices(learner, rollouts, objective.kl, temperature)
        paid.update(metrics)
        return prices

    def kl_penalties(rollouts: list[Rollout]) -> Sequence[float | np.ndarray]:
        return charged(token_penalties(rollouts), objective.kl)

    critic = context.session.critic(stage)

    def estimate(rollouts: list[Rollout]) -> list[Estimate]:
        assert critic is not None
        return critic.estimate(rollouts, charged_by_token(token_penalties(rollouts), objective.kl))

    def bonus(rollouts: list[Rollout], group_of: Tensor) -> Tensor:
        assert objective.exploration is not None
        key = derive_seed(context.seed, stage.name, stage_step, "projection")
        term = stage.reward.correct_term
        given = representation_bonus(learner, rollouts, group_of, objective.exploration, term, key)
        paid["exploration_bonus"] = of_values(given.tolist())
        return given

    joined, replayed = context.replay.join(groups, stage_step) if context.replay else (groups, {})
    sequences = assemble(
        joined,
        objective,
        kl_penalties if penalise and not critic else None,
        context.session.tokenizer,
        estimate if critic else None,
        bonus if objective.exploration is not None else None,
        stage.reward.correct_term,
        stage_step,
    )
    if context.replay:
        recalled, counted = context.replay.recall(sequences, stage_step)
        context.replay.store(groups, sequences, stage_step)
        sequences, replayed = [*sequences, *recalled], replayed | counted
    if objective.relabel is not None:
        template, tokenizer = stage.task.template, context.session.tokenizer
        contrast = objective.policy_loss.name == "hir"
        sequences, changed = relabel(sequences, groups, objective.relabel, template, tokenizer, contrast)
        replayed = replayed | changed
    demonstrations = demonstrations_of(
        objective,
        context.demonstrations,
        first=1 + max((sequence.rollout for sequence in sequences), default=-1),
        seed=derive_seed(context.seed, stage.name, stage_step, "demonstrations"),
    )
    trained = [*this_window(sequences), *demonstrations]
    if not any(sequence.loss_mask.any() for sequence in trained):
        return {"empty_batches": (1.0, 1.0), "trained_tokens": (0.0, 1.0)}
    seed = derive_seed(context.seed, stage.name, stage_step, "shuffle")
    parts = [credit_metrics(sequences), paid, coefficients_of(objective), replayed]
    if critic:
        parts.append(critic.update(sequences, seed))
    if not critic or stage_step >= critic.config.warmup_steps:
        limit = stage.rollout.max_completion_tokens
        sparsity = stage.monitor.update_sparsity
        parts.append(learner.train_rl(trained, objective, temperature, limit, seed, stage_step, sparsity))
    return merge(parts)
