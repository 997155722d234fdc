"""rljax's CartPole-v1 under a uniformly random policy: environment steps alone."""

import jax
import jax.numpy as jnp
import programs
import protocol

import rljax
from rljax import parallel, rollout, struct

WORDS_PER_STEP = 6
"""Of `unroll`: one decides, one that is both halves of a key and four are a start."""
NOISE_AT_ONCE = 2**15
"""Steps whose noise a device draws at once: few enough to stay in a core's cache."""
FEWEST_STEPS = 16
"""Of each environment whose noise is drawn at once, however many environments."""


@struct.dataclass
class RandomPolicy(rljax.Agent):
    """Pushes left or right, a random word for each decision; learns nothing."""

    def init(self, key, env):
        """Nothing."""
        return ()

    def update(self, state, trajectory, key):
        """Nothing."""
        return state, {}

    def draw(self, state, shape, key):
        """The words of many decisions."""
        del state
        return jax.random.bits(key, shape)

    def decide(self, state, obs, noise, memory=()):
        """The highest bit."""
        del state, obs
        return (noise >> 31).astype(jnp.int32), (), memory


def unroll(num_envs: int, num_steps: int, seed: int):
    """`rollout.unroll`, as training calls it; only sums leave the program."""
    env = rljax.make("CartPole-v1")
    policy = RandomPolicy()
    share = num_envs // groups(num_envs)
    length = min(num_steps, max(FEWEST_STEPS, NOISE_AT_ONCE // share))
    num_chunks = num_steps // length  # all of them powers of two

    def one_group(key):
        # The policy draws with jax.random itself: from a key that is fast there too.
        key_start, key_unroll = jax.random.split(rljax.random.unrolled(key))
        starts = jax.random.split(key_start, share)
        states = jax.vmap(lambda key: rollout.start(env, key))(starts)

        def chunk(states, key):
            def steps(state, key):
                state, _, sums = rollout.unroll(
                    policy, None, env, state, key, length=length
                )
                return state, sums

            states, sums = jax.vmap(steps)(states, jax.random.split(key, share))
            return states, (total(sums.num_episodes), total(sums.episode_return_sum))

        keys = jax.random.split(key_unroll, num_chunks)
        states, (episodes, rewards) = jax.lax.scan(chunk, states, keys)
        # The episodes that still run have earned rewards too: one for every step.
        return total(episodes), total(rewards) + total(states.episode_return.value)

    work = num_envs * num_chunks * length
    run, facts = prepared(one_group, groups(num_envs), work, seed)
    return run, facts | {"words_per_step": WORDS_PER_STEP}


def by_hand(num_envs: int, num_steps: int, seed: int, fast_keys: bool):
    """The loop that a user writes with `env.step`, `env.reset` and split keys."""
    env = rljax.make("CartPole-v1")
    share = num_envs // groups(num_envs)

    def one_env(key):
        key, key_reset = jax.random.split(key)
        state, _ = env.reset(key_reset)

        def step(carry, _):
            state, key, episodes, rewards = carry
            key, key_action, key_step, key_reset = jax.random.split(key, 4)
            action = jax.random.bernoulli(key_action).astype(jnp.int32)
            state, time_step = env.step(state, action, key_step)
            done = time_step.terminated | time_step.truncated
            fresh, _ = env.reset(key_reset)
            state = jax.tree.map(lambda a, b: jnp.where(done, a, b), fresh, state)
            rewards = rewards + time_step.reward.astype(jnp.int32)
            return (state, key, episodes + done.astype(jnp.int32), rewards), None

        zero = jnp.zeros((), jnp.int32)
        start = (state, key, zero, zero)
        (_, _, episodes, rewards), _ = jax.lax.scan(step, start, length=num_steps)
        return episodes, rewards

    def one_group(key):
        if fast_keys:
            key = rljax.random.unrolled(key)
        sums = jax.vmap(one_env)(jax.random.split(key, share))
        return jax.tree.map(total, sums)

    return prepared(one_group, groups(num_envs), num_envs * num_steps, seed)


def groups(num_envs: int) -> int:
    """One for each device."""
    return min(jax.device_count(), num_envs)


def total(x: jax.Array) -> jax.Array:
    """Exact, as CartPole's rewards and returns are whole numbers."""
    return jnp.sum(x.astype(jnp.int32), dtype=jnp.int32)


def prepared(one_group, num_groups: int, work: int, seed: int):
    """A run of all groups, one on each device."""

    def keys(number):
        return jax.random.split(programs.run_key(seed, number), num_groups)

    program, facts = programs.compiled(parallel.map_seeds(one_group), keys(0))

    def run(number):
        seconds, (episodes, rewards) = programs.timed(program, keys(number))
        check = {"episodes": int(episodes.sum()), "rewards": int(rewards.sum())}
        return seconds, work, check

    return run, facts


if __name__ == "__main__":
    parallel.use_cpu_cores()
    protocol.serve(
        {"unroll": unroll, "by_hand": by_hand}, ["jax", "jaxlib", "optax", "chex"]
    )
