"""Causal networks: what they see, and what they return."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rljax
from rljax import testing
from rljax.rlhf import networks as causal
from rljax.rlhf import sequences
from tests.oracles import causal as oracle

V, H, P = 3, 3, 2
OBS = jnp.zeros((), jnp.int32)
KINDS = [
    causal.Table(V, H, P),
    causal.MLP(V, H, P, hidden_sizes=(16,)),
    causal.Transformer(V, H, P, width=8, num_blocks=2),
]
ALL = pytest.mark.parametrize("network", KINDS, ids=lambda n: type(n).__name__)


def random_params(network, seed=0):
    """Far from the small initial ones, so that everything matters."""
    params = network.init(jax.random.key(seed), OBS)
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(seed + 1), len(leaves))
    noise = [
        x + 0.5 * jax.random.normal(k, x.shape, x.dtype)
        for k, x in zip(keys, leaves, strict=True)
    ]
    return jax.tree.unflatten(tree, noise)


@pytest.mark.parametrize(
    "network",
    [KINDS[0], *(pytest.param(kind, marks=pytest.mark.slow) for kind in KINDS[1:])],
    ids=lambda n: type(n).__name__,
)
def test_it_starts_next_to_uniform_and_tells_prefixes_apart(network):
    obs = jnp.asarray(sequences.unfinished(V, H, P)).reshape(-1)
    apply = jax.jit(jax.vmap(network.apply, (None, 0)))
    first = apply(network.init(jax.random.key(0), OBS), obs)
    assert first.shape == (26, V)
    assert first.dtype == jnp.float32
    np.testing.assert_allclose(jax.nn.softmax(first), 1 / V, atol=0.03)
    rows = np.asarray(apply(random_params(network), obs))
    distances = np.abs(rows[:, None] - rows[None]).max(-1) + 9 * np.eye(26)
    assert distances.min() > 1e-4  # prompt, place and every token count


def test_a_transformer_is_the_one_of_its_equations():
    """For one prefix, without its padding; the slow test below asks for all."""
    network = causal.Transformer(2, 2, width=4)
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(network.init, jax.random.key(0), OBS)
    params = jax.tree.map(lambda x: rng.normal(size=x.shape).astype(x.dtype), shapes)
    as_dict = params._asdict() | {"blocks": [b._asdict() for b in params.blocks]}
    found = jax.jit(network.apply)(params, jnp.int32(2))  # the token 1
    expected = oracle.transformer(as_dict, 0, [1], 2)
    np.testing.assert_allclose(found, expected, rtol=1e-4)


@pytest.mark.slow
def test_the_transformer_sees_its_prefix_and_nothing_else(x64):
    """Equal to one that is given the prefix alone."""
    network = KINDS[2]
    params = random_params(network)
    arrays = jax.tree.map(np.asarray, params)
    as_dict = arrays._asdict() | {"blocks": [b._asdict() for b in arrays.blocks]}
    obs = jnp.arange(sequences.num_shorter(V, H + 1) * P)
    found = jax.jit(jax.vmap(network.apply, (None, 0)))(params, obs)
    prompts, tokens, lengths = jax.vmap(lambda i: sequences.decode(i, V, H))(obs)
    for i in range(0, len(obs), 3):
        prefix = np.asarray(tokens[i])[: int(lengths[i])]
        expected = oracle.transformer(as_dict, int(prompts[i]), prefix, 2)
        np.testing.assert_allclose(found[i], expected, rtol=1e-10)


def test_a_table_has_a_row_for_each_prefix_that_is_not_finished():
    table = KINDS[0]
    params = jnp.arange(P * 13 * V, dtype=float).reshape(P, 13, V)
    obs = sequences.unfinished(V, H, P)
    rows = jax.vmap(jax.vmap(lambda o: table.apply(params, o)))(jnp.asarray(obs))
    np.testing.assert_array_equal(rows, params)
    finished = jnp.int32(obs[0, -1] + 1)
    np.testing.assert_array_equal(table.apply(params, finished), [0, 0, 0])


@pytest.mark.slow
def test_ppo_takes_a_pair():
    pair = causal.Pair(KINDS[1], causal.Table(V, H, P, outputs=1))
    env = rljax.TokenMDP(lambda prompt, tokens: jnp.sum(tokens) * 1.0, V, H, P)
    agent = rljax.PPO(network=pair, num_envs=4, rollout_length=3, num_minibatches=2)
    testing.check_agent(agent, env, jax.random.key(0))


def test_a_pair_is_an_actor_and_a_critic():
    pair = causal.Pair(KINDS[1], causal.Table(V, H, P, outputs=1))
    params = pair.init(jax.random.key(0), OBS)
    logits, value = pair.apply(params, OBS)
    assert (logits.shape, value.shape) == ((V,), ())
    np.testing.assert_array_equal(logits, KINDS[1].apply(params[0], OBS))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: causal.Table(1, H), "Table.vocabulary_size must be at least 2, got 1"),
        (lambda: causal.MLP(V, 0), "MLP.horizon must be at least 1, got 0"),
        (lambda: causal.MLP(V, H, hidden_sizes=(0,)), r"MLP.hidden_sizes\[0\] must be"),
        (lambda: causal.MLP(V, H, activation="gelu"), "MLP.activation must be one of"),
        (lambda: causal.Table(V, H, outputs=0), "Table.outputs must be at least 1"),
        (
            lambda: causal.Transformer(V, H, width=9),
            "Transformer.width must be a multiple of num_heads = 2, got 9",
        ),
    ],
)
def test_bad_sizes_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
    with pytest.raises(TypeError, match="MLP.hidden_sizes must be a tuple of integers"):
        causal.MLP(V, H, hidden_sizes=64)
