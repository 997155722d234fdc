"""Every random key is used once: a generator that writes down what it is asked for."""

import collections

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend import random as extend

import rljax
from rljax import struct
from rljax.envs.registry import ENVS
from rljax.rlhf import networks as causal
from rljax.rlhf import preferences
from rljax.rlhf.rewards import TableReward
from rljax.tabular import bandits
from rljax.testing.agents import _experience as experience

USES = collections.Counter()


def _note(words, purpose, data):
    USES[(*np.asarray(words).tolist(), purpose, int(data))] += 1


def _ordinary(words):
    return jax.random.wrap_key_data(words, impl="threefry2x32")


def _split(words, shape):
    jax.debug.callback(_note, words, "words", 0)
    return jax.random.key_data(jax.random.split(_ordinary(words), shape))


def _random_bits(words, bit_width, shape):
    jax.debug.callback(_note, words, "words", 0)
    return jax.random.bits(_ordinary(words), shape, jnp.dtype(f"uint{bit_width}"))


def _fold_in(words, data):
    jax.debug.callback(_note, words, "fold", data)
    return jax.random.key_data(jax.random.fold_in(_ordinary(words), data))


NOTING = extend.define_prng_impl(
    key_shape=(2,),
    seed=lambda seed: jax.random.key_data(jax.random.key(seed, impl="threefry2x32")),
    split=_split,
    random_bits=_random_bits,
    fold_in=_fold_in,
    name="threefry2x32_noting",
    tag="noting",
)


def used_more_than_once(function):
    """Keys from which words were drawn twice, or the same number folded in twice."""
    USES.clear()
    jax.block_until_ready(function(jax.random.key(0, impl=NOTING)))
    jax.effects_barrier()
    assert USES
    drawn = {use[:2] for use in USES if use[2] == "words"}
    folded = {use[:2] for use in USES if use[2] == "fold"}
    return [use for use, times in USES.items() if times > 1] + [*(drawn & folded)]


def test_the_generator_notices():
    def twice(key):
        return jax.random.uniform(key), rljax.random.split(key, 8)

    def both_ways(key):
        return jax.random.uniform(key), jax.random.fold_in(key, 3)

    def in_a_loop(key):
        return jax.lax.map(lambda i: jax.random.fold_in(key, i // 2), jnp.arange(4))

    def over_a_batch(key):
        keys = rljax.random.split(key, 4)
        return jax.vmap(jax.random.bits)(keys[jnp.array([0, 1, 2, 2])])

    def once(key):
        keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(jnp.arange(4))
        return jax.vmap(jax.random.bits)(keys)

    for wrong in (twice, both_ways, in_a_loop, over_a_batch):
        assert used_more_than_once(wrong), wrong.__name__
    assert not used_more_than_once(once)


SMALL = {"num_envs": 2, "rollout_length": 4, "hidden_sizes": (4,)}
CARTPOLE = rljax.make("CartPole-v1", max_steps=3)
# Both its resets and its steps draw.
MAZE = rljax.TimeLimit(rljax.GridWorld.from_text("SS\n.G", slip=0.3), 3)
REWARD = TableReward(jnp.arange(8.0).reshape(2, 4), vocabulary_size=2)
TOKENS = rljax.TokenMDP(REWARD, vocabulary_size=2, horizon=2, num_prompts=2)
TABLE = causal.Pair(causal.Table(2, 2, 2), causal.Table(2, 2, 2, outputs=1))
TABULAR = {"exploration": rljax.exploration.EpsilonGreedy(0.5), "rollout_length": 6}


class _RandomTable:
    """The library's own tables begin with numbers, not with draws."""

    def init(self, key, env):
        state = super().init(key, env)
        return state._replace(q_values=jax.random.normal(key, state.q_values.shape))


@struct.dataclass
class RandomTable(_RandomTable, rljax.QLearning):
    pass


@struct.dataclass
class RandomTables(_RandomTable, rljax.DoubleQLearning):
    pass


@struct.dataclass
class RandomDyna(_RandomTable, rljax.DynaQ):
    pass


DOUBLE = RandomTables(num_envs=2, **TABULAR)


def trained(agent, env):
    return lambda key: rljax.train(agent, env, key, num_updates=2)


def evaluated(key):
    """Of one episode: of several, the ended ones go through the motions to the end.

    All values tie, so the agent pushes up for all three steps, and never slips down.
    """
    state = DOUBLE.init(jax.random.key(0), MAZE)
    state = state._replace(q_values=jnp.zeros_like(state.q_values))
    out = rljax.evaluate(DOUBLE, state, MAZE, key, num_episodes=1)
    assert out.episode_lengths.tolist() == [3]
    return out


CASES = {
    "PPO": trained(rljax.PPO(num_minibatches=2, num_epochs=2, **SMALL), CARTPOLE),
    "PPO's encoders": lambda key: rljax.PPO(encoder=rljax.networks.CNN(), **SMALL).init(
        key, rljax.make("MinAtar/Asterix-v1")
    ),
    "Reinforce": trained(rljax.Reinforce(**SMALL), CARTPOLE),
    "DoubleQLearning": trained(DOUBLE, MAZE),
    "DynaQ": trained(RandomDyna(num_envs=2, num_planning_steps=2, **TABULAR), MAZE),
    "Sarsa": trained(rljax.Sarsa(lambda_=0.5, **TABULAR), MAZE),
    "PPOKL": trained(
        rljax.PPOKL(
            num_envs=2,
            rollout_length=2,
            num_minibatches=2,
            num_epochs=2,
            network=TABLE,
        ),
        TOKENS,
    ),
    "evaluate": evaluated,
    "check_agent's experience": jax.jit(
        lambda key: experience(RandomTable(num_envs=2, **TABULAR), MAZE, key)
    ),
    "Transformer.init": lambda key: causal.Transformer(
        2, 2, 2, width=4, num_heads=1, num_blocks=2
    ).init(key, jnp.int32(0)),
    "Box.sample": lambda key: rljax.spaces.Box(0.0, jnp.inf, (2,)).sample(key),
    "play_bandit": lambda key: bandits.play_bandit(
        RandomTable(
            discount=0.0,
            step_size=None,
            exploration=rljax.exploration.ThompsonGaussian(),
        ),
        rljax.GaussianBandit(),
        key,
        num_pulls=3,
    ),
    "sample_preferences": lambda key: preferences.sample_preferences(
        TOKENS, jnp.full((2, 4), jnp.log(0.25)), key, num_pairs=8
    ),
}


# Half a second each.
FAST = (
    "DoubleQLearning",
    "evaluate",
    "check_agent's experience",
    "Transformer.init",
    "Box.sample",
    "play_bandit",
    "sample_preferences",
)


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=() if n in FAST else pytest.mark.slow) for n in CASES],
)
def test_each_key_is_used_once(name):
    assert not used_more_than_once(CASES[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", ENVS)
def test_environments_use_each_key_once(name):
    env = rljax.make(name)

    def played(key):
        key_reset, key_action, key_step, key_draw = jax.random.split(key, 4)
        state, _ = env.reset(key_reset)
        action = env.action_space.sample(key_action)
        return env.step(state, action, key_step), env.draw((3,), key_draw)

    assert not used_more_than_once(played)
