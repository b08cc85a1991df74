"""A reward that costs nothing and differs within groups, so that no step is trivially without gradient."""


def parity(completion: str, answer: str | None) -> float:
    return float(sum(map(ord, completion)) % 2)
