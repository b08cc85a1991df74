"""The uniform curriculum."""

from rlvr.curriculum.uniform import UniformCurriculum
from rlvr.records import Prompt

PROMPTS = [Prompt(str(i), (i,), "") for i in range(7)]


def test_every_prompt_once_per_epoch_in_another_order() -> None:
    curriculum = UniformCurriculum(PROMPTS, seed=1)
    first, second = curriculum.draw(7), curriculum.draw(7)
    assert sorted(p.id for p in first) == sorted(p.id for p in second) == [str(i) for i in range(7)]
    assert first != second


def test_the_position_is_the_whole_state() -> None:
    """R12: a curriculum taken up at draw n continues as the uninterrupted one, over the end of an epoch too."""
    whole = UniformCurriculum(PROMPTS, seed=1).draw(20)
    assert UniformCurriculum(PROMPTS, seed=1, drawn=5).draw(15) == whole[5:]


def test_another_seed_is_another_order() -> None:
    assert UniformCurriculum(PROMPTS, seed=1).draw(7) != UniformCurriculum(PROMPTS, seed=2).draw(7)
