"""rljax's environments under a uniformly random policy: environment steps alone."""

import jax
import jax.numpy as jnp
import programs
import protocol

import rljax
from rljax import parallel, rollout, struct

WORDS_PER_STEP = 6
"""Of CartPole: one decides, one that is both halves of a key and four are a start."""
NOISE_AT_ONCE = 2**15
"""Steps whose noise a device draws at once: few enough to stay in a core's cache."""
FEWEST_STEPS = 16
"""Of each environment whose noise is drawn at once, however many environments."""


@struct.dataclass
class RandomPolicy(rljax.Agent):
    """A random word for each number of an action; learns nothing."""

    def init(self, key, env):
        """The actions that there are."""
        return env.action_space

    def update(self, state, trajectory, key):
        """Nothing."""
        return state, {}

    def draw(self, state, shape, key):
        """The words of many decisions."""
        return jax.random.bits(key, (*shape, *state.shape))

    def decide(self, state, obs, noise, memory=()):
        """As far from the least action to the largest as 24 bits from 0 to 1."""
        del obs
        bits = noise >> 8
        if isinstance(state, rljax.spaces.Discrete):
            return ((bits * state.n) >> 24).astype(jnp.int32), (), memory
        part = bits.astype(float) * 2.0**-24
        return state.low + part * (state.high - state.low), (), memory


def unroll(env: str, num_envs: int, num_steps: int, seed: int):
    """`rollout.unroll`, as training calls it; only sums over steps leave it."""
    game, policy = rljax.make(env), RandomPolicy()
    share = num_envs // groups(num_envs)
    length = min(num_steps, max(FEWEST_STEPS, NOISE_AT_ONCE // share))
    num_chunks = num_steps // length  # all of them powers of two

    def one_group(key):
        # The policy draws with jax.random itself: from a key that is fast there too.
        key_start, key_unroll = jax.random.split(rljax.random.unrolled(key))
        starts = jax.random.split(key_start, share)
        states = jax.vmap(lambda key: rollout.start(game, key))(starts)

        def chunk(carry, key):
            states, episodes, rewards = carry

            def steps(state, key):
                state, _, sums = rollout.unroll(
                    policy, game.action_space, game, state, key, length=length
                )
                return state, sums

            states, sums = jax.vmap(steps)(states, jax.random.split(key, share))
            rewards += sums.episode_return_sum
            return (states, episodes + sums.num_episodes, rewards), None

        keys = jax.random.split(key_unroll, num_chunks)
        start = (states, jnp.zeros(share, jnp.int32), jnp.zeros(share))
        (states, episodes, rewards), _ = jax.lax.scan(chunk, start, keys)
        # The episodes that still run have earned rewards too.
        return episodes, rewards + states.episode_return.value

    work = num_envs * num_chunks * length
    run, facts = prepared(one_group, groups(num_envs), work, seed)
    known = {"words_per_step": WORDS_PER_STEP} if env == "CartPole-v1" else {}
    return run, facts | known


def by_hand(num_envs: int, num_steps: int, seed: int, fast_keys: bool):
    """The loop that a user writes for CartPole, with split keys for step and reset."""
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
            rewards = rewards + time_step.reward
            return (state, key, episodes + done.astype(jnp.int32), rewards), None

        start = (state, key, jnp.zeros((), jnp.int32), jnp.zeros(()))
        (_, _, episodes, rewards), _ = jax.lax.scan(step, start, length=num_steps)
        return episodes, rewards

    def one_group(key):
        if fast_keys:
            key = rljax.random.unrolled(key)
        return jax.vmap(one_env)(jax.random.split(key, share))

    return prepared(one_group, groups(num_envs), num_envs * num_steps, seed)


def groups(num_envs: int) -> int:
    """One for each device."""
    return min(jax.device_count(), num_envs)


def prepared(one_group, num_groups: int, work: int, seed: int):
    """A run of all groups, one on each device."""

    def keys(number):
        return jax.random.split(programs.run_key(seed, number), num_groups)

    program, facts = programs.compiled(parallel.map_seeds(one_group), keys(0))

    def run(number):
        seconds, (episodes, rewards) = programs.timed(program, keys(number))
        return seconds, work, programs.sums(episodes, rewards)

    return run, facts


if __name__ == "__main__":
    parallel.use_cpu_cores()
    protocol.serve(
        {"unroll": unroll, "by_hand": by_hand}, ["jax", "jaxlib", "optax", "chex"]
    )
