#!/usr/bin/env python
"""PPO on a GPU with and without rljax's kernels: pace, repeatability, solved share.

python scripts/kernels.py                    # 1, 256 and 2,048 seeds, some 3 minutes
python scripts/kernels.py --output found.json

PPO of PureJaxRL's sizes is timed; then PPO() trains 2,048 seeds for 204,800 steps each,
and 20 greedy episodes of each are judged. On a machine without an NVIDIA GPU both
columns are XLA's programs.
"""

import dataclasses
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import rljax
from rljax import checks

try:
    import rich.console
    import rich.table
    import scipy.stats
    import tyro
except ImportError as error:
    sys.exit(f"{error}. Install what the scripts use: pip install -e '.[cli,sweep]'")

MODES = ("auto", "never")
SOLVED = 475.0


@dataclasses.dataclass(frozen=True)
class Config:
    """PPO on a GPU with and without rljax's kernels."""

    num_seeds: tuple[int, ...] = (1, 256, 2048)
    """Numbers of seeds to time; the last one is judged, too."""
    num_updates: int = 50
    """Updates of a timed run."""
    judged_updates: int = 200
    """Updates of PPO() before it is judged."""
    repeats: int = 3
    """Timed runs, of which the median counts."""
    seed: int = 0
    """Of all random keys."""
    output: Path | None = None
    """JSON file for all figures and returns, which must not exist yet."""

    def __post_init__(self):
        for value in self.num_seeds:
            checks.integer("--num-seeds", value, minimum=1)
        for name in ("num_updates", "judged_updates", "repeats"):
            flag = f"--{name.replace('_', '-')}"
            checks.integer(flag, getattr(self, name), minimum=1)
        if self.output is not None and self.output.exists():
            raise FileExistsError(f"--output {self.output} exists already.")


def matched(kernels: Any) -> rljax.PPO:
    """PureJaxRL's sizes and settings."""
    return rljax.PPO(
        num_envs=4,
        rollout_length=128,
        activation="tanh",
        clip_value_loss=True,
        gae_lambda=0.95,
        learning_rate=2.5e-4,
        time_limit_is_termination=True,
        kernels=kernels,
    )


def timed(fn: Any, keys: jax.Array, repeats: int) -> tuple[float, float, Any, bool]:
    """(compile seconds, median seconds, result, whether every repeat is bitwise it)."""
    start = time.perf_counter()
    program = jax.jit(fn).lower(keys).compile()
    compiled = time.perf_counter() - start
    first = jax.block_until_ready(program(keys))
    seconds, same = [], True
    for _ in range(repeats):
        start = time.perf_counter()
        again = jax.block_until_ready(program(keys))
        seconds.append(time.perf_counter() - start)
        same &= all(
            np.array_equal(x, y, equal_nan=True)
            for x, y in zip(jax.tree.leaves(first), jax.tree.leaves(again), strict=True)
        )
    return compiled, statistics.median(seconds), first, same


def measure(config: Config, env: Any, mode: Any, num_seeds: int) -> dict[str, Any]:
    """The pace of training, and what was trained."""
    agent = matched(mode)

    def train(key):
        state, metrics = rljax.train(agent, env, key, num_updates=config.num_updates)
        return state.agent_state.params, metrics.episode_return

    keys = jax.random.split(jax.random.key(config.seed), num_seeds)
    compiled, seconds, (_, returns), same = timed(jax.vmap(train), keys, config.repeats)
    steps = num_seeds * config.num_updates * agent.num_envs * agent.rollout_length
    return {
        "kernels": mode,
        "seeds": num_seeds,
        "compile_seconds": compiled,
        "steps_per_second": steps / seconds,
        "repeats_bitwise": same,
        "return": float(jnp.nanmean(returns[:, -5:])),
    }


def judge(config: Config, env: Any, mode: Any) -> dict[str, Any]:
    """How PPO() at its defaults does, seed by seed."""
    agent = rljax.PPO(kernels=mode)

    def train(key):
        key_train, key_evaluate = jax.random.split(key)
        state, _ = rljax.train(agent, env, key_train, num_updates=config.judged_updates)
        found = rljax.evaluate(
            agent, state.agent_state, env, key_evaluate, num_episodes=20
        )
        return found.episode_returns.mean()

    keys = jax.random.split(jax.random.key(config.seed), config.num_seeds[-1])
    _, seconds, returns, same = timed(jax.vmap(train), keys, 1)
    returns = np.asarray(returns)
    solved = int((returns >= SOLVED).sum())
    interval = scipy.stats.binomtest(solved, len(returns)).proportion_ci(
        method="wilson"
    )
    return {
        "kernels": mode,
        "seconds": seconds,
        "repeats_bitwise": same,
        "solved": solved,
        "interval": [float(bound) for bound in interval],
        "returns": returns.tolist(),
    }


def main() -> int:
    try:
        config = tyro.cli(Config)
    except (ValueError, TypeError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    console = rich.console.Console(highlight=False)
    device = jax.devices()[0]
    console.print(f"{device.device_kind}, jax {jax.__version__}")
    env = rljax.make("CartPole-v1")
    table = rich.table.Table("seeds", "kernels", "steps/s", "compile, s", "bitwise")
    pace = []
    for num_seeds in config.num_seeds:
        for mode in MODES:
            row = measure(config, env, mode, num_seeds)
            pace.append(row)
            table.add_row(
                f"{num_seeds:,}",
                mode,
                f"{row['steps_per_second'] / 1e6:,.3g} M",
                f"{row['compile_seconds']:.1f}",
                "✓" if row["repeats_bitwise"] else "✗",
            )
    console.print(table)
    judged = [judge(config, env, mode) for mode in MODES]
    for row in judged:
        low, high = row["interval"]
        console.print(
            f"kernels={row['kernels']}: {row['solved']:,} of {len(row['returns']):,} "
            f"seeds solved [{low:.4f}, {high:.4f}], lowest {min(row['returns']):.0f}, "
            f"{row['seconds']:.2f} s"
        )
    if config.output is not None:
        header = {"card": device.device_kind, "jax": jax.__version__}
        content = {"header": header, "pace": pace, "judged": judged}
        config.output.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
