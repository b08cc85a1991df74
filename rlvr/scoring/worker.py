"""The actor side of scoring: a reward pool that answers by group."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from rlvr.recipe.schema import RewardConfig
from rlvr.records import Group, Outcome
from rlvr.scoring.inputs import inputs_of
from rlvr.scoring.pool import RewardPool


class RewardWorker:
    """Owns a RewardPool. `rlvr.scoring.service` makes it a Ray actor with several threads, which share the pool."""

    def __init__(self, config: RewardConfig, processes: int, endpoints: dict[str, dict[str, Any]]) -> None:
        self._pool = RewardPool(config, processes, endpoints)

    def pulse(self) -> float:
        """That this process answers; its calls have limits of their own."""
        return 0.0

    def ready(self) -> bool:
        """Answers once the pool has started."""
        return True

    def score(self, group: Group) -> list[dict[str, Outcome]]:
        """One outcome per term for each rollout of the group, in order."""
        return self.score_inputs([inputs_of(rollout) for rollout in group.rollouts])

    def score_inputs(
        self, inputs: list[dict[str, Any]], terms: Sequence[str] | None = None
    ) -> list[dict[str, Outcome]]:
        """The same, from what `rlvr.scoring.inputs.inputs_of` returns: without token ids, so cheap to send.

        Only of `terms`, if given.
        """
        return self._pool.score_inputs(inputs, terms)

    def check_golds(self, inputs: list[dict[str, Any]]) -> list[dict[str, str]]:
        """For each row the terms that cannot use its gold answer, with why (`RewardPool.check_golds`)."""
        return self._pool.check_golds(inputs)

    def pids(self) -> list[int]:
        """The actor's process id, then those of its reward processes and of what they are forked from."""
        return [os.getpid(), *self._pool.pids(), *self._pool.template_pids()]

    def close(self) -> None:
        """Kills the children."""
        self._pool.close()
