"""Modules of flax.nnx and Equinox as networks, as they stand."""

import functools

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import rljax
from rljax import modules, testing
from tests.scenes import Scene

ENV = rljax.make("CartPole-v1")
OBS = jnp.array([0.1, -0.2, 0.3, 0.4])
SMALL = {"num_envs": 2, "rollout_length": 8}


class NnxNet(nnx.Module):
    def __init__(self, rngs, width=5):
        self.hidden = nnx.Linear(4, width, rngs=rngs)
        self.logits = nnx.Linear(width, 2, rngs=rngs)
        self.value = nnx.Linear(width, 1, rngs=rngs)

    def __call__(self, obs):
        x = nnx.relu(self.hidden(obs))
        return self.logits(x), self.value(x).squeeze(-1)


class EqxNet(eqx.Module):
    hidden: eqx.nn.Linear
    logits: eqx.nn.Linear
    value: eqx.nn.Linear
    activation: object

    def __init__(self, key, width=5):
        keys = jax.random.split(key, 3)
        self.hidden = eqx.nn.Linear(4, width, key=keys[0])
        self.logits = eqx.nn.Linear(width, 2, key=keys[1])
        self.value = eqx.nn.Linear(width, "scalar", key=keys[2])
        self.activation = jax.nn.relu

    def __call__(self, obs):
        x = self.activation(self.hidden(obs))
        return self.logits(x), self.value(x)


class Normalised(NnxNet):
    def __init__(self, rngs):
        super().__init__(rngs)
        self.norm = nnx.BatchNorm(4, rngs=rngs)


class WithConstants(EqxNet):
    mean: np.ndarray

    def __init__(self, key):
        super().__init__(key)
        self.mean = np.ones(4)


def positional(key):
    return EqxNet(key)


MAKERS = [
    (NnxNet, lambda key: NnxNet(nnx.Rngs(key))),
    (lambda rngs: NnxNet(rngs, 3), lambda key: NnxNet(nnx.Rngs(key), 3)),
    (functools.partial(NnxNet, width=4), lambda key: NnxNet(nnx.Rngs(key), 4)),
    (EqxNet, EqxNet),
    (lambda seed_key: EqxNet(seed_key, 3), lambda key: EqxNet(key, 3)),
    (positional, EqxNet),
]


@pytest.mark.parametrize(("network", "build"), MAKERS)
def test_what_is_applied_is_the_module_that_the_key_builds(network, build, key):
    agent = rljax.PPO(network=network, num_minibatches=2, **SMALL)
    params = agent.network.init(key, OBS)
    for mine, theirs in zip(
        agent.network.apply(params, OBS), build(key)(OBS), strict=True
    ):
        np.testing.assert_allclose(mine, theirs, rtol=1e-6)
    other = agent.network.init(jax.random.key(7), OBS)
    assert jax.tree.structure(other) == jax.tree.structure(params)
    leaves = zip(jax.tree.leaves(params), jax.tree.leaves(other), strict=True)
    assert all(not np.array_equal(a, b) for a, b in leaves if a.ndim == 2)


@pytest.mark.slow
@pytest.mark.parametrize("network", [NnxNet, EqxNet])
def test_modules_keep_the_contract(network, key):
    testing.check_agent(rljax.ActorCritic(network=network, **SMALL), ENV, key)


@pytest.mark.slow
@pytest.mark.parametrize("network", [NnxNet, EqxNet])
def test_modules_train_side_by_side(network, key):
    agent = rljax.ActorCritic(network=network, **SMALL)
    keys = jax.random.split(key, 3)
    train = jax.vmap(lambda key: rljax.train(agent, ENV, key, num_updates=2))
    state, _ = train(keys)
    start = jax.vmap(lambda key: rljax.init_train(agent, ENV, key))(keys)
    for before, after in zip(
        jax.tree.leaves(start.agent_state.params),
        jax.tree.leaves(state.agent_state.params),
        strict=True,
    ):
        assert before.shape[0] == 3
        assert not np.array_equal(before, after)


def test_equal_networks_are_one_structure():
    # So that a second agent like the first compiles nothing.
    first, second = (rljax.PPO(network=NnxNet) for _ in range(2))
    assert jax.tree.structure(first) == jax.tree.structure(second)
    assert hash(jax.tree.structure(first)) == hash(jax.tree.structure(second))


@pytest.mark.slow
def test_a_swept_module_goes_on_from_its_checkpoint(tmp_path, key):
    checkpoints = rljax.experiment.Checkpoints(tmp_path)
    agent = rljax.ActorCritic(network=EqxNet, **SMALL)
    arguments = {"num_seeds": 2, "checkpoints": checkpoints, "resume": True}
    for num_updates in (1, 2):
        result = rljax.sweep(agent, ENV, key, num_updates=num_updates, **arguments)
    whole = rljax.sweep(agent, ENV, key, num_updates=2, num_seeds=2)
    for mine, theirs in zip(
        jax.tree.leaves(result[0].agent_state.params),
        jax.tree.leaves(whole[0].agent_state.params),
        strict=True,
    ):
        np.testing.assert_array_equal(mine, theirs)


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (Normalised, r"parameters alone, .*; Normalised holds \['norm'\] besides"),
        (lambda key: 5, "must build a module that is called with an .*, built a int"),
        (
            WithConstants,
            r"WithConstants holds a ndarray of float64 \[4\]. Make it",
        ),
        (lambda: NnxNet(nnx.Rngs(0)), "takes 0 positional arguments"),
    ],
)
def test_what_builds_no_network_is_refused(network, message, key):
    agent = rljax.PPO(network=network, num_minibatches=2, **SMALL)
    with pytest.raises(TypeError, match=message):
        rljax.train(agent, ENV, key, num_updates=1)


@pytest.mark.parametrize(
    "network", [NnxNet(nnx.Rngs(0)), EqxNet(jax.random.key(0)), 3], ids=type
)
def test_a_module_that_is_built_already_is_refused_in_few_words(network):
    # Every seed would start from the same parameters.
    with pytest.raises(
        TypeError, match="builds a module of flax.nnx from rngs, or"
    ) as e:
        rljax.PPO(network=network)
    assert len(str(e.value)) < 300


def test_an_init_apply_pair_is_taken_as_it_is():
    class Pair:
        def init(self, key, obs):
            return jnp.zeros(())

        def apply(self, params, obs):
            return jnp.zeros(2), params

    pair = Pair()
    assert rljax.PPO(network=pair).network is pair
    assert isinstance(rljax.PPO(network=EqxNet).network, modules.Built)


def floating(picture):
    """Bytes as `network` gets them, or what an encoder gets, already scaled."""
    scale = 200.0 if picture.dtype == jnp.uint8 else 1.0
    return picture.astype(jnp.float32) / scale


class LinenEncoder(nn.Module):
    """A picture's features, with what else is observed."""

    @nn.compact
    def __call__(self, obs):
        if not isinstance(obs, dict):
            return nn.tanh(nn.Conv(4, (3, 3), padding="VALID")(floating(obs)))
        features = nn.tanh(nn.Conv(4, (3, 3))(floating(obs["picture"])))
        mode = nn.Embed(3, 2)(obs["mode"])
        return jnp.concatenate([features.ravel(), obs["place"], mode])


class LinenNet(nn.Module):
    @nn.compact
    def __call__(self, obs):
        x = LinenEncoder()(obs).ravel()
        return nn.Dense(2)(x), nn.Dense(1)(x).squeeze(-1)


class NnxEncoder(nnx.Module):
    def __init__(self, rngs):
        self.convolution = nnx.Conv(2, 4, (3, 3), padding="VALID", rngs=rngs)
        self.embedding = nnx.Embed(3, 2, rngs=rngs)

    def __call__(self, obs):
        if not isinstance(obs, dict):
            return nnx.tanh(self.convolution(floating(obs)[None])[0])
        features = nnx.tanh(self.convolution(floating(obs["picture"])[None])[0])
        mode = self.embedding(obs["mode"])
        return jnp.concatenate([features.ravel(), obs["place"], mode])


class NnxPictureNet(nnx.Module):
    def __init__(self, rngs, inputs=24):
        self.encoder = NnxEncoder(rngs)
        self.heads = nnx.Linear(inputs, 3, rngs=rngs)

    def __call__(self, obs):
        out = self.heads(self.encoder(obs).ravel())
        return out[:2], out[2]


class EqxEncoder(eqx.Module):
    convolution: eqx.nn.Conv2d
    embedding: eqx.nn.Embedding

    def __init__(self, key):
        keys = jax.random.split(key)
        self.convolution = eqx.nn.Conv2d(2, 4, 3, key=keys[0])
        self.embedding = eqx.nn.Embedding(3, 2, key=keys[1])

    def __call__(self, obs):
        picture = obs["picture"] if isinstance(obs, dict) else obs
        channels_first = jnp.moveaxis(floating(picture), -1, 0)
        features = jnp.tanh(self.convolution(channels_first))
        if not isinstance(obs, dict):
            return features
        mode = self.embedding(obs["mode"])
        return jnp.concatenate([features.ravel(), obs["place"], mode])


class EqxPictureNet(eqx.Module):
    encoder: EqxEncoder
    heads: eqx.nn.Linear

    def __init__(self, key, inputs=24):
        keys = jax.random.split(key)
        self.encoder = EqxEncoder(keys[0])
        self.heads = eqx.nn.Linear(inputs, 3, key=keys[1])

    def __call__(self, obs):
        out = self.heads(self.encoder(obs).ravel())
        return out[:2], out[2]


def settings(library, kind):
    """A library's module as `network` and as `encoder`, for observations of a kind."""
    inputs = {"picture": 24, "tree": 29}[kind]
    network, encoder = {
        "linen": (LinenNet(), LinenEncoder()),
        "nnx": (functools.partial(NnxPictureNet, inputs=inputs), NnxEncoder),
        "equinox": (lambda key: EqxPictureNet(key, inputs), EqxEncoder),
    }[library]
    return {"network": network}, {"encoder": encoder}


LIBRARIES = pytest.mark.parametrize("library", ["linen", "nnx", "equinox"])
KINDS = pytest.mark.parametrize("kind", ["picture", "tree"])


@LIBRARIES
@KINDS
def test_modules_read_pictures_and_trees_as_network_and_as_encoder(library, kind, key):
    env = Scene(kind)

    def started(key, given):
        agent = rljax.PPO(num_minibatches=2, **SMALL, **given)
        state = agent.init(key, env)
        obs = env.reset(key)[1]
        return agent.greedy(state, obs), agent.value(state, obs)

    for given in settings(library, kind):
        out = jax.eval_shape(lambda key, given=given: started(key, given), key)
        assert [x.shape for x in out] == [(), ()]


@pytest.mark.slow
@LIBRARIES
@pytest.mark.parametrize(
    ("kind", "role"), [("tree", 0), ("picture", 1)], ids=["network", "encoder"]
)
def test_modules_learn_to_see(library, kind, role, key):
    agent = rljax.PPO(
        num_envs=32,
        rollout_length=8,
        hidden_sizes=(16,),
        learning_rate=5e-3,
        **settings(library, kind)[role],
    )
    env = Scene(kind)
    state, _ = rljax.train(agent, env, key, num_updates=80)
    out = rljax.evaluate(agent, state.agent_state, env, key, num_episodes=200)
    assert out.episode_returns.mean() > 0.9
