"""rljax's RLOO on token problems small enough that the optimum is known."""

import jax
import programs
import protocol

import rljax
from rljax import parallel
from rljax.rlhf import networks, optimum, rewards


def rloo(num_seeds: int, num_updates: int, seed: int):
    """Training from scratch, and then every seed's gap from the optimum, not timed."""
    reward = rewards.BigramReward.random(8, 4, jax.random.key(0))
    env = rljax.TokenMDP(reward, vocabulary_size=8, horizon=4)
    agent = rljax.RLOO(
        network=networks.Table(8, 4), kl_coef=0.2, anneal_updates=num_updates
    )

    def train(key):
        state, _ = rljax.train(agent, env, key, num_updates=num_updates)
        return state.agent_state

    @jax.jit
    @jax.vmap
    def gap(state):
        found = optimum.measure(agent, env, state)
        return found["exact_gap"] / abs(found["exact_optimum"])

    def keys(number):
        return jax.random.split(programs.run_key(seed, number), num_seeds)

    program, facts = programs.compiled(parallel.map_seeds(train), keys(0))

    def run(number):
        seconds, states = programs.timed(program, keys(number))
        gaps = gap(states)
        check = {"mean_gap": float(gaps.mean()), "largest_gap": float(gaps.max())}
        return seconds, num_seeds * num_updates * agent.num_envs, check

    return run, facts


if __name__ == "__main__":
    parallel.use_cpu_cores()
    protocol.serve({"rloo": rloo}, ["jax", "jaxlib", "optax", "chex"])
