#!/usr/bin/env python
"""How the time per seed depends on their number, the devices and the batches.

python scripts/scaling.py                    # 1, 8, 64 and 512 seeds, some minutes
python scripts/scaling.py --num-devices 4    # as if there were four
"""

import dataclasses
import sys
import time
from typing import Any

import jax
import numpy as np

import rljax
from rljax import checks, parallel
from rljax.experiment.population import Population

try:
    import rich.console
    import rich.table
    import tyro
except ImportError as error:
    sys.exit(f"{error}. Install the command-line extra: pip install -e '.[cli]'")


def cases() -> dict[str, tuple[Any, Any, int]]:
    """Agent, environment and the seed-updates that are timed, at most."""
    q_learning = rljax.QLearning(
        exploration=rljax.exploration.EpsilonGreedy(0.1), rollout_length=100
    )
    return {
        "PPO, CartPole-v1": (rljax.PPO(), rljax.make("CartPole-v1"), 4096),
        "Q-learning, GridWorld-5x5": (
            q_learning,
            rljax.make("GridWorld-5x5"),
            200_000,
        ),
    }


@dataclasses.dataclass(frozen=True)
class Config:
    """Measures the time per seed and update of sweeps of several sizes."""

    num_seeds: tuple[int, ...] = (1, 8, 64, 512)
    """Sizes to measure."""
    num_devices: int | None = None
    """CPU devices to make. None: one per core."""
    repeats: int = 3
    """Timings of each, of which the median counts."""

    def __post_init__(self):
        for value in self.num_seeds:
            checks.integer("--num-seeds", value, minimum=1)
        checks.integer("--repeats", self.repeats, minimum=1)
        if self.num_devices is not None:
            checks.integer("--num-devices", self.num_devices, minimum=1)


def main() -> int:
    try:
        config = tyro.cli(Config)
    except (ValueError, TypeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if config.num_devices is not None:
        jax.config.update("jax_num_cpu_devices", config.num_devices)
    parallel.use_cpu_cores()
    console = rich.console.Console(highlight=False)
    devices = jax.devices()
    console.print(
        f"{len(devices)} {jax.default_backend()} device(s), jax {jax.__version__}"
    )
    for name, (agent, env, most) in cases().items():
        console.print(measure(name, agent, env, most, config, devices))
    return 0


def measure(
    name: str, agent: Any, env: Any, most: int, config: Config, devices: list[Any]
) -> rich.table.Table:
    """Microseconds per seed and update: a row per number of seeds."""
    layouts = {
        "1 device, all vmapped": (devices[:1], 10**9),
        "1 device, as chosen": (devices[:1], None),
        "all devices, one by one": (devices, 1),
        "all devices, all vmapped": (devices, 10**9),
        "all devices, as chosen": (devices, None),
    }
    table = rich.table.Table(title=f"{name}: µs per seed and update")
    for heading in ("seeds", *layouts, "batch", "steps/s"):
        table.add_column(heading, justify="right")
    steps = agent.num_envs * agent.rollout_length
    for num_seeds in config.num_seeds:
        keys = jax.random.split(jax.random.key(0), num_seeds)
        populations = [
            Population(
                [(agent, env)],
                keys,
                devices=used,
                batch_size=batch_size,
                memory_budget=2**40,
            )
            for used, batch_size in layouts.values()
        ]
        num_updates = max(2, min(populations[0].max_chunk, most // num_seeds // 4))
        times = np.median(
            [
                [time_once(p, num_updates) for p in populations]
                for _ in range(config.repeats)
            ],
            axis=0,
        )
        micros = 1e6 * times / num_seeds / num_updates
        table.add_row(
            f"{num_seeds:,}",
            *(f"{value:,.1f}" for value in micros),
            str(populations[-1].layout.batch_size),
            f"{steps / micros[-1]:,.2f} M",
        )
    return table


def time_once(population: Population, num_updates: int) -> float:
    """Seconds for the updates, after a first one; the work is checked."""
    population.start()
    population.advance(0, 1)
    start = time.perf_counter()
    metrics = population.advance(1, num_updates)
    seconds = time.perf_counter() - start
    assert metrics.num_episodes.shape == (population.num_runs, num_updates)
    assert metrics.num_episodes.sum() > 0, "no episode ended: no work was done"
    assert (population.faults()[0] == -1).all(), "a run broke"
    return seconds


if __name__ == "__main__":
    sys.exit(main())
