"""gymnax's environments under a uniformly random policy: environment steps alone."""

import gymnax  # pyright: ignore[reportMissingImports]
import jax
import jax.numpy as jnp
import programs
import protocol


def steps(env: str, num_envs: int, num_steps: int, seed: int, sample: bool):
    """Its own vectorised loop, which resets by itself; only sums over steps leave it.

    `sample` lets the action space draw, as its documentation does; else one random word
    decides, as in rljax's loops, which is faster.
    """
    game, params = gymnax.make(env)
    space = game.action_space(params)

    def act(key):
        if sample:
            return jax.vmap(space.sample)(jax.random.split(key, num_envs))
        draws = jax.random.uniform(key, (num_envs, *space.shape))
        if isinstance(space, gymnax.environments.spaces.Discrete):
            return (draws * space.n).astype(jnp.int32)
        return space.low + draws * (space.high - space.low)

    def step(carry, _):
        states, key, episodes, rewards = carry
        key, key_action, key_step = jax.random.split(key, 3)
        out = jax.vmap(game.step, in_axes=(0, 0, 0, None))(
            jax.random.split(key_step, num_envs), states, act(key_action), params
        )
        # Since 1.0: terminated and truncated; before, done.
        _, states, reward, *ends, _ = out
        done = ends[0] | ends[-1]
        rewards = rewards + reward
        return (states, key, episodes + done.astype(jnp.int32), rewards), None

    def play(key):
        key, key_reset = jax.random.split(key)
        reset = jax.vmap(game.reset, in_axes=(0, None))
        _, states = reset(jax.random.split(key_reset, num_envs), params)
        start = (states, key, jnp.zeros(num_envs, jnp.int32), jnp.zeros(num_envs))
        (_, _, episodes, rewards), _ = jax.lax.scan(step, start, length=num_steps)
        return episodes, rewards

    first = programs.run_key(seed, 0)
    program, facts = programs.compiled(jax.jit(play), first)

    def run(number):
        key = programs.run_key(seed, number)
        seconds, (episodes, rewards) = programs.timed(program, key)
        return seconds, num_envs * num_steps, programs.sums(episodes, rewards)

    return run, facts


if __name__ == "__main__":
    protocol.serve({"steps": steps}, ["gymnax", "jax", "jaxlib"])
