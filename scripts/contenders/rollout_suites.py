"""Environment steps alone, under a random policy: how many a second."""

import dataclasses
from collections.abc import Mapping, Sequence

from contenders.conditions import Setup
from contenders.rows import Check, Row, Target, make_rows


@dataclasses.dataclass(frozen=True)
class Case:
    """An environment, how much of it is played, and what a random policy meets there.

    Episodes cut by the end of a short run count in neither range, so that these are a
    little wider than their means' errors.
    """

    env: str
    """What rljax calls it."""
    theirs: str
    """What gymnax calls it."""
    steps: Mapping[int, tuple[int, int, float | None]]
    """By the number of environments: steps of each on a CPU, on a GPU, the target."""
    quick_steps: int
    """Of each of 64 environments with --quick."""
    rewards: tuple[float, float]
    """Least and largest mean reward of a step."""
    lengths: tuple[float, float]
    """Least and largest number of steps for each end of an episode."""


CARTPOLE = Case(
    "CartPole-v1",
    "CartPole-v1",
    {
        1: (2**18, 0, 30.0),
        64: (2**16, 0, 7.0),
        2048: (2**13, 2**14, 12.0),
        65_536: (2**8, 2**12, 5.0),
        2**20: (0, 2**10, None),
    },
    quick_steps=256,
    rewards=(1.0, 1.0),
    lengths=(21.0, 23.5),  # 22.2, and at most 23.1 in a run of 256 steps
)
CASES = (
    CARTPOLE,
    Case(
        "Pendulum-v1",
        "Pendulum-v1",
        {1: (2**17, 0, None), 64: (2**15, 0, None), 2048: (2**12, 2**13, None)},
        quick_steps=1024,
        rewards=(-6.5, -5.75),  # −6.14 ± 0.08 in a run of 64 × 1,024 steps
        lengths=(200.0, 205.0),
    ),
    Case(
        "Acrobot-v1",
        "Acrobot-v1",
        {1: (2**17, 0, None), 64: (2**14, 0, None), 2048: (2**11, 2**13, None)},
        quick_steps=1024,
        rewards=(-1.0, -0.999),  # almost no episode ends above the goal
        lengths=(480.0, 513.0),
    ),
    Case(
        "MinAtar/Breakout-v1",
        "Breakout-MinAtar",
        {1: (2**17, 0, None), 64: (2**14, 0, None), 2048: (2**11, 2**13, None)},
        quick_steps=1024,
        rewards=(0.03, 0.055),  # gymnax's 0.040
        lengths=(8.5, 12.0),  # gymnax's 10.2
    ),
)


def rollouts(setup: Setup) -> list[Row]:
    """Random actions in each environment: environment steps per second."""
    rows = []
    for case in CASES:
        for num_envs, (cpu_steps, gpu_steps, target) in case.steps.items():
            num_steps = cpu_steps if setup.platform == "cpu" else gpu_steps
            if setup.quick:
                num_steps = case.quick_steps if num_envs == 64 else 0
            if num_steps:
                rows += _raced(setup, case, num_envs, num_steps, target)
    return rows


def _raced(
    setup: Setup, case: Case, num_envs: int, num_steps: int, target: float | None
) -> list[Row]:
    """One environment at one size."""
    sizes = {"num_envs": num_envs, "num_steps": num_steps}
    ours, script = setup.ours, "rljax_rollout"
    unroll = "rljax rollout.unroll"
    by_hand = {
        "rljax env.step, jax.random.key": False,
        "rljax env.step, rljax.random.key": True,
    }
    theirs = {"gymnax": False, "gymnax, its sample": True}
    # The others are of interest once, and a GPU's programs take long to compile.
    if case is not CARTPOLE or setup.platform != "cpu":
        by_hand, theirs = {}, {"gymnax": False}
    contenders = [ours(unroll, script, "unroll", env=case.env, **sizes)]
    for name, fast_keys in by_hand.items():
        one = ours(name, script, "by_hand", **sizes, fast_keys=fast_keys)
        contenders.append(one)
    for name, sample in theirs.items():
        contenders += setup.theirs(
            "gymnax", name, "steps", env=case.theirs, **sizes, sample=sample
        )
    targets = [
        Target(unroll, "gymnax", target),
        Target(unroll, "gymnax", of="compile"),
        Target(unroll, "gymnax, its sample"),
        *(Target(name, "gymnax") for name in by_hand),
    ]
    return make_rows(
        "rollout",
        f"{case.env}, {num_envs:,} environments",
        "step",
        setup.race(contenders),
        rollout_check(case, num_envs * num_steps),
        targets,
    )


def rollout_check(case: Case, num_steps: int) -> Check:
    """The rewards and the ends of episodes are those of a random policy."""

    def check(name: str, found: dict[str, float]) -> None:
        earned, (least, most) = found["rewards"], case.rewards
        if not least <= earned / num_steps <= most:
            raise ValueError(f"{name} earned {earned:,.0f} in {num_steps:,} steps")
        length, (least, most) = num_steps / max(found["episodes"], 1), case.lengths
        if not least <= length <= most:
            raise ValueError(
                f"{name}'s episodes last {length:.1f} steps, not {least:g} to {most:g}"
            )

    return check


def rollout_limit(rows: Sequence[Row], limits: dict[str, float]) -> str | None:
    """How far the fastest is from the random words alone."""
    best = max(
        (row for row in rows if "words_per_step" in row.facts and row.rate),
        key=lambda row: row.rate or 0.0,
        default=None,
    )
    if best is None or best.rate is None:
        return None
    words = best.facts["words_per_step"]
    most = limits["words_per_second"] / words
    return (
        f"random words: {words} a step at {limits['words_per_second'] / 1e6:,.0f} M/s "
        f"allow {most / 1e6:,.1f} M steps/s, {best.contender} with {best.case} takes "
        f"{best.rate / 1e6:,.1f} M"
    )
