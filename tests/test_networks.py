"""Networks: initial distributions, the forward pass, and networks of the user's."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rljax
from rljax import networks, spaces, struct


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
