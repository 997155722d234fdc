"""Networks: initial distributions, the forward pass, and networks of the user's."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rljax
from rljax import networks, spaces, struct
from tests.conftest import enable_x64
from tests.oracles import networks as oracle
from tests.scenes import Scene


def test_he_normal_has_variance_2_over_inputs(key):
    layer = networks.he_normal(400, 300, key)
    np.testing.assert_allclose(layer.kernel.var(), 2 / 400, rtol=0.02)
    # Not a truncated normal: the tails beyond three deviations are there.
    beyond = np.abs(layer.kernel) > 3 * (2 / 400) ** 0.5
    np.testing.assert_allclose(beyond.mean(), 0.0027, rtol=0.15)
    np.testing.assert_array_equal(layer.bias, 0.0)


@pytest.mark.parametrize("shape", [(64, 64), (4, 64), (64, 2), (1, 3)])
def test_orthogonal(key, shape):
    kernel = networks.orthogonal(*shape, 3.0, key).kernel
    gram = kernel.T @ kernel if shape[0] >= shape[1] else kernel @ kernel.T
    np.testing.assert_allclose(gram, 9 * np.eye(min(shape)), atol=2e-5)


def test_gram_schmidt_is_the_q_of_qr(key):
    matrix = jax.random.normal(key, (50, 20))
    q, r = np.linalg.qr(np.asarray(matrix))
    expected = q * np.sign(np.diag(r))
    np.testing.assert_allclose(
        networks.orthonormal_columns(matrix), expected, atol=1e-5
    )


def test_gram_schmidt_keeps_orthogonality_of_an_ill_conditioned_matrix(key):
    # Columns equal but for 1e-4: a single projection would lose half of the digits.
    base = jax.random.normal(key, (30, 1))
    matrix = base + 1e-4 * jax.random.normal(jax.random.fold_in(key, 1), (30, 8))
    q = networks.orthonormal_columns(matrix)
    np.testing.assert_allclose(q.T @ q, np.eye(8), atol=1e-5)


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_forward_pass_equals_numpy(key, activation):
    layers = networks.mlp_init((3, 5, 2), key)
    x = np.array([0.3, -1.0, 2.0], np.float32)
    function = {"relu": lambda z: np.maximum(z, 0), "tanh": np.tanh}[activation]
    hidden = function(x @ layers[0].kernel + layers[0].bias)
    expected = hidden @ layers[1].kernel + layers[1].bias
    out = networks.mlp_apply(layers, jnp.asarray(x), activation)
    np.testing.assert_allclose(out, expected, rtol=1e-5)


def test_an_integer_observation_stands_for_its_one_hot_vector(key):
    params = networks.actor_critic_init(6, 3, (8,), key, shared=True)
    logits, value = networks.actor_critic_apply(params, jnp.int32(4), "relu")
    expected = networks.actor_critic_apply(params, jnp.eye(6)[4], "relu")
    np.testing.assert_allclose(logits, expected[0], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(value, expected[1], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("hidden_sizes", [(), (8,), (8, 7)])
def test_shapes_of_actor_and_critic(key, shared, hidden_sizes):
    params = networks.actor_critic_init(4, 3, hidden_sizes, key, shared=shared)
    logits, value = networks.actor_critic_apply(params, jnp.ones(4), "tanh")
    assert logits.shape == (3,)
    assert value.shape == ()
    assert len(params.trunk) == (len(hidden_sizes) if shared else 0)


@pytest.mark.parametrize("shared", [True, False])
def test_orthogonal_heads_have_the_published_scales(key, shared):
    """√2 for hidden layers, 0.01 for the policy, 1 for the value."""
    params = networks.actor_critic_init(
        4, 3, (8, 8), key, shared=shared, initialization="orthogonal"
    )
    hidden = params.trunk if shared else (*params.actor[:-1], *params.critic[:-1])
    assert len(hidden) == (2 if shared else 4)
    for scale, layers in (
        (2**0.5, hidden),
        (0.01, params.actor[-1:]),
        (1.0, params.critic[-1:]),
    ):
        for layer in layers:
            singular = np.linalg.svd(layer.kernel, compute_uv=False)
            np.testing.assert_allclose(singular, scale, rtol=1e-4)
            np.testing.assert_array_equal(layer.bias, 0.0)


@struct.dataclass
class Pixels(rljax.Env):
    """Its observation is its state, integers between its bounds."""

    low: Any = struct.static(default=0)
    high: Any = struct.static(default=255)
    dtype: Any = struct.static(default=jnp.uint8)

    @property
    def observation_space(self):
        return spaces.Box(self.low, self.high, (2, 3), self.dtype)

    @property
    def action_space(self):
        return spaces.Discrete(2)

    def reset(self, key):
        pixels = jax.random.randint(key, (2, 3), 0, 256).astype(self.dtype)
        return pixels, pixels

    def step(self, state, action, key):
        never = jnp.zeros((), bool)
        return state, rljax.TimeStep(state, jnp.ones(()), never, never)


@pytest.mark.parametrize(
    ("env", "scaled"),
    [
        (Pixels(), lambda x: x / 255),
        (Pixels(-100, 300, jnp.int32), lambda x: (x + 100) / 400),
        # Bounds of each number: the least and the greatest count.
        (Pixels(0, (1, 9, 255), jnp.int16), lambda x: x / 255),
        (Pixels(0, np.inf, jnp.int32), lambda x: x),
        (Pixels(dtype=jnp.float32), lambda x: x),
    ],
    ids=["bytes", "shifted", "bounds apart", "unbounded", "floating"],
)
def test_integers_between_bounds_enter_an_own_network_in_the_unit_interval(env, scaled):
    """As NumPy computes it, for an actor with a critic and for an actor alone."""
    _, obs = env.reset(jax.random.key(3))
    x = scaled(np.asarray(obs, np.float32)).ravel()
    for kind in (rljax.ActorCritic, rljax.Reinforce):
        agent = kind(num_envs=2, rollout_length=4, hidden_sizes=())
        state = agent.init(jax.random.key(0), env)
        layers = {leaf.shape: leaf for leaf in jax.tree.leaves(state.params)}
        expected = x @ layers[6, 2] + layers[2,]
        np.testing.assert_allclose(agent.logits(state, obs), expected, rtol=1e-5)
        if kind is rljax.ActorCritic:
            expected = x @ layers[6, 1][:, 0] + layers[1,][0]
            np.testing.assert_allclose(agent.value(state, obs), expected, rtol=1e-5)
        # The bounds are known inside of jit, where the environment is traced.
        jax.eval_shape(
            lambda key, agent=agent: rljax.train(agent, env, key, num_updates=1),
            jax.random.key(0),
        )


def test_bounds_that_are_traced_can_not_scale_a_network(key):
    @struct.dataclass
    class Swept(Pixels):
        high: Any = 255

    with pytest.raises(TypeError, match="bounds of an integer Box must be known when"):
        rljax.train(rljax.PPO(), Swept(), key, num_updates=1)


@pytest.fixture(scope="module")
def flax_actor_critic():
    nn = pytest.importorskip("flax.linen")

    class FlaxActorCritic(nn.Module):
        num_actions: int

        @nn.compact
        def __call__(self, obs):
            x = nn.relu(nn.Dense(16)(obs))
            return nn.Dense(self.num_actions)(x), nn.Dense(1)(x).squeeze(-1)

    return FlaxActorCritic


def test_an_unknown_initialization_is_refused(key):
    with pytest.raises(ValueError, match="one of 'orthogonal', 'he_normal', got 'he'"):
        networks.mlp_init((3, 2), key, initialization="he")


def test_reinforce_takes_a_network_of_logits_alone(key):
    nn = pytest.importorskip("flax.linen")
    agent = rljax.Reinforce(num_envs=2, rollout_length=64, network=nn.Dense(2))
    _, metrics = rljax.train(agent, rljax.CartPole(), key, num_updates=2)
    assert np.isfinite(metrics.agent["policy_loss"]).all()


@pytest.mark.parametrize(
    "agent_class",
    [rljax.ActorCritic, pytest.param(rljax.PPO, marks=pytest.mark.slow)],
)
def test_a_flax_module_works_as_it_stands(key, flax_actor_critic, agent_class):
    agent = agent_class(num_envs=2, rollout_length=8, network=flax_actor_critic(2))
    state, metrics = rljax.train(agent, rljax.CartPole(), key, num_updates=2)
    assert "params" in state.agent_state.params
    assert np.isfinite(metrics.agent["policy_loss"]).all()
    fresh = agent.init(key, rljax.CartPole()).params
    moved = jax.tree.map(
        lambda a, b: bool((a != b).any()), fresh, state.agent_state.params
    )
    assert any(jax.tree.leaves(moved))


def test_a_network_of_the_wrong_shape_is_refused(key, flax_actor_critic):
    agent = rljax.PPO(network=flax_actor_critic(3))
    with pytest.raises(ValueError, match=r"PPO.network.apply must return .*\(2,\)"):
        agent.init(key, rljax.CartPole())


def vector(obs):
    """The tree of a scene as its own networks read it, by NumPy."""
    one_hot = [np.eye(2)[obs["many"][0]], np.eye(3)[obs["many"][1]]]
    picture = np.asarray(obs["picture"], float).ravel() / 200
    return np.concatenate([*one_hot, np.eye(3)[obs["mode"]], picture, obs["place"]])


def test_a_tree_of_observations_is_read_as_one_vector(key):
    # In the order in which JAX flattens a dictionary, by name.
    env = Scene("tree")
    actor_critic, alone = (
        kind(num_envs=2, rollout_length=4, hidden_sizes=())
        for kind in (rljax.ActorCritic, rljax.Reinforce)
    )

    @jax.jit
    def started(key):
        obs = env.reset(key)[1]
        states = [agent.init(key, env) for agent in (actor_critic, alone)]
        said = actor_critic.logits(states[0], obs), actor_critic.value(states[0], obs)
        return obs, states, (*said, alone.logits(states[1], obs))

    obs, states, (logits, value, logits_alone) = started(key)
    x, heads = vector(obs), states[0].params.params
    (actor,), (critic,), (layer,) = heads.actor, heads.critic, states[1].params.params
    np.testing.assert_allclose(logits, x @ actor.kernel + actor.bias, rtol=1e-5)
    np.testing.assert_allclose(value, x @ critic.kernel[:, 0] + critic.bias[0], 1e-5)
    np.testing.assert_allclose(logits_alone, x @ layer.kernel + layer.bias, rtol=1e-5)


@pytest.mark.parametrize(
    ("space", "obs", "read"),
    [
        (spaces.Box(-2, 2, (), jnp.int32), jnp.int32(1), [0.75]),
        (spaces.Box(0, np.inf, (), jnp.int32), jnp.int32(7), [7.0]),
        (spaces.MultiDiscrete((2, 3)), jnp.array([1, 0]), [0, 1, 1, 0, 0]),
        (
            (spaces.Discrete(2), {"a": spaces.Box(0, 1, (1, 2))}),
            (jnp.int32(0), {"a": jnp.array([[0.5, -3.0]])}),
            [1, 0, 0.5, -3],
        ),
    ],
    ids=str,
)
def test_what_no_layer_reads_by_itself_becomes_a_vector(space, obs, read):
    reading = networks.reading_of(space)
    assert reading.width == len(read)
    assert not reading.is_trivial
    found = networks.Reader((), reading).read(obs)
    np.testing.assert_allclose(found, read)
    assert found.dtype == jnp.result_type(float)


@pytest.mark.parametrize(
    "space", [spaces.Discrete(3), spaces.Box(-1, 1, (2,)), spaces.Box(-1, 1, (2, 3))]
)
def test_plain_observations_are_read_without_a_reader(space):
    assert networks.reading_of(space).is_trivial


def test_an_encoder_gets_integers_in_the_unit_interval_and_the_rest_as_it_is():
    env = Scene("tree")
    _, obs = env.reset(jax.random.key(1))
    reading = networks.reading_of(env.observation_space)
    params = networks.Encoded((), ())
    read = networks.Reader(params, reading).read(obs)
    np.testing.assert_allclose(read["picture"], np.asarray(obs["picture"]) / 200.0)
    for name in ("place", "mode", "many"):
        assert read[name] is obs[name]


TWO_LAYERS = networks.CNN((3, 2), (3, 2), (2, 1), activation="tanh")


def test_convolutions_and_their_gradients_equal_loops():
    rng = np.random.default_rng(0)
    images = rng.normal(size=(2, 7, 8, 2))
    with enable_x64():
        params = jax.jit(TWO_LAYERS.init)(jax.random.key(0), jnp.zeros((7, 8, 2)))
        for (kernel, bias), shape in zip(params, ((18, 3), (12, 2)), strict=True):
            matrix = np.reshape(kernel, shape)
            np.testing.assert_allclose(
                matrix.T @ matrix, 2 * np.eye(shape[1]), atol=1e-12
            )
            np.testing.assert_array_equal(bias, 0.0)
        params = jax.tree.map(lambda x: np.asarray(x) + 0.1, params)  # biases, too
        weights = rng.normal(size=(2, 2, 2, 2))

        def loss(params, images):
            out = jax.vmap(lambda x: TWO_LAYERS.apply(params, x))(images)
            return jnp.sum(out * weights), out

        (_, out), grads = jax.jit(
            jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)
        )(params, jnp.asarray(images))
    (k1, b1), (k2, b2) = jax.tree.map(np.asarray, [tuple(x) for x in params])
    expected = [0, 0, 0, 0]
    for x, w, found, d_image in zip(images, weights, out, grads[1], strict=True):
        h = np.tanh(oracle.convolution(x, k1, b1, 2))
        y = np.tanh(oracle.convolution(h, k2, b2, 1))
        np.testing.assert_allclose(found, y, rtol=1e-10)
        d_h, d_k2, d_b2 = oracle.convolution_gradient(h, k2, 1, w * (1 - y**2))
        d_x, d_k1, d_b1 = oracle.convolution_gradient(x, k1, 2, d_h * (1 - h**2))
        np.testing.assert_allclose(d_image, d_x, rtol=1e-9, atol=1e-12)
        pairs = zip(expected, (d_k1, d_b1, d_k2, d_b2), strict=True)
        expected = [total + one for total, one in pairs]
    for found, total in zip(jax.tree.leaves(grads[0]), expected, strict=True):
        np.testing.assert_allclose(found, total, rtol=1e-9, atol=1e-12)


def test_a_layer_is_one_product_for_all_steps_and_environments():
    def loss(params, obs):
        over_steps = jax.vmap(jax.vmap(lambda x: TWO_LAYERS.apply(params, x)))
        return jnp.sum(jnp.square(over_steps(obs)))

    params = jax.eval_shape(TWO_LAYERS.init, jax.random.key(0), jnp.zeros((7, 8, 2)))
    images = jax.ShapeDtypeStruct((5, 4, 7, 8, 2), jnp.float32)
    text = jax.jit(jax.grad(loss)).lower(params, images).as_text()
    lines = [x for x in text.splitlines() if "stablehlo.dot_general" in x]
    results = [line.rsplit("tensor<", 1)[1].split(">")[0] for line in lines]
    # Forward two; back two to the kernels, summed over the batch, and one between.
    forward = ["5x4x3x3x3xf32", "5x4x2x2x2xf32"]
    back = ["5x4x2x2x12xf32", "18x3xf32", "12x2xf32"]
    turned = {"3x18xf32": "18x3xf32", "2x12xf32": "12x2xf32"}
    assert sorted(turned.get(x, x) for x in results) == sorted(forward + back)
    assert "while" not in text
    assert "gather" not in text


@pytest.mark.parametrize(
    ("cnn", "image", "features"),
    [
        (networks.CNN(), (10, 10, 4), (8, 8, 16)),  # Young and Tian (2019)
        (networks.CNN.atari(), (84, 84, 4), (7, 7, 64)),  # Mnih et al. (2015)
    ],
)
def test_published_encoders_have_their_features(cnn, image, features):
    cnn.check_observations(spaces.Box(0, 255, image, jnp.uint8), "PPO.encoder")

    def run(obs):
        return cnn.apply(cnn.init(jax.random.key(0), obs), obs)

    assert jax.eval_shape(run, jnp.zeros(image)).shape == features


@pytest.mark.parametrize(
    ("settings", "space", "message"),
    [
        ({"channels": (4, 4)}, None, "one entry for each layer, got 2 channels, 1 ker"),
        (dict.fromkeys(("channels", "kernel_sizes", "strides"), ()), None, "one entry"),
        ({"strides": (0,)}, None, r"CNN.strides\[0\] must be at least 1"),
        ({"activation": "selu"}, None, "CNN.activation must be one of"),
        ({}, spaces.Box(0, 1, (4,)), r"PPO.encoder = CNN reads one image, a Box of"),
        ({}, {"a": spaces.Box(0, 1, (9, 9, 1))}, "reads one image, a Box of"),
        ({}, spaces.Box(0, 1, (2, 9, 1)), "must fit into .*: 3 is more than 2"),
        (
            {"channels": (4, 4), "kernel_sizes": (3, 4), "strides": (3, 1)},
            spaces.Box(0, 1, (12, 11, 1)),
            "must fit into .*: 4 is more than 3",
        ),
    ],
)
def test_images_and_layers_that_do_not_fit_are_refused(settings, space, message):
    with pytest.raises(ValueError, match=message):
        networks.CNN(**settings).check_observations(space, "PPO.encoder")


class Encoder:
    """Returns what it is told to."""

    def __init__(self, output):
        self.output = output

    def init(self, key, obs):
        return {"w": jnp.ones(())}

    def apply(self, params, obs):
        return self.output(params["w"], obs)


@pytest.mark.parametrize("shared", [True, False])
def test_hidden_layers_read_what_the_encoders_return(shared, key):
    # Of a picture, for one encoder each, or of three numbers and a normal policy.
    env = rljax.make("Pendulum-v1") if shared else Scene()
    agent = rljax.ActorCritic(
        hidden_sizes=(3,),
        encoder=Encoder(lambda w, obs: w * jnp.stack([obs, obs**2])),
        shared_network=shared,
    )

    @jax.jit
    def started(key):
        state, obs = agent.init(key, env), env.reset(key)[1]
        params = state.params
        # The encoders' parameters become 2 and, of the critic's own, 3.
        number = 1 if shared else 2
        leaves = jax.tree.leaves(params)
        leaves[:number] = [jnp.full((), i + 2.0) for i in range(number)]
        swapped = jax.tree.unflatten(jax.tree.structure(params), leaves)
        return params, obs, agent.apply(swapped, obs)

    params, obs, (out, value) = started(key)
    if shared:
        np.testing.assert_array_equal(params.log_scale, 0.0)
        (out, _), x = out, np.asarray(obs)
    else:
        x = np.asarray(obs) / 200
    encoders, heads = params.params
    assert (len(encoders), len(heads.trunk)) == ((1, 1) if shared else (2, 0))
    x = np.stack([x, x**2]).ravel()

    def after(x, *layers):
        (first, head) = layers
        hidden = np.maximum(x @ first.kernel + first.bias, 0)
        return hidden @ head.kernel + head.bias

    logits = after(2 * x, *heads.trunk, *heads.actor)
    expected = after((2 if shared else 3) * x, *heads.trunk, *heads.critic)
    np.testing.assert_allclose(out, logits, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(value, expected[0], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"encoder": 3}, TypeError, r"PPO.encoder must have init.key, obs. and .* int"),
        ({"encoder": networks.CNN}, TypeError, "PPO.encoder must .* Got the class CNN"),
        (
            {"encoder": networks.CNN(), "network": networks.CNN()},
            ValueError,
            "PPO.encoder is for the agent's own network and .* beside PPO.network",
        ),
        (
            {"encoder": Encoder(lambda w, obs: (w, w))},
            TypeError,
            "PPO.encoder.apply must return one floating array, returns",
        ),
        (
            {"encoder": Encoder(lambda w, obs: jnp.zeros(3, jnp.int32))},
            TypeError,
            "PPO.encoder.apply must return one floating array, returns",
        ),
        (
            {"encoder": networks.CNN(kernel_sizes=(5,))},
            ValueError,
            r"PPO.encoder.kernel_sizes must fit into .*: 5 is more than 4",
        ),
        ({"encoder": lambda key: 5}, TypeError, "encoder must build a module that is"),
    ],
)
def test_encoders_that_do_not_fit_are_refused(settings, error, message, key):
    with pytest.raises(error, match=message):
        jax.eval_shape(lambda key: rljax.PPO(**settings).init(key, Scene()), key)


@pytest.mark.slow
@pytest.mark.parametrize("shared", [True, False])
def test_ppo_learns_to_see(shared, key):
    agent = rljax.PPO(
        num_envs=32,
        rollout_length=8,
        hidden_sizes=(16,),
        learning_rate=5e-3,
        encoder=networks.CNN(channels=(8,)),
        shared_network=shared,
    )
    state, _ = rljax.train(agent, Scene(), key, num_updates=60)
    out = rljax.evaluate(agent, state.agent_state, Scene(), key, num_episodes=200)
    assert out.episode_returns.mean() > 0.95


@pytest.mark.slow
@pytest.mark.parametrize("agent_class", [rljax.PPO, rljax.Reinforce])
def test_own_networks_learn_from_a_tree(agent_class, key):
    agent = agent_class(num_envs=64, rollout_length=4, learning_rate=5e-3)
    env = Scene("tree")
    state, _ = rljax.train(agent, env, key, num_updates=60)
    out = rljax.evaluate(agent, state.agent_state, env, key, num_episodes=200)
    assert out.episode_returns.mean() > 0.95
