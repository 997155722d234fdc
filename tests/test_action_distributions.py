"""Distributions of actions against formulas by hand, and where they are extreme."""

import contextlib
import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from rljax import distributions as d
from rljax import spaces
from tests.conftest import enable_x64
from tests.oracles import distributions as oracle

LOW, HIGH = -2.0, 3.0
BOX = {"low": LOW, "high": HIGH, "shape": ()}
MEANS = np.array([-20.0, -3.0, -0.4, 0.0, 1e-3, 2.0, 20.0])
LOG_SCALES = np.log([1e-4, 1e-2, 0.3, 1.0, 7.0, 100.0])
GRID = np.array(list(itertools.product(MEANS, LOG_SCALES))).T
RNG = np.random.default_rng(0)


def value_and_grads(function, *args):
    """Of a function of numbers, over all of them: [B], and a [B] for each argument."""
    every = jax.vmap(jax.value_and_grad(function, tuple(range(len(args)))))
    value, grads = jax.jit(every)(*map(jnp.asarray, args))
    return value, *grads


PRECISION = pytest.mark.parametrize(
    ("dtype", "rtol"), [("float32", 5e-5), ("float64", 1e-11)]
)


def precision(dtype):
    return enable_x64() if dtype == "float64" else contextlib.nullcontext()


def assert_alike(found, expected, rtol):
    for x, y in zip(found, expected, strict=True):
        np.testing.assert_allclose(x, y, rtol=rtol, atol=rtol)


@PRECISION
def test_log_probs_equal_their_derivation(dtype, rtol):
    """|u| up to 20, where tanh u is 1 in float32, and σ from 1e-4 to 100."""
    with precision(dtype):
        mean, log_scale = GRID.astype(dtype)
        draw = mean + np.exp(log_scale) * RNG.normal(size=len(mean)).astype(dtype)
        exactly = [x.astype(float) for x in (mean, log_scale, draw)]
        value, *grads = oracle.normal_log_prob(*exactly)
        slope = oracle.squash_log_slope(exactly[2], LOW, HIGH)
        for kind, expected in (
            (d.Normal(**BOX), value),
            (d.SquashedNormal(**BOX), value - slope),
        ):

            def log_prob(mean, log_scale, draw, kind=kind):
                return kind.given((mean, log_scale)).draw_log_prob(draw)

            *found, _ = value_and_grads(log_prob, mean, log_scale, draw)
            assert_alike(found, [expected, *grads], rtol)


@PRECISION
def test_divergences_equal_their_derivation_in_both_arguments(dtype, rtol):
    with precision(dtype):
        mean, log_scale = GRID.astype(dtype)
        args = (
            mean,
            log_scale,
            mean + RNG.normal(size=len(mean)).astype(dtype),
            (log_scale + RNG.normal(size=len(mean)).astype(dtype)),
        )
        expected = oracle.normal_kl(*(x.astype(float) for x in args))
        for kind in (d.Normal(**BOX), d.SquashedNormal(**BOX)):

            def kl(mean, log_scale, *other, kind=kind):
                return kind.given((mean, log_scale)).kl(kind.given(other))

            assert_alike(value_and_grads(kl, *args), expected, rtol)
            near = jax.jit(kl)(0.3, 0.2, 0.3 + 1e-3, 0.2 + 1e-3)
            # ½ (Δμ/σ)² + Δs² to first order, which a difference would lose.
            first = 0.5 * (1e-3 * np.exp(-0.2)) ** 2 + 1e-6
            np.testing.assert_allclose(near, first, rtol=3e-3)


@PRECISION
def test_entropies_equal_their_derivation(dtype, rtol):
    with precision(dtype):
        args = GRID.astype(dtype)

        def entropy(mean, log_scale):
            return d.SquashedNormal(**BOX).given((mean, log_scale)).entropy()

        expected = [
            oracle.squashed_entropy(*x, LOW, HIGH) for x in args.T.astype(float)
        ]
        rtol = max(rtol, 1e-9)  # of 32 nodes
        assert_alike(value_and_grads(entropy, *args), np.transpose(expected), rtol)
        normal = d.Normal(**BOX).given(args)
        np.testing.assert_allclose(
            normal.entropy(), stats.norm(*[0, np.exp(args[1])]).entropy(), rtol=1e-5
        )


def test_numbers_of_an_action_add_up():
    """Over the axes of an action alone; a batch keeps its own."""
    mean, log_scale, draw = RNG.normal(size=(3, 5, 2, 3)).astype(np.float32)
    box = {"low": LOW, "high": np.array([1.0, 2.0, 3.0]), "shape": (2, 3)}

    @jax.jit
    def everything(kind):
        policy = kind.given((mean, log_scale))
        divergence = policy.kl(kind.given((draw, mean)))
        return policy.draw_log_prob(draw), policy.entropy(), divergence

    for kind in (d.Normal(**box), d.SquashedNormal(**box)):
        assert kind.outputs == ((2, 3), (2, 3))
        assert kind.num_outputs == 6
        each = everything(dataclasses.replace(kind, shape=()))
        for found, single in zip(everything(kind), each, strict=True):
            np.testing.assert_allclose(found, single.sum((1, 2)), rtol=1e-5, atol=1e-5)
    choices = d.MultiCategorical(sizes=(2, 3))
    logits = RNG.normal(size=(4, 5))
    policy, other = choices.given(jnp.asarray(logits)), choices.given(jnp.zeros((4, 5)))
    parts = [d.Categorical(jnp.asarray(x)) for x in (logits[:, :2], logits[:, 2:])]
    uniform = [d.Categorical(jnp.zeros((4, n))) for n in (2, 3)]
    actions = np.array([[0, 2], [1, 0], [0, 0], [1, 1]])
    for found, expected in (
        (
            policy.log_prob(actions),
            [p.log_prob(a) for p, a in zip(parts, actions.T, strict=True)],
        ),
        (policy.entropy(), [p.entropy() for p in parts]),
        (policy.kl(other), [p.kl(q) for p, q in zip(parts, uniform, strict=True)]),
    ):
        np.testing.assert_allclose(found, sum(expected), rtol=1e-5)
    assert choices.outputs == (5,)
    modes = np.stack([p.mode() for p in parts], axis=1)
    np.testing.assert_array_equal(policy.mode(), modes)


def test_draws_have_the_distribution(key):
    """Kolmogorov and Smirnov's test of draws, and of squashed actions by hand."""
    batch = jnp.full(20_000, 0.5)
    kind = d.SquashedNormal(**BOX)
    policy = kind.given((batch, 0 * batch - 1))
    draws = policy.draw(key)
    normal = stats.norm(0.5, np.exp(-1))
    assert stats.kstest(draws, normal.cdf).pvalue > 1e-3
    actions = policy.sample(key)
    np.testing.assert_array_equal(actions, policy.to_action(draws))
    np.testing.assert_allclose(actions, LOW + 5 * (np.tanh(draws) + 1) / 2, atol=1e-6)
    clipped = d.Normal(low=0.0, high=1.0, shape=()).given((batch, 0 * batch))
    actions = np.asarray(clipped.sample(key))
    assert (actions.min(), actions.max()) == (0, 1)
    assert abs(np.mean(actions == 0) - stats.norm.cdf(-0.5)) < 0.01
    assert stats.kstest(clipped.draw(key), stats.norm(0.5, 1).cdf).pvalue > 1e-3
    logits = jnp.tile(jnp.array([0.0, jnp.log(3.0), 0, 0, jnp.log(2.0)]), (20_000, 1))
    drawn = d.MultiCategorical(sizes=(2, 3)).given(logits).sample(key)
    expected = np.outer([1 / 4, 3 / 4], [1 / 4, 1 / 4, 1 / 2]) * 20_000
    counts = np.zeros((2, 3))
    np.add.at(counts, tuple(drawn.T), 1)
    assert stats.chisquare(counts.ravel(), expected.ravel()).pvalue > 1e-3


def test_both_gradients_of_an_expectation_are_its_own(key):
    """E[u²] = μ² + σ²: 2μ and 2σ² by drawn noise and by the score, within 5 errors."""
    draws_of = d.Normal(shape=()).given

    @jax.jit
    @jax.vmap
    def estimates(key):
        def squared(parameters):
            return jnp.square(draws_of(parameters).draw(key))

        parameters = (jnp.array(0.7), jnp.array(-0.3))
        draw = draws_of(parameters).draw(key)
        score = jax.grad(lambda p: draws_of(p).draw_log_prob(draw))(parameters)
        return jax.grad(squared)(parameters), tuple(draw**2 * x for x in score)

    for found in estimates(jax.random.split(key, 20_000)):
        for samples, exact in zip(found, (1.4, 2 * np.exp(-0.6)), strict=True):
            error = np.std(samples) / np.sqrt(len(samples))
            assert abs(np.mean(samples) - exact) < 5 * error


def test_extremes_are_numbers():
    """A collapsed σ, an exploded one, and actions at the bounds."""
    kind = d.SquashedNormal(**BOX)

    def everything(mean, log_scale):
        policy = kind.given((mean, log_scale))
        at = (LOW, HIGH, policy.mode())
        return sum(map(policy.log_prob, at)) + policy.entropy() + policy.kl(policy)

    for log_scale in (-1e4, -20.0, 1e4):
        value, *grads = value_and_grads(everything, np.zeros(1), np.full(1, log_scale))
        assert not np.isnan([value, *grads]).any()
    policy = kind.given((0.0, 0.0))
    assert np.isfinite([policy.log_prob(LOW), policy.log_prob(HIGH)]).all()
    # Plain numbers and half precision are parameters, too.
    assert d.Normal().given((0.5, 0.0)).mode() == 0.5
    half = jnp.bfloat16(0.0)
    assert kind.given((half, half)).mode().dtype == np.float32
    assert policy.to_action(jnp.array([-1e9, 1e9])).tolist() == [LOW, HIGH]
    action = policy.to_action(jnp.array([-3.0, 0.1, 2.0]))
    np.testing.assert_allclose(policy.to_draw(action), [-3, 0.1, 2], rtol=1e-3)


def test_only_numbers_between_finite_bounds_are_squashed():
    """Known or traced, the others are clipped: by hand, one number at a time."""
    low, high = np.array([-1.0, 0.0, -np.inf]), np.array([1.0, np.inf, np.inf])
    mean, log_scale, draw = jnp.asarray(RNG.normal(size=(3, 3)))

    @jax.jit
    def everything(low, high, mean):
        kind = d.for_space(spaces.Box(low, high, (3,)), "PPO")
        policy = kind.given((mean, log_scale))
        values = (policy.draw_log_prob(draw), policy.entropy())
        return policy.to_action(draw), policy.to_draw(draw.at[0].set(0.5)), *values

    action, back, *values = everything(low, high, mean)
    np.testing.assert_allclose(action, [np.tanh(draw[0]), max(draw[1], 0), draw[2]])
    np.testing.assert_allclose(back, [np.arctanh(0.5), draw[1], draw[2]], rtol=1e-6)
    single = [d.SquashedNormal(low=-1.0, high=1.0), d.Normal(), d.Normal()]
    each = [
        k.given(p)
        for k, p in zip(single, zip(mean, log_scale, strict=True), strict=True)
    ]
    expected = (
        sum(map(lambda p, x: p.draw_log_prob(x), each, draw)),
        sum(p.entropy() for p in each),
    )
    np.testing.assert_allclose(values, expected, rtol=1e-5)
    slopes = jax.jit(jax.jacobian(everything, argnums=2))(low, high, mean)
    assert np.isfinite(slopes[2]).all() and np.isfinite(slopes[3]).all()


@pytest.mark.parametrize(
    ("space", "kind"),
    [
        (spaces.Discrete(3), d.Categorical(num_actions=3)),
        (spaces.MultiDiscrete((2, 3)), d.MultiCategorical(sizes=(2, 3))),
        (spaces.Box(-1.0, 1.0, (2,)), d.SquashedNormal(low=-1.0, high=1.0, shape=(2,))),
        (spaces.Box(-np.inf, np.inf, ()), d.Normal()),
    ],
)
def test_the_space_says_which_distribution(space, kind):
    found = d.for_space(space, "PPO")
    assert type(found) is type(kind)
    assert jax.tree.structure(found) == jax.tree.structure(kind)
    assert jax.tree.leaves(found) == jax.tree.leaves(kind)
    # Under jit, where an array that is made is traced, constants are still known.
    assert type(jax.eval_shape(lambda: d.for_space(space, "PPO"))) is type(kind)
    assert d.for_space(space, "PPO", squash=False).outputs == kind.outputs


def test_spaces_without_a_distribution_are_refused():
    clipped = d.for_space(spaces.Box(-1.0, 1.0, (2,)), "PPO", squash=False)
    assert type(clipped) is d.Normal
    with pytest.raises(TypeError, match="PPO has a policy for actions of a Discrete"):
        d.for_space(spaces.Box(0, 9, (2,), jnp.int32), "PPO")
    with pytest.raises(ValueError, match="must have a choice"):
        spaces.MultiDiscrete(())
    with pytest.raises(ValueError, match=r"MultiDiscrete.sizes\[1\] must be"):
        spaces.MultiDiscrete((2, 0))
