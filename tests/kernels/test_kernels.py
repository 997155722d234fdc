"""The kernels, interpreted, against what XLA makes of the same agent."""

import dataclasses
import types

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import rljax
from rljax import distributions, kernels, struct
from rljax.kernels import packing, rollout, scalars, update

ENV = rljax.make("CartPole-v1", max_steps=20)


@struct.dataclass
class Noisy(rljax.Env):
    """Its own noise, a state of several kinds, and an observation with two axes."""

    drift: float = 0.1

    @property
    def observation_space(self):
        return rljax.spaces.Box(-jnp.inf, jnp.inf, (2, 2))

    @property
    def action_space(self):
        return rljax.spaces.Discrete(3)

    def reset(self, key):
        place = jax.random.normal(key, (2,))
        state = {"place": place, "flag": place[0] > 0, "count": jnp.int32(0)}
        return state, self._see(state)

    def draw(self, shape, key):
        return jax.random.normal(key, (*shape, 2))

    def advance(self, state, action, noise):
        push = action.astype(float) - 1
        moved = jnp.stack([push, jnp.full_like(push, self.drift)]) + 0.1 * noise
        place = jnp.clip(state["place"] + moved, -3, 3)
        flag = jnp.logical_xor(state["flag"], jnp.any(place > 1))
        state = {"place": place, "flag": flag, "count": state["count"] + 1}
        reward = jnp.where(flag, jnp.max(place), -jnp.sum(place))
        ended = jnp.abs(place[0]) >= 3
        step = rljax.TimeStep(self._see(state), reward, ended, state["count"] >= 9)
        return state, step

    def _see(self, state):
        return jnp.stack([state["place"], state["place"][::-1] ** 2])


def agent(**fields):
    sizes = {"num_envs": 4, "rollout_length": 16, "num_minibatches": 2, "num_epochs": 2}
    return rljax.PPO(
        **({"hidden_sizes": (16, 8), "activation": "tanh"} | sizes | fields)
    )


def train(agent, env, key, num_updates=3):
    return jax.jit(lambda key: rljax.train(agent, env, key, num_updates=num_updates))(
        key
    )


def both(plain, env, key, **kwargs):
    return (
        train(dataclasses.replace(plain, kernels=how), env, key, **kwargs)
        for how in ("never", "interpret")
    )


def numbers(tree):
    leaves = jax.tree.leaves(tree)
    return [x for x in leaves if not jnp.issubdtype(x.dtype, jax.dtypes.prng_key)]


def assert_alike(got, want):
    assert jax.tree.structure(got) == jax.tree.structure(want)
    for x, y in zip(numbers(got), numbers(want), strict=True):
        assert x.dtype == y.dtype
        assert x.weak_type == y.weak_type
        np.testing.assert_allclose(x, y, rtol=2e-4, atol=2e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    "fields",
    [
        {"rollout_length": 24},  # minibatches of 48: no multiple of the usual tile
        {
            "activation": "relu",
            "hidden_sizes": (24,),
            "clip_value_loss": True,
            "anneal_updates": 5.0,
            "max_grad_norm": None,
            "dual_clip": 3.0,
        },
        {"num_envs": 20, "num_minibatches": 4, "normalize_advantages": False},
        {"num_envs": 1, "rollout_length": 32, "time_limit_is_termination": True},
    ],
)
def test_training_is_as_without_kernels(fields, key):
    want, got = both(agent(**fields), ENV, key)
    assert_alike(got, want)
    _, metrics = got
    assert metrics.num_episodes.sum() > 0  # so that resets have been compared


@pytest.mark.slow
def test_as_much_with_legacy_keys_and_strict_promotion():
    with jax.numpy_dtype_promotion("strict"):
        want, got = both(
            agent(hidden_sizes=(8,)), Noisy(), jax.random.PRNGKey(0), num_updates=2
        )
    assert_alike(got, want)


@pytest.mark.slow
def test_seeds_and_settings_are_vmapped(key):
    keys = jax.random.split(key, 2)
    envs = jax.vmap(lambda gravity: rljax.make("CartPole-v1", gravity=gravity))(
        jnp.array([9.8, 20.0])
    )

    def run(how):
        def one(key, env, rate):
            chosen = agent(kernels=how, learning_rate=rate)
            return rljax.train(chosen, env, key, num_updates=2)

        return jax.jit(jax.vmap(one))(keys, envs, jnp.array([1e-3, 1e-2]))

    assert_alike(run("interpret"), run("never"))


@pytest.mark.slow
def test_derivatives_are_those_without_kernels(key):
    def last_weight(rate, how):
        chosen = agent(learning_rate=rate, kernels=how, num_epochs=1)
        state, _ = rljax.train(chosen, ENV, key, num_updates=1)
        return state.agent_state.params.actor[0].kernel.sum()

    slope = jax.jit(jax.grad(last_weight), static_argnums=1)
    np.testing.assert_allclose(
        slope(1e-3, "interpret"), slope(1e-3, "never"), rtol=1e-4
    )


@struct.dataclass
class Sorting(Noisy):
    """What it computes is not element by element."""

    def advance(self, state, action, noise):
        state, step = super().advance(state, action, noise)
        return state, step._replace(obs=jnp.sort(step.obs, axis=0))


def trace(agent, env):
    """Goes through training without compiling or running it."""
    jax.eval_shape(lambda: rljax.train(agent, env, jax.random.key(0), num_updates=1))


def test_other_environments_are_left_to_xla(monkeypatch):
    monkeypatch.setattr(rollout, "roll_out", None)  # fails if called
    trace(agent(kernels="interpret"), Sorting())
    with pytest.raises(TypeError, match="NoneType"):
        trace(agent(kernels="interpret"), Noisy())


def test_more_environments_than_a_block_holds_are_left_to_xla(monkeypatch):
    monkeypatch.setattr(rollout, "roll_out", None)  # fails if called
    most = {"num_envs": rollout.MOST_ENVS, "kernels": "interpret"}
    with pytest.raises(TypeError, match="NoneType"):
        trace(agent(**most), ENV)
    trace(agent(**{**most, "num_envs": rollout.MOST_ENVS + 1}), ENV)


@pytest.mark.parametrize(
    "fields",
    [
        {"shared_network": True},
        {"hidden_sizes": (128,)},
        {"hidden_sizes": (8, 8, 8)},
        {"optimizer": optax.sgd},
        {"num_minibatches": 8},  # 8 steps each
    ],
)
def test_other_agents_are_left_to_xla(fields, monkeypatch):
    monkeypatch.setattr(update, "gradient_steps", None)
    trace(agent(kernels="interpret", **fields), ENV)


@pytest.mark.parametrize(("inputs", "how"), [(63, "interpret"), (64, "never")])
def test_wide_observations_are_left_to_xla(inputs, how):
    state = agent().init(jax.random.key(0), ENV)
    first, *others = state.params.actor
    first = first._replace(kernel=jnp.zeros((inputs, 8)))
    wide = state._replace(params=state.params._replace(actor=(first, *others)))
    obs = jnp.zeros((4, inputs))
    assert agent(kernels="interpret")._kernel_mode(wide, obs) == how


class Derived(rljax.PPO):
    """A derived agent may do anything otherwise."""


def test_derived_agents_are_left_to_xla():
    state = agent().init(jax.random.key(0), ENV)
    obs = jnp.zeros((4, 4))
    assert agent(kernels="interpret")._kernel_mode(state, obs) == "interpret"
    derived = struct.dataclass(Derived)(kernels="interpret")
    assert derived._kernel_mode(state, obs) == "never"


@pytest.mark.parametrize(
    ("policy", "how"),
    [
        (distributions.Categorical(num_actions=2), "interpret"),
        (distributions.MultiCategorical(sizes=(1, 1)), "never"),
    ],
)
def test_only_one_choice_is_made_in_a_kernel(policy, how):
    state = agent().init(jax.random.key(0), ENV)._replace(policy=policy)
    mode = agent(kernels="interpret")._kernel_mode(state, jnp.zeros((4, 4)))
    assert mode == how


def test_kernels_are_for_gpus(monkeypatch):
    if jax.default_backend() == "cpu":
        assert kernels.mode("auto") == "never"
    monkeypatch.setattr(kernels, "_on_gpu", lambda: True)
    assert kernels.mode("auto") == "compile"
    assert kernels.mode("never") == "never"
    with jax.default_matmul_precision("highest"):
        assert kernels.mode("auto") == "never"
    with jax.debug_nans(True):
        assert kernels.mode("interpret") == "never"


@pytest.mark.parametrize(
    ("backend", "capability", "found"),
    [
        ("gpu", "8.0", True),
        ("gpu", "9.0", True),
        ("gpu", "10.0", True),
        ("gpu", "7.5", False),
        ("gpu", "gfx90a", False),  # of another make
        ("gpu", "", False),
        ("cpu", "9.0", False),
    ],
)
def test_gpus_are_told_by_their_capability(backend, capability, found, monkeypatch):
    device = types.SimpleNamespace(compute_capability=capability)
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    monkeypatch.setattr(jax, "devices", lambda: [device])
    assert kernels._on_gpu() == found


@pytest.mark.parametrize("u", [0.0, 0.3, 0.999])
def test_a_kernel_chooses_as_the_distribution_does(u):
    rows = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
    rows[1] = -np.inf, 2.0, -np.inf
    rows[2] = 1.0, 1.0, 1.0
    rows[3, 1] = np.nan
    rows[4] = 80.0, -80.0, 79.0
    words = jnp.full(6, u)
    actions, log_probs = rollout._choose([jnp.array(x) for x in rows.T], words)
    expected = distributions.categorical_quantile(jnp.array(rows), words)
    np.testing.assert_array_equal(actions, expected)
    assert expected[3] == -1
    sure = np.delete(np.arange(6), 3)
    of_those = distributions.categorical_log_prob(jnp.array(rows), expected)
    np.testing.assert_allclose(log_probs[sure], of_those[sure], atol=1e-5)


@pytest.mark.slow
def test_a_cpu_runs_xlas_program_where_a_gpu_would_run_a_kernel(key, monkeypatch):
    monkeypatch.setattr(kernels, "_on_gpu", lambda: True)
    if jax.default_backend() == "cpu":
        assert_alike(train(agent(), ENV, key), train(agent(kernels="never"), ENV, key))


def test_the_setting_is_checked():
    with pytest.raises(ValueError, match=r"PPO.kernels must be .*'sometimes'"):
        rljax.PPO(kernels="sometimes")


def test_packing_gives_back_what_it_was_given(key):
    layers = agent().init(key, ENV).params.actor
    network = packing.arrange(layers)
    layout = packing.layout(network)
    vector = packing.pack(layout, network)
    assert len(vector) == packing.length(layout)
    restored = packing.restore(packing.unpack(layout, vector), layers)
    jax.tree.map(np.testing.assert_array_equal, restored, tuple(layers))


def test_a_function_is_evaluated_number_by_number():
    def function(x, y):
        rows = jnp.concatenate([x, 2 * x[::-1]])[1:4].reshape(3, 1)
        total = jnp.sum(rows * y, axis=0) + jnp.min(x) - jnp.max(y)
        return jnp.where(total > 0, total, -(total.T**3)), jnp.all(y > 0)

    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(5, 2)), rng.normal(size=(5, 3, 4))
    x, y = jnp.asarray(x, jnp.float32), jnp.asarray(y, jnp.float32)
    closed = jax.make_jaxpr(function)(x[0], y[0])
    assert scalars.supported(closed.jaxpr)

    def vectors(array):
        out = np.empty(array.shape[1:], object)
        for index in np.ndindex(out.shape):
            out[index] = array[(slice(None), *index)]
        return out

    args = [vectors(x), vectors(y)]
    got = scalars.evaluate(closed.jaxpr, closed.consts, args, x[:, 0])
    for numbers, want in zip(got, jax.vmap(function)(x, y), strict=True):
        for index in np.ndindex(numbers.shape):
            wanted = want[(slice(None), *index)]
            np.testing.assert_allclose(numbers[index], wanted, rtol=1e-6)
    assert not scalars.supported(jax.make_jaxpr(jnp.sort)(x[0]).jaxpr)
