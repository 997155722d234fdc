#!/usr/bin/env python
"""Times tabular learning and bandits against scalar NumPy loops, in the same run.

python scripts/benchmark.py
"""

import dataclasses
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

import rljax
from rljax import bandits, exploration, parallel, struct

try:
    import rich.console
    import rich.table
    import tyro
except ImportError as error:
    sys.exit(f"{error}. Install the command-line extra: pip install -e '.[cli]'")

STEP_SIZE, DISCOUNT, EPSILON, C = 0.1, 0.99, 0.1, 2.0


@dataclasses.dataclass(frozen=True)
class Config:
    """Times tabular learning and bandits against scalar NumPy loops."""

    repeats: int = 5
    """Timed runs of each contender, interleaved; the median counts."""
    num_seeds: int = 1_000
    """Q-tables trained side by side."""
    num_bandits: int = 10_000
    """Bandits played side by side."""

    def __post_init__(self):
        for name in ("repeats", "num_seeds", "num_bandits"):
            flag = "--" + name.replace("_", "-")
            struct.check_int(flag, getattr(self, name), minimum=1)


class LoopGrid:
    """The 5×5 grid, one step at a time."""

    walls = frozenset({(1, 1), (2, 1), (3, 1), (1, 3), (2, 3)})
    moves = ((-1, 0), (1, 0), (0, -1), (0, 1))

    def reset(self):
        """Puts the agent on the start."""
        self.cell = (0, 0)
        return self.cell

    def step(self, action):
        """Moves: (cell, reward, done)."""
        row, column = self.cell
        down, right = self.moves[action]
        target = (row + down, column + right)
        inside = 0 <= target[0] < 5 and 0 <= target[1] < 5
        if inside and target not in self.walls:
            self.cell = target
        done = self.cell == (4, 4)
        return self.cell, 1.0 if done else -0.01, done


def loop_q_learning(num_steps: int) -> np.ndarray:
    """Q-learning as scalar code, [5, 5, 4]."""
    rng = np.random.default_rng(0)
    env = LoopGrid()
    q_values = np.zeros((5, 5, 4))
    cell = env.reset()
    for _ in range(num_steps):
        if rng.random() < EPSILON:
            action = int(rng.integers(4))
        else:
            action = int(np.argmax(q_values[cell]))
        next_cell, reward, done = env.step(action)
        target = reward + (0.0 if done else DISCOUNT * np.max(q_values[next_cell]))
        q_values[cell][action] += STEP_SIZE * (target - q_values[cell][action])
        cell = env.reset() if done else next_cell
    return q_values


def loop_ucb(num_bandits: int, num_pulls: int) -> np.ndarray:
    """UCB as scalar code: expected regret, [num_bandits]."""
    rng = np.random.default_rng(0)
    regrets = np.zeros(num_bandits)
    for i in range(num_bandits):
        means = rng.normal(1.0, 0.5, 5)
        q_values, counts = np.zeros(5), np.zeros(5)
        for t in range(num_pulls):
            bonus = C * np.sqrt(np.log(t + 1) / (counts + 1e-8))
            arm = int(np.argmax(q_values + bonus))
            reward = rng.normal(means[arm], 0.3)
            counts[arm] += 1
            q_values[arm] += (reward - q_values[arm]) / counts[arm]
            regrets[i] += np.max(means) - means[arm]
    return regrets


def greedy_path_length(q_values: Any) -> int:
    """Steps of the greedy path on the 5×5 grid, 25 if it doesn't arrive."""
    env, steps = LoopGrid(), 0
    cell, done = env.reset(), False
    q_values = np.asarray(q_values).reshape(5, 5, 4)
    while not done and steps < 25:
        cell, _, done = env.step(int(np.argmax(q_values[cell])))
        steps += 1
    return steps


def timed(fn: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    out = jax.block_until_ready(fn())
    return time.perf_counter() - start, out


def race(contenders: dict[str, tuple[Callable[[], Any], float]], repeats: int) -> dict:
    """Median work per second by name, and what the last run returned.

    Each contender warms up once, which compiles it, and is then timed in turn with the
    others, so that a slow moment of the machine hits all of them.
    """
    first = {name: timed(fn)[0] for name, (fn, _) in contenders.items()}
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    out = {}
    for _ in range(repeats):
        for name, (fn, _) in contenders.items():
            duration, out[name] = timed(fn)
            seconds[name].append(duration)
    rates = {
        name: work / statistics.median(seconds[name])
        for name, (_, work) in contenders.items()
    }
    return {name: (rates[name], first[name], out[name]) for name in contenders}


def q_learning_race(config: Config) -> dict:
    env, num_steps = rljax.make("GridWorld-5x5"), 20_000
    one_seed_steps, rollout_length = 1_000_000, 500
    agent = rljax.QLearning(
        step_size=STEP_SIZE,
        discount=DISCOUNT,
        exploration=exploration.EpsilonGreedy(EPSILON),
        rollout_length=rollout_length,
    )

    def train(key, steps):
        state, _ = rljax.train(agent, env, key, num_updates=steps // rollout_length)
        return state.agent_state.q_values

    many = parallel.map_seeds(lambda key: train(key, num_steps))
    keys = jax.random.split(jax.random.key(0), config.num_seeds)
    results = race(
        {
            "Q-learning, NumPy loop": (lambda: loop_q_learning(num_steps), num_steps),
            "Q-learning, 1 seed": (
                lambda: train(keys[0], one_seed_steps),
                one_seed_steps,
            ),
            f"Q-learning, {config.num_seeds:,} seeds": (
                lambda: many(keys),
                num_steps * config.num_seeds,
            ),
        },
        config.repeats,
    )
    for name, (_, _, q_values) in results.items():
        lengths = [greedy_path_length(q) for q in q_values.reshape(-1, 5, 5, 4)]
        if set(lengths) != {8}:
            share = np.mean(np.array(lengths) == 8)
            raise RuntimeError(f"{name}: only {share:.1%} found a shortest path.")
    return results


def bandit_race(config: Config) -> dict:
    num_pulls, loop_bandits = 1_000, 20
    env = rljax.make("GaussianBandit-5")
    agent = rljax.QLearning(
        step_size=None, discount=0.0, exploration=exploration.UCB(C)
    )

    def play(key):
        _, pulls = bandits.play_bandit(agent, env, key, num_pulls=num_pulls)
        return pulls.expected_regret[-1]

    many = parallel.map_seeds(play)
    keys = jax.random.split(jax.random.key(0), config.num_bandits)
    results = race(
        {
            "UCB bandit, NumPy loop": (
                lambda: loop_ucb(loop_bandits, num_pulls),
                loop_bandits * num_pulls,
            ),
            f"UCB bandit, {config.num_bandits:,} bandits": (
                lambda: many(keys),
                config.num_bandits * num_pulls,
            ),
        },
        config.repeats,
    )
    (_, _, loop), (_, _, ours) = results.values()
    gap = abs(np.mean(loop) - np.mean(ours))
    if gap > 5 * np.hypot(np.std(loop) / len(loop) ** 0.5, 0.2):
        raise RuntimeError(f"mean regrets differ: {np.mean(loop)}, {np.mean(ours)}.")
    return results


def six_rules_seconds(config: Config) -> float:
    """Wall time of six rules on all bandits with their curves, compilation included."""
    rules = {
        "ε-greedy": exploration.EpsilonGreedy(0.1),
        "softmax": exploration.Softmax(0.5),
        "UCB": exploration.UCB(2.0),
        "UCB1": exploration.UCB1(1.0),
        "KL-UCB": exploration.KLUCB(0.3),
        "Thompson": exploration.ThompsonGaussian(1.0, 0.5, 0.3),
    }
    agents = {
        name: [rljax.QLearning(step_size=None, discount=0.0, exploration=rule)]
        for name, rule in rules.items()
    }
    seconds, (curves, _) = timed(
        lambda: bandits.compare_bandits(
            agents,
            rljax.make("GaussianBandit-5"),
            jax.random.key(0),
            num_bandits=config.num_bandits,
            num_pulls=1_000,
        )
    )
    if any(curve.pulls[-1] != 1_000 for curve in curves.values()):
        raise RuntimeError("the curves do not reach the last pull.")
    return seconds


def main() -> int:
    config = tyro.cli(Config)
    parallel.use_cpu_cores()
    console = rich.console.Console(highlight=False)
    console.print(
        f"rljax {rljax.__version__}, jax {jax.__version__}, Python "
        f"{platform.python_version()}, {jax.device_count()} {jax.default_backend()} "
        f"device(s), {os.cpu_count()} cores; medians of {config.repeats} interleaved "
        "runs"
    )
    with console.status("six rules …"):
        seconds = six_rules_seconds(config)
    table = rich.table.Table()
    for heading in ("", "ratio", "million steps/s", "first run, s"):
        table.add_column(heading, justify="left" if heading == "" else "right")
    for suite in (q_learning_race, bandit_race):
        with console.status(f"{suite.__name__} …"):
            results = suite(config)
        base, _, _ = next(iter(results.values()))
        table.add_section()
        for name, (rate, first, _) in results.items():
            table.add_row(
                name, f"{rate / base:,.0f}", f"{rate / 1e6:,.3f}", f"{first:.2f}"
            )
    table.caption = (
        "Run time after a first run, which compiles. Checked: all tables have a "
        "shortest greedy path, and the loops' regret is rljax's within its error."
    )
    console.print(table)
    console.print(
        f"6 rules × {config.num_bandits:,} bandits × 1,000 pulls with regret curves: "
        f"{seconds:.1f} s, compilation included"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
