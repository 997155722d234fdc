"""What makes training fast, as structure: counts of operations and bytes, not times.

A time depends on the machine. That a random word is drawn in the wrong loop, that a
minibatch step sorts or scatters, or that a metric grows with the steps shows in the
program itself, whatever it runs on.
"""

import dataclasses
import math
import re
from collections import Counter

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest

import rljax
from rljax.tabular.exploration import EpsilonGreedy

ENV = rljax.make("CartPole-v1")
PPO = rljax.PPO(num_envs=2, rollout_length=8, hidden_sizes=(4, 4), num_minibatches=2)
LOOPS = {"scan", "while"}
DRAWS = {"random_bits", "random_split", "random_fold_in", "random_gamma"}


def operations(jaxpr, loops=()):
    """(name, lengths of the loops around it) of every operation in a program."""
    for equation in jaxpr.eqns:
        name = equation.primitive.name
        yield name, loops
        inside = loops
        if name in LOOPS:
            inside = (*loops, equation.params.get("length"))
        for value in jax.tree.leaves(
            list(equation.params.values()), is_leaf=lambda x: hasattr(x, "eqns")
        ):
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                yield from operations(inner, inside)


def counts(fn, *args):
    """How often each operation stands in loops of these lengths: {loops: Counter}."""
    found = {}
    for name, loops in operations(jax.make_jaxpr(fn)(*args).jaxpr):
        found.setdefault(loops, Counter())[name] += 1
    return found


def draws(found, loops):
    here = found.get(loops, Counter())
    drawn = {name: n for name, n in here.items() if name in DRAWS}
    # `random.uniform` computes its words itself: twenty rotations for two of them.
    pairs = here["shift_left"] / 20
    return drawn | ({"pair of words": pairs} if pairs else {})


@pytest.fixture(scope="module")
def ppo():
    def train(key):
        return rljax.train(PPO, ENV, key, num_updates=5)

    return counts(train, rljax.random.key(0))


UPDATE, ROLLOUT, EPOCH = (5,), (5, 8), (5, 4)
MINIBATCH = (*EPOCH, 2)


def test_ppo_is_five_loops(ppo):
    # The updates; in them the rollout, the advantages' way back, and the epochs; in
    # those the minibatches. Initialisation has one more, over a kernel's columns.
    assert ppo[UPDATE]["scan"] == 3
    assert {loops for loops in ppo if loops[:1] == UPDATE} == {
        UPDATE,
        ROLLOUT,
        EPOCH,
        MINIBATCH,
    }
    assert sum(found["scan"] + found["while"] for found in ppo.values()) == 6


def test_ppo_draws_one_word_a_decision_and_none_in_a_minibatch(ppo):
    assert draws(ppo, ROLLOUT) == {"pair of words": 1}
    assert draws(ppo, EPOCH) == {"random_bits": 1}
    assert draws(ppo, MINIBATCH) == {}


def test_ppo_sorts_once_an_epoch_and_scatters_once_a_minibatch(ppo):
    assert [loops for loops, found in ppo.items() if found["sort"]] == [EPOCH]
    assert ppo[EPOCH]["sort"] == 1
    for loops in (UPDATE, ROLLOUT, EPOCH, MINIBATCH):
        scatters = [name for name in ppo[loops] if name.startswith("scatter")]
        # That one is the gradient of log π(a).
        assert scatters == ["scatter-add"] * (loops == MINIBATCH)


def test_a_minibatch_step_has_the_matrix_products_it_needs(ppo):
    # Two networks of three layers: forward 6, to the weights 6, to the inputs 4.
    assert ppo[MINIBATCH]["dot_general"] == 16
    # Adam and the norm see one vector: three roots would be one for each of 12 arrays.
    assert ppo[MINIBATCH]["sqrt"] <= 4


@pytest.mark.parametrize("num_envs", [1, 3])
def test_tabular_learning_draws_ahead_of_its_loop(num_envs):
    agent = rljax.QLearning(
        exploration=EpsilonGreedy(0.1), num_envs=num_envs, rollout_length=7
    )
    env = rljax.make("GridWorld-5x5")
    found = counts(
        lambda key: rljax.train(agent, env, key, num_updates=5), rljax.random.key(0)
    )
    assert found[(5, 7)]["select_n"]  # it is the loop over steps
    assert draws(found, (5, 7)) == {}


def test_words_are_drawn_without_a_loop():
    def draw(key):
        keys = jax.random.split(key, 3)
        return jax.random.uniform(keys[0]), jax.random.permutation(keys[1], 8)

    def loops(key):
        return jax.jit(draw).lower(key).as_text().count("stablehlo.while")

    assert loops(rljax.random.key(0)) == 0
    # What it is there for; should JAX stop lowering to a loop, it can go.
    assert loops(jax.random.key(0)) > 0


def words_drawn(compiled):
    """How many words the kernels of a compiled program draw when each runs once."""
    words = 0
    for computation in compiled.as_text().split("\n\n"):
        # Threefry's twenty rounds shift to the left once each; the last round of a
        # block's first half is left out.
        if computation.count(" shift-left(") >= 19:
            shape = re.search(r"ROOT \S+ = \w+\[([\d,]*)\]", computation)
            words += math.prod(int(n) for n in shape[1].split(",") if n)
    return words


def reset(key):
    return jax.vmap(ENV.reset)(jax.random.split(key, 64))


def shuffle(key):
    order = rljax.random.permutation(key, 64)
    return [x[order] for x in (jnp.arange(64.0), jnp.zeros((64, 2)), jnp.ones(64))]


def split(key):
    keys = jax.random.split(key, 64)
    return jax.random.key_data(keys), jax.vmap(jax.random.uniform)(keys)


@pytest.mark.skipif(
    jax.default_backend() != "cpu", reason="reads what XLA's CPU compiler makes"
)
@pytest.mark.parametrize(
    ("fn", "words"),
    [
        (reset, 64 * (2 + 4)),  # keys, and the four numbers of state and observation
        (shuffle, 64 + 1),
        (split, 64 * (2 + 1)),
    ],
)
def test_every_word_is_drawn_once(fn, words):
    assert words_drawn(jax.jit(fn).lower(rljax.random.key(0)).compile()) == words


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
@pytest.mark.parametrize("agent", [PPO, rljax.QLearning()], ids=["ppo", "q_learning"])
def test_training_needs_nothing_of_an_accelerator_but_xla(agent, platform):
    # No library's routine, no call of the host. JAX lowers for machines not at hand.
    env = ENV if agent is PPO else rljax.make("GridWorld-5x5")

    def train(words):
        key = jax.random.wrap_key_data(words)
        train_state, metrics = rljax.train(agent, env, key, num_updates=5)
        return train_state.agent_state, metrics

    words = jax.ShapeDtypeStruct((2,), jnp.uint32)
    exported = jax.export.export(jax.jit(train), platforms=[platform])(words)
    module = exported.mlir_module()
    assert "stablehlo.while" in module  # it is the training
    assert "custom_call" not in module


def test_metrics_are_scalars_an_update():
    def metrics(agent, num_updates):
        out = jax.eval_shape(
            lambda key: rljax.train(agent, ENV, key, num_updates=num_updates),
            jax.random.key(0),
        )[1]
        leaves = jax.tree.leaves(out)
        assert {leaf.shape for leaf in leaves} == {(num_updates,)}
        return sum(leaf.size * leaf.dtype.itemsize for leaf in leaves)

    few = metrics(PPO, 10)
    assert few <= 10 * 10 * 4
    assert metrics(PPO, 1000) == 100 * few
    larger = dataclasses.replace(PPO, num_envs=64, rollout_length=128)
    assert metrics(larger, 10) == few


def test_training_compiles_once_for_all_numbers():
    compiled, listening = [], False

    def listen(event, duration, **_):
        if listening and event == "/jax/core/compile/backend_compile_duration":
            compiled.append(duration)

    jax.monitoring.register_event_duration_secs_listener(listen)
    key = jax.random.key(0)
    listening = True
    rljax.train(PPO, ENV, key, num_updates=2)
    assert compiled  # the event is still called so
    compiled.clear()
    listening = False
    agents = [
        dataclasses.replace(PPO, learning_rate=jnp.float32(0.1)),
        dataclasses.replace(PPO, learning_rate=1, discount=0, gae_lambda=np.float64(1)),
        dataclasses.replace(PPO, entropy_coef=0.5),
    ]
    listening = True
    for agent in agents:
        rljax.train(agent, ENV, key, num_updates=2)
    listening = False
    assert compiled == []
