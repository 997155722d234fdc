"""What the workers that use JAX share: compiling, timing, and their random keys."""

import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np


def compiled(fn: Any, *args: Any) -> tuple[Any, dict[str, Any]]:
    """A jitted function's program for `args`, and how long it took to make.

    It has run once: the first run of a program sets up what later ones find.
    """
    start = time.perf_counter()
    lowered = fn.lower(*args)
    traced = time.perf_counter()
    program = lowered.compile()
    facts = {
        "trace_seconds": traced - start,
        "compile_seconds": time.perf_counter() - traced,
        **devices(),
    }
    jax.block_until_ready(program(*args))
    return program, facts


def devices() -> dict[str, Any]:
    """Where JAX runs."""
    kinds = sorted({device.device_kind for device in jax.devices()})
    return {
        "platform": jax.default_backend(),
        "devices": f"{jax.device_count()} × {', '.join(kinds)}",
    }


def timed(fn: Any, *args: Any) -> tuple[float, Any]:
    """Seconds until all of the result is there, and the result."""
    jax.block_until_ready(args)
    start = time.perf_counter()
    out = jax.block_until_ready(fn(*args))
    return time.perf_counter() - start, out


def sums(episodes: jax.Array, rewards: jax.Array) -> dict[str, Any]:
    """What a rollout's check looks at; each environment's own sums are exact enough."""
    total = float(np.sum(rewards, dtype=np.float64))
    return {"episodes": int(np.sum(episodes)), "rewards": total}


def judged(
    score: Callable[[Any, jax.Array], jax.Array],
    states: Any,
    seeds: int,
    key: jax.Array,
) -> float:
    """The mean score of the first eight of as many trained agents."""
    if seeds == 1:
        return float(score(states, key))
    keys = jax.random.split(key, min(seeds, 8))
    some = (jax.tree.map(lambda x, i=i: x[i], states) for i in range(len(keys)))
    scores = [float(score(*both)) for both in zip(some, keys, strict=True)]
    return sum(scores) / len(scores)


def run_key(seed: int, number: int) -> jax.Array:
    """Another key for every run, and for every seed."""
    return jax.random.fold_in(jax.random.key(seed), number)
