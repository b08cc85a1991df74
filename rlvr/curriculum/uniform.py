"""Every prompt once per epoch, in a seeded order."""

from __future__ import annotations

import random
from collections.abc import Sequence

from rlvr.records import Group, Prompt, derive_seed


class UniformCurriculum:
    """Draws without replacement; a new epoch is a new permutation. Its whole state is the number of draws."""

    def __init__(self, prompts: Sequence[Prompt], seed: int, drawn: int = 0) -> None:
        assert prompts, "a curriculum needs at least one prompt"
        self.prompts = prompts
        self.seed = seed
        self.drawn = drawn
        self._epoch = -1
        self._order: list[int] = []

    def draw(self, count: int) -> list[Prompt]:
        """The next `count` prompts; a draw may run over the end of an epoch."""
        drawn = []
        for _ in range(count):
            epoch, position = divmod(self.drawn, len(self.prompts))
            if epoch != self._epoch:
                self._epoch = epoch
                self._order = list(range(len(self.prompts)))
                random.Random(derive_seed(self.seed, "epoch", epoch)).shuffle(self._order)
            drawn.append(self.prompts[self._order[position]])
            self.drawn += 1
        return drawn

    def ahead(self, count: int) -> list[Prompt]:
        """The distinct prompts of the first `count` draws, in their order; nothing is drawn."""
        own = UniformCurriculum(self.prompts, self.seed)
        return list({prompt.id: prompt for prompt in own.draw(min(count, len(self.prompts)))}.values())

    def observe(self, groups: Sequence[Group]) -> None:
        """Learns nothing: every prompt is as likely as any other."""
