"""rljax's PPO: speed, time to a solution, growth and determinism."""

import dataclasses
import functools
import hashlib
from typing import Any

import jax
import numpy as np
import programs
import protocol

import rljax
from rljax import parallel
from rljax.experiment.presets import purejaxrl_settings


def matched(settings: dict[str, Any]) -> rljax.PPO:
    """PPO as near to rejax's as its settings go."""
    return dataclasses.replace(
        purejaxrl_settings(),
        anneal_updates=None,
        adam_epsilon=1e-8,
        num_envs=settings["num_envs"],
        rollout_length=settings["num_steps"],
        num_epochs=settings["num_epochs"],
        num_minibatches=settings["num_minibatches"],
        learning_rate=settings["learning_rate"],
        discount=settings["discount"],
        entropy_coef=settings["entropy_coef"],
        normalize_observations=settings["normalize"],
        normalize_rewards=settings["normalize"],
        squash=False,
    )


def ppo(
    env: str,
    num_seeds: int,
    num_updates: int,
    seed: int,
    settings: dict[str, Any],
    options: dict[str, Any] | None = None,
    **layout: Any,
):
    """Training from scratch, and then the first seeds' greedy returns, not timed.

    `options` are the environment's, `layout` arguments of `parallel.map_seeds`.
    """
    use_cores(num_seeds)
    agent, game = matched(settings), rljax.make(env, **(options or {}))

    def train(key):
        state, metrics = rljax.train(agent, game, key, num_updates=num_updates)
        return state.agent_state, metrics

    def mean_return(state, key):
        found = rljax.evaluate(agent, state, game, key, num_episodes=100)
        return found.episode_returns.mean()

    def keys(number):
        key = programs.run_key(seed, number)
        return key if num_seeds == 1 else jax.random.split(key, num_seeds)

    one = num_seeds == 1
    mapped = jax.jit(train) if one else parallel.map_seeds(train, **layout)
    program, facts = programs.compiled(mapped, keys(0))

    def run(number):
        seconds, (states, _) = programs.timed(program, keys(number))
        states = jax.tree.map(np.asarray, states)
        key = programs.run_key(seed + 1, number)
        score = programs.judged(mean_return, states, num_seeds, key)
        done = int(np.unique(states.num_updates).item())
        steps = done * agent.num_envs * agent.rollout_length
        check = {"return": score, "steps": steps, "digest": sha(states)}
        return seconds, num_seeds * steps, check

    return run, facts


def profile(num_seeds: int, seed: int, settings: dict[str, Any], folder: str):
    """One update after the first, traced into `folder`."""
    use_cores(num_seeds)
    agent, env = matched(settings), rljax.make("CartPole-v1")
    init = parallel.map_seeds(functools.partial(rljax.init_train, agent, env))
    states = init(jax.random.split(programs.run_key(seed, 0), num_seeds))
    advance = parallel.map_seeds(functools.partial(rljax.train_step, agent, env))
    program, facts = programs.compiled(advance, states)

    def run(number):
        with jax.profiler.trace(folder):
            seconds, _ = programs.timed(program, states)
        return seconds, num_seeds * agent.num_envs * agent.rollout_length, {}

    return run, facts


def use_cores(num_seeds: int) -> None:
    """All of them for many seeds; one thread for one, which is faster so."""
    one = num_seeds == 1
    parallel.use_cpu_cores(1 if one else None, num_threads=1 if one else None)


def sha(tree: Any) -> str:
    """Equal for trees whose every bit is equal."""
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves(tree):
        digest.update(np.asarray(leaf).tobytes())
    return digest.hexdigest()[:16]


def solve(
    seed: int, threshold: float, chunk: int, max_updates: int, settings: dict[str, Any]
):
    """Trains until 100 fresh greedy episodes have a mean return of `threshold`."""
    use_cores(1)
    agent, env = matched(settings), rljax.make("CartPole-v1")

    @jax.jit
    def advance(state):
        step = functools.partial(rljax.train_step, agent, env)
        return jax.lax.scan(lambda state, _: step(state), state, length=chunk)[0]

    @jax.jit
    def mean_return(state, key):
        found = rljax.evaluate(agent, state, env, key, num_episodes=100)
        return found.episode_returns.mean()

    def train():
        key, key_train = jax.random.split(jax.random.key(seed))
        state = jax.jit(functools.partial(rljax.init_train, agent, env))(key_train)
        score = 0.0
        for _ in range(chunk, max_updates + 1, chunk):
            state = advance(state)
            key, key_evaluate = jax.random.split(key)
            score = float(mean_return(state.agent_state, key_evaluate))
            if score >= threshold:
                break
        return int(state.agent_state.num_updates), score

    def run(number):
        seconds, (updates, score) = programs.timed(train)
        steps = updates * agent.num_envs * agent.rollout_length
        return seconds, steps, {"return": score, "steps": steps}

    return run, programs.devices()


if __name__ == "__main__":
    protocol.serve(
        {"ppo": ppo, "solve": solve, "profile": profile},
        ["jax", "jaxlib", "optax", "chex"],
    )
