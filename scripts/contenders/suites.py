"""What is raced against what, how much of it, and what the work is checked by."""

import dataclasses
from collections.abc import Callable
from typing import Any

from contenders import host, ppo_suites, rollout_suites
from contenders.conditions import Setup, lifetimes, nothing
from contenders.host import HERE
from contenders.rows import Row, Target, make_rows

DIFFERENCES = [
    "rollout: gymnax draws its actions with one random word each, as rljax, and on "
    "CartPole also as its documentation does, which is slower; the targets are against "
    "the faster. rljax spreads the environments over all CPU cores, as its map_seeds "
    "does for a user; gymnax uses what XLA gives one device.",
    "rollout: gymnax's Acrobot draws a noise of the torque in every step, which has no "
    "width; rljax draws one only where it has. gymnax's Breakout repeats no action and "
    "ends episodes after 1,000 steps; rljax's is as the package MinAtar has it.",
    "ppo*, solve: rejax clips gradients element by element where the others scale down "
    "the global norm, initialises with Lecun normal weights where rljax draws "
    "orthogonal ones, and steps actor and critic with an optimiser each. "
    "It can't anneal the learning rate, so nobody does; Adam's ε is 1e-8 for rljax and "
    "rejax, 1e-5 for Stable-Baselines3. rljax also returns its metrics.",
    "ppo*: the time limit counts as a termination in rljax, as in rejax; "
    "Stable-Baselines3 bootstraps there.",
    "ppo_pendulum: the physics are the same (rejax has them from gymnax 0.0.9), and so "
    "is the policy, a normal one that is clipped to the torque's bounds; rljax's own "
    "default is a squashed one. Observations and rewards are normalised: in rejax with "
    "moments of each step, in rljax once an update.",
    "ppo with 1 seed, solve: XLA has one thread (PJRT_NPROC=1) in rljax and in rejax, "
    "which it helps too.",
    "on a GPU: all seeds are vmapped; PPO trains fewer updates of each than on a CPU; "
    "MiB are those of JAX's arrays on the card, on a CPU those of the process.",
    "ppo*, 8 seeds: rejax vmaps them, as its documentation does; rljax also spreads "
    "them over the CPU cores.",
    "ppo_breakout: no action is repeated and episodes end after 1,000 steps, also in "
    "rljax, whose defaults are those of the package MinAtar.",
    "solve: wall time of a process from its start to its end, imports and compilation "
    "included, until 100 fresh greedy episodes have a mean return of 475.",
]


def imports(setup: Setup) -> list[Row]:
    """Fresh processes that import a package and end."""
    modules = {"rljax": "rljax", "jax alone": "jax"}
    contenders = [
        setup.ours(name, "import", "import", module=module)
        for name, module in modules.items()
    ]
    for neighbour, (module, _) in host.NEIGHBOURS.items():
        for one in setup.theirs(neighbour, module, "import", module=module):
            contenders.append(
                dataclasses.replace(one, script=HERE / "import_worker.py")
            )
    results = lifetimes(setup, [contenders] * setup.repeats)
    others = [name for name in results if name != "rljax"]
    targets = [Target("rljax", name, of="time") for name in others]
    return make_rows("import", "", "import", results, nothing, targets)


def q_learning(setup: Setup) -> list[Row]:
    """Q-learning on the 5×5 grid."""
    num_steps, on_cpu = 20_000, setup.platform == "cpu"
    sizes = [4] if setup.quick else [1000] if on_cpu else [1000, 100_000]
    task, most = "q_learning", f"rljax, {sizes[-1]:,} seeds"
    contenders = [
        setup.ours("NumPy loop", "numpy", task, num_steps=num_steps),
        setup.ours(
            "rljax, 1 seed",
            "rljax_tables",
            task,
            num_seeds=1,
            num_steps=50 * num_steps if on_cpu else num_steps,
        ),
    ]
    targets = [Target("rljax, 1 seed", "NumPy loop", 100.0)]
    for num_seeds in sizes:
        many = f"rljax, {num_seeds:,} seeds"
        settings = {"num_seeds": num_seeds, "num_steps": num_steps}
        contenders.append(setup.ours(many, "rljax_tables", task, **settings))
        targets.append(Target(many, "NumPy loop", 600.0))

    def check(name: str, found: dict[str, Any]) -> None:
        # Of a thousand every one has learned one; of more, one or the other may not.
        share = found["shortest_paths"]
        if share < (0.999 if name == most and sizes[-1] > 1000 else 1):
            raise ValueError(f"{name}: only {share:.2%} found a shortest path")

    results = setup.race(contenders)
    return make_rows("q_learning", "5×5 grid", "step", results, check, targets)


def bandits(setup: Setup) -> list[Row]:
    """UCB, and six rules with their curves."""
    num_bandits, loop_bandits = (40, 20) if setup.quick else (10_000, 20)
    sizes = [num_bandits]
    if setup.platform != "cpu" and not setup.quick:
        sizes.append(1_000_000)
    script, ours = "rljax_tables", {f"rljax, {n:,} bandits": n for n in sizes}
    contenders = [
        setup.ours(
            "NumPy loop", "numpy", "bandits", num_bandits=loop_bandits, num_pulls=1000
        )
    ]
    for name, number in ours.items():
        settings = {"num_bandits": number, "num_pulls": 1000}
        contenders.append(setup.ours(name, script, "bandits", **settings))
    results = setup.race(contenders)
    loop = [run["check"]["regret"] for run in results["NumPy loop"].runs]

    def check(name: str, found: dict[str, Any]) -> None:
        if name in ours and loop:
            gap = abs(found["regret"] - sum(loop) / len(loop))
            spread = found["regret_error"] * (ours[name] / loop_bandits) ** 0.5
            if gap > 5 * (spread + 0.2):
                raise ValueError(f"{name}: mean regret is {gap:.1f} off the loop's")

    targets = [Target(name, "NumPy loop", 300.0) for name in ours]
    rows = make_rows("bandits", "UCB", "pull", results, check, targets)
    six = setup.ours(
        "rljax, compilation included",
        script,
        "six_rules",
        num_bandits=num_bandits,
        num_pulls=1000,
    )

    def six_check(name: str, found: dict[str, Any]) -> None:
        if not found["complete"]:
            raise ValueError(f"{name}: the curves do not reach the last pull")

    results = setup.race([dataclasses.replace(six, repeats=1)])
    case = "six rules with curves"
    return rows + make_rows("bandits", case, "pull", results, six_check)


def rlhf(setup: Setup) -> list[Row]:
    """RLOO on a token problem whose optimum is known exactly."""
    num_seeds = 4 if setup.quick else 64 if setup.platform == "cpu" else 1024
    settings = {"num_seeds": num_seeds, "num_updates": 300}
    one = setup.ours("rljax", "rljax_rlhf", "rloo", **settings)

    def check(name: str, found: dict[str, Any]) -> None:
        if not found["largest_gap"] <= 0.1:
            gap = found["largest_gap"]
            raise ValueError(f"{name}: a seed ends {gap:.1%} below the optimum")

    case = f"RLOO, {num_seeds:,} seeds"
    return make_rows("rlhf", case, "sequence", setup.race([one]), check)


SUITES: dict[str, Callable[[Setup], list[Row]]] = {
    "import": imports,
    "rollout": rollout_suites.rollouts,
    "q_learning": q_learning,
    "bandits": bandits,
    "rlhf": rlhf,
    "ppo": ppo_suites.ppo,
    "ppo_pendulum": ppo_suites.ppo_pendulum,
    "ppo_breakout": ppo_suites.ppo_breakout,
    "solve": ppo_suites.solve,
    "growth": ppo_suites.growth,
    "determinism": ppo_suites.determinism,
}
NEEDS = {
    "import": list(host.NEIGHBOURS),
    "rollout": ["gymnax"],
    "ppo": ["rejax", "sb3"],
    "ppo_pendulum": ["rejax"],
    "ppo_breakout": ["rejax"],
    "solve": ["rejax"],
}
"""The neighbours of each suite."""
LIMITS = {"rollout": rollout_suites.rollout_limit, "ppo": ppo_suites.ppo_limit}
"""What a suite has to say about the machine's own limits."""
