"""gymnax's CartPole-v1 under a uniformly random policy: environment steps alone."""

import gymnax  # pyright: ignore[reportMissingImports]
import jax
import jax.numpy as jnp
import programs
import protocol


def steps(num_envs: int, num_steps: int, seed: int, sample: bool):
    """Its own vectorised loop, which resets by itself; only sums leave the program.

    `sample` lets the action space draw, as its documentation does; else one random word
    decides, as in rljax's loops, which is faster.
    """
    env, params = gymnax.make("CartPole-v1")

    def step(carry, _):
        states, key, episodes, rewards = carry
        key, key_action, key_step = jax.random.split(key, 3)
        if sample:
            keys = jax.random.split(key_action, num_envs)
            actions = jax.vmap(env.action_space(params).sample)(keys)
        else:
            actions = jax.random.bernoulli(key_action, shape=(num_envs,))
            actions = actions.astype(jnp.int32)
        out = jax.vmap(env.step, in_axes=(0, 0, 0, None))(
            jax.random.split(key_step, num_envs), states, actions, params
        )
        # Since 1.0: terminated and truncated; before, done.
        _, states, reward, *ends, _ = out
        done = ends[0] | ends[-1]
        rewards = rewards + reward.astype(jnp.int32)
        return (states, key, episodes + done.astype(jnp.int32), rewards), None

    def play(key):
        key, key_reset = jax.random.split(key)
        reset = jax.vmap(env.reset, in_axes=(0, None))
        _, states = reset(jax.random.split(key_reset, num_envs), params)
        zeros = jnp.zeros(num_envs, jnp.int32)
        start = (states, key, zeros, zeros)
        (_, _, episodes, rewards), _ = jax.lax.scan(step, start, length=num_steps)
        return jnp.sum(episodes), jnp.sum(rewards)

    first = programs.run_key(seed, 0)
    program, facts = programs.compiled(jax.jit(play), first)

    def run(number):
        key = programs.run_key(seed, number)
        seconds, (episodes, rewards) = programs.timed(program, key)
        check = {"episodes": int(episodes), "rewards": int(rewards)}
        return seconds, num_envs * num_steps, check

    return run, facts


if __name__ == "__main__":
    protocol.serve({"steps": steps}, ["gymnax", "jax", "jaxlib"])
