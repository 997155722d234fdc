"""PPO: its speed, time to a solution, growth and determinism."""

import dataclasses
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from contenders.conditions import Setup, lifetimes, nothing
from contenders.host import Contender
from contenders.rows import Check, Row, Target, make_rows

PPO = {
    "num_envs": 4,
    "num_steps": 128,
    "num_epochs": 4,
    "num_minibatches": 4,
    "learning_rate": 2.5e-4,
    "discount": 0.99,
    "entropy_coef": 0.01,
    "normalize": False,
}
"""PureJaxRL's settings, as far as suites differ in them; the workers know the rest: two
tanh networks 64-64, λ .95, clipping .2 of values too, value .5, norm .5."""
PENDULUM = {
    "num_envs": 16,
    "num_steps": 128,
    "num_epochs": 10,
    "num_minibatches": 8,
    "learning_rate": 1e-3,
    "discount": 0.9,
    "entropy_coef": 0.0,
    "normalize": True,
}
BREAKOUT = PPO | {"num_envs": 64, "num_minibatches": 8, "learning_rate": 2.5e-3}
"""PureJaxRL's for MinAtar, but for half its step size, as this one is constant."""
GPU_UPDATES = {1: 100, 256: 50, 2048: 25, 8192: 16}
"""By the number of seeds, on a GPU: enough to learn from, and done in seconds."""
MOST_OF_REJAX = 2048
"""Seeds; more of them are rljax's alone."""
SOLVE = PPO | {"num_envs": 8, "learning_rate": 1e-3}


def ppo(setup: Setup) -> list[Row]:
    """Training PPO on CartPole-v1, 5e5 steps a seed on a CPU."""
    on_cpu = setup.platform == "cpu"
    least = {1: 1.6, 8: 2.5} if on_cpu else {1: 4.0, 2048: 2.0}
    least_return = 0 if setup.quick else 100 if on_cpu else 50
    rows = []
    for num_seeds, updates in ({1: 976, 8: 976} if on_cpu else GPU_UPDATES).items():
        updates = 4 if setup.quick else updates
        sizes = {"num_seeds": num_seeds, "num_updates": updates, "settings": PPO}
        sizes["env"] = "CartPole-v1"
        contenders = [setup.ours("rljax", "rljax_ppo", "ppo", **sizes)]
        theirs = setup.theirs("rejax", "rejax", "ppo", **sizes)
        if num_seeds <= MOST_OF_REJAX:
            contenders += map(one_thread, theirs) if num_seeds == 1 else theirs
        compiles = 2.5 if num_seeds == 1 and on_cpu else None
        targets = [
            Target("rljax", "rejax", least.get(num_seeds)),
            Target("rljax", "rejax", compiles, of="compile"),
            Target("rljax", "rejax", of="memory"),
        ]
        if num_seeds == 1:
            steps = 512 if setup.quick else setup.sb3_steps
            sb3 = setup.theirs("sb3", "SB3", "ppo", num_steps=steps, settings=PPO)
            contenders += [dataclasses.replace(one, repeats=1) for one in sb3]
            targets.append(Target("rljax", "SB3", 30.0))
        # The time to compile is taken thrice: it differs more than the runs.
        starts = 3 if num_seeds == 1 and on_cpu and not setup.quick else 1
        case = f"{num_seeds:,} seed{'s' if num_seeds > 1 else ''}"
        results = setup.race(contenders, starts)
        check = ppo_check(updates * 512, least_return)
        rows += make_rows("ppo", case, "step", results, check, targets)
    return rows


def ppo_pendulum(setup: Setup) -> list[Row]:
    """Training PPO on Pendulum-v1, 2e5 steps a seed, whose torque is a real number."""
    num_seeds, updates = (2, 2) if setup.quick else (8, 100)
    sizes = {"num_seeds": num_seeds, "num_updates": updates, "settings": PENDULUM}
    sizes["env"] = "Pendulum-v1"
    contenders = [setup.ours("rljax", "rljax_ppo", "ppo", **sizes)]
    contenders += setup.theirs("rejax", "rejax", "ppo", **sizes)
    targets = [Target("rljax", "rejax", of=of) for of in ("run", "compile", "memory")]
    # A random policy earns about −1,230, a perfect one −150. Rewards are normalised, as
    # both clip the change of values at .2: unscaled, values are tens, learned slowly.
    check = ppo_check(updates * 2048, -2000 if setup.quick else -500)
    results = setup.race(contenders)
    case = f"{num_seeds} seeds"
    return make_rows("ppo_pendulum", case, "step", results, check, targets)


def ppo_breakout(setup: Setup) -> list[Row]:
    """Training PPO on MinAtar's Breakout, 1e6 steps a seed, as gymnax has the game."""
    num_seeds, updates = (2, 2) if setup.quick else (8, 122)
    sizes = {"num_seeds": num_seeds, "num_updates": updates, "settings": BREAKOUT}
    game = {
        "env": "MinAtar/Breakout-v1",
        "options": {"sticky_action_prob": 0.0, "max_steps": 1000},
    }
    contenders = [setup.ours("rljax", "rljax_ppo", "ppo", **sizes, **game)]
    theirs = setup.theirs("rejax", "rejax", "ppo", **sizes, env="Breakout-MinAtar")
    targets = [Target("rljax", "rejax", of=of) for of in ("run", "compile", "memory")]
    check = ppo_check(updates * 8192, 0 if setup.quick else 1)
    results = setup.race(contenders + theirs)
    case = f"{num_seeds} seeds"
    return make_rows("ppo_breakout", case, "step", results, check, targets)


def ppo_check(num_steps: int, least: float) -> Check:
    """The steps that were asked for are done, and something is learned by them."""

    def check(name: str, found: dict[str, Any]) -> None:
        if name != "SB3" and found["steps"] != num_steps:
            raise ValueError(f"{name} did {found['steps']} steps, not {num_steps}")
        if not found["return"] >= least:
            raise ValueError(f"{name}'s greedy return is {found['return']:.0f}")

    return check


def profile(setup: Setup, folder: Path) -> Row:
    """One update of PPO, of which a trace is left in `folder`."""
    num_seeds = 8 if setup.platform == "cpu" else 256 if setup.quick else 2048
    sizes = {"num_seeds": num_seeds, "settings": PPO, "folder": str(folder)}
    one = setup.ours("rljax", "rljax_ppo", "profile", **sizes)
    results = setup.race([dataclasses.replace(one, repeats=1)])
    case = f"1 update, {num_seeds:,} seeds"
    return make_rows("profile", case, "step", results, nothing)[0]


def solve(setup: Setup) -> list[Row]:
    """A cold process until CartPole-v1 is solved."""
    task = {"threshold": 475, "chunk": 10, "max_updates": 1000, "settings": SOLVE}
    if setup.quick:
        task |= {"threshold": 20, "max_updates": 10}

    def check(name: str, found: dict[str, Any]) -> None:
        if not found["return"] >= task["threshold"]:
            raise ValueError(f"{name} ends with a return of {found['return']:.0f}")

    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for case in ("cold", "compilation cached"):
            rounds = []
            for i in range(setup.repeats):
                settings = {**task, "seed": setup.seed + i}
                both = [setup.ours("rljax", "rljax_ppo", "solve", **settings)]
                theirs = setup.theirs("rejax", "rejax", "solve", **settings)
                both += map(one_thread, theirs)
                if case != "cold":
                    both = [cached(one, folder) for one in both]
                rounds.append(both)
            results = lifetimes(setup, rounds)
            least = 3.0 if case == "cold" else None
            targets = [Target("rljax", "rejax", least, of="time")]
            rows += make_rows("solve", case, "step", results, check, targets)
    return rows


def one_thread(contender: Contender) -> Contender:
    """The contender with the setting that rljax's worker makes for one seed."""
    variables = {**contender.variables, "PJRT_NPROC": "1"}
    return dataclasses.replace(contender, variables=variables)


def cached(contender: Contender, folder: str) -> Contender:
    """The contender with a cache of its own for what JAX compiles."""
    return dataclasses.replace(
        contender,
        variables={
            **contender.variables,
            "JAX_COMPILATION_CACHE_DIR": str(Path(folder) / contender.name),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        },
    )


def growth(setup: Setup) -> list[Row]:
    """Whether a seed of many takes as long as a seed of few."""
    sizes, updates = ((8, 64), 2) if setup.quick else ((8, 64, 512), 20)
    # As many as share a core's cache are vmapped together; a GPU takes all at once.
    layout = {"batch_size": 4} if setup.platform == "cpu" else {}
    task = {"num_updates": updates, "settings": PPO, "env": "CartPole-v1", **layout}
    contenders = [
        setup.ours(f"{n} seeds", "rljax_ppo", "ppo", num_seeds=n, **task) for n in sizes
    ]
    targets = [
        Target(f"{n} seeds", "8 seeds", most=1.1, of="time per unit") for n in sizes[1:]
    ]
    check = ppo_check(updates * 512, 0)
    results = setup.race(contenders)
    return make_rows("growth", "PPO", "step", results, check, targets)


def determinism(setup: Setup) -> list[Row]:
    """Two processes whose parameters must be equal to the last bit."""
    sizes = {"env": "CartPole-v1", "num_seeds": 8, "num_updates": 4}
    one = setup.ours("first", "rljax_ppo", "ppo", **sizes, settings=PPO)
    if setup.platform == "gpu":  # elsewhere XLA dies of this flag
        flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_gpu_deterministic_ops=true"
        one = dataclasses.replace(one, variables={"XLA_FLAGS": flags.strip()})
    again = dataclasses.replace(one, name="again", repeats=1)
    results = setup.race([dataclasses.replace(one, repeats=1), again])
    digests = [run["check"]["digest"] for run in results["first"].runs]

    def check(name: str, found: dict[str, Any]) -> None:
        if digests and found["digest"] != digests[0]:
            raise ValueError(f"{name}: {found['digest']} is not {digests[0]}")

    return make_rows("determinism", "PPO, 8 seeds", "step", results, check)


def update_flops(settings: dict[str, Any]) -> float:
    """Arithmetic of one update by the sizes of the networks, activations left out.

    A forward pass multiplies and adds once for each weight, a backward pass twice. The
    rollout needs the policy's logits, and the values of every step and its successor.
    """
    hidden = 4 * 64 + 64 * 64
    actor, critic = hidden + 64 * 2, hidden + 64 * 1
    steps = settings["num_envs"] * settings["num_steps"]
    learned = settings["num_epochs"] * steps * 6 * (actor + critic)
    return learned + steps * 2 * (actor + 2 * critic)


def ppo_limit(rows: Sequence[Row], limits: dict[str, float]) -> str | None:
    """How far one seed is from the arithmetic alone."""
    for row in rows:
        if row.contender == "rljax" and row.rate:
            floor = 1e-6 * update_flops(PPO) / limits["gflops"]
            ours = 1e3 * PPO["num_envs"] * PPO["num_steps"] / row.rate
            return (
                f"arithmetic floor: {floor:.2f} ms per update at "
                f"{limits['gflops']:.0f} GFLOP/s (128×64×64), rljax with {row.case} "
                f"takes {ours:.2f} ms"
            )
    return None
