"""Under what conditions all suites are measured."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from contenders import host
from contenders.host import HERE, Contender, Home, Result


@dataclasses.dataclass(frozen=True)
class Setup:
    """What all suites need to know."""

    repeats: int
    seed: int
    quick: bool
    platform: str
    """"cpu" or "gpu", where rljax runs."""
    neighbours: Mapping[str, Home]
    """Those that are there, by name."""
    sb3_steps: int
    time_limit: float

    def ours(self, name: str, script: str, task: str, **settings: Any) -> Contender:
        """A contender in this Python, by rljax or NumPy."""
        settings = {"task": task, "seed": self.seed} | settings
        return Contender(name, HERE / f"{script}_worker.py", settings)

    def theirs(
        self, neighbour: str, name: str, task: str, **settings: Any
    ) -> list[Contender]:
        """A contender in a neighbour's Python, none if that isn't there."""
        if neighbour not in self.neighbours:
            return []
        contender = self.ours(name, neighbour, task, **settings)
        home = self.neighbours[neighbour]
        return [
            dataclasses.replace(contender, python=home.python, variables=home.variables)
        ]

    def race(self, contenders: list[Contender], starts: int = 1) -> dict[str, Result]:
        """`host.race` with these repeats."""
        limit = self.time_limit
        return host.race(contenders, self.repeats, time_limit=limit, starts=starts)


def nothing(name: str, found: dict[str, Any]) -> None:
    """There is nothing more to be checked."""


def lifetimes(setup: Setup, rounds: list[list[Contender]]) -> dict[str, Result]:
    """Whole processes, in turn, after a round that isn't timed: it fills caches."""
    results = {contender.name: Result() for contender in rounds[0]}
    for contender in rounds[0]:
        host.lifetime(contender, Result(), time_limit=setup.time_limit)
    for contenders in rounds:
        for one in contenders:
            host.lifetime(one, results[one.name], time_limit=setup.time_limit)
    return results
