"""check_gradients: what it passes, and that every planted mistake fails by name."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rljax
from rljax import losses, networks, testing
from tests.oracles import networks as oracle

PARAMS = {"w": np.arange(6.0).reshape(2, 3), "b": np.float32(0.25)}


def cubic(params):
    return jnp.sum(params["w"] ** 3) + jnp.sin(params["b"])


def cubic_by_hand(params, w_error=0.0, value_error=0.0):
    assert params["w"].dtype == params["b"].dtype == np.float64
    gradient = {"w": 3 * params["w"] ** 2, "b": np.cos(params["b"])}
    gradient["w"][1, 2] += w_error
    return np.sum(params["w"] ** 3) + np.sin(params["b"]) + value_error, gradient


def test_a_right_gradient_passes_and_the_errors_are_reported():
    report = testing.check_gradients(cubic, (PARAMS,), cubic_by_hand)
    assert report.max_error < 1e-8
    assert report.oracle_error < 1e-15
    assert report.num_slopes == 7 + 8
    assert report.kinks == ()
    assert not jax.config.jax_enable_x64


@pytest.mark.parametrize(
    ("mistake", "message"),
    [
        (
            {"w_error": 1e-6},
            r"Worst, args\[0\]\['w'\]\[1, 2\]: .* 75, the oracle 75.00",
        ),
        ({"value_error": 1e-6}, r"cubic is 225.24.*, its oracle says 225.24"),
    ],
)
def test_an_oracle_that_differs_is_named(mistake, message):
    by_hand = functools.partial(cubic_by_hand, **mistake)
    with pytest.raises(AssertionError, match=message):
        testing.check_gradients(cubic, (PARAMS,), by_hand)


def scaled(factor):
    """x², whose derivative by its last entry is `factor` times what it should be."""

    @jax.custom_vjp
    def square(x):
        return jnp.sum(x**2)

    square.defvjp(
        lambda x: (jnp.sum(x**2), x),
        lambda x, cotangent: (cotangent * 2 * x * jnp.array([1.0, 1.0, factor]),),
    )
    return square


def test_a_wrong_derivative_is_named():
    point = (np.array([1.0, -2.0, 0.5]),)
    testing.check_gradients(scaled(1.0), point)
    pattern = r"Worst, args\[0\]\[2\]: jax.grad says 1.00001\d*, differences 1\."
    with pytest.raises(AssertionError, match=pattern):
        testing.check_gradients(scaled(1.00001), point)
    # Along random directions too, where no coordinate is tried by itself.
    with pytest.raises(AssertionError, match=r"8 of 8 .* random direction"):
        testing.check_gradients(scaled(1.01), point, max_coordinates=0)


def test_what_stop_gradient_holds_constant_is_not_passed_over():
    def semi_gradient(x):
        return jnp.sum(x * jax.lax.stop_gradient(x))

    with pytest.raises(AssertionError, match="stop_gradient: pass that as an argument"):
        testing.check_gradients(semi_gradient, (np.ones(2),))


def test_a_small_leaf_is_held_to_its_own_size():
    def two_sizes(p):
        return 1e3 * jnp.sum(p["large"]) + 1e-2 * scaled(1.001)(p["small"])

    point = {"large": np.ones(2), "small": np.ones(3)}
    with pytest.raises(AssertionError, match=r"\['small'\]\[2\]"):
        testing.check_gradients(two_sizes, (point,))


@pytest.mark.parametrize("distance", [0.0, 3e-7])
def test_a_kink_is_reported_and_not_averaged(distance):
    def relu(x):
        return jnp.sum(jax.nn.relu(x))

    point = (np.array([1.0, distance, -1.0]),)
    pattern = (
        r"a kink .*, args\[0\]\[1\]: the slope is .* on the left and 1 on .* Move the "
        "arguments off it, or pass allow_kinks=True to ask"
    )
    with pytest.raises(AssertionError, match=pattern):
        testing.check_gradients(relu, point)
    report = testing.check_gradients(relu, point, allow_kinks=True)
    assert report.kinks[0].where == "args[0][1]"
    assert report.kinks[0].left < 0.5
    assert report.kinks[0].right == pytest.approx(1)


def test_kinks_nearby_do_not_disturb():
    def zigzag(x):
        return jnp.sum(jnp.abs(x))

    point = np.array([1.0, 3e-6, -4e-5, 2e-4, -2e-3])
    assert testing.check_gradients(zigzag, (point,)).kinks == ()


def test_even_at_a_kink_the_gradient_lies_between_the_slopes():
    @jax.custom_vjp
    def wrong_abs(x):
        return jnp.sum(jnp.abs(x))

    wrong_abs.defvjp(
        lambda x: (jnp.sum(jnp.abs(x)), x), lambda x, c: (c * jnp.full_like(x, 1.5),)
    )
    with pytest.raises(AssertionError, match=r"slopes of -1\S* to \S+ at a kink"):
        testing.check_gradients(wrong_abs, (np.zeros(1),), allow_kinks=True)


@pytest.mark.parametrize("sign", [1, -1])
def test_at_a_kink_the_tolerance_is_in_proportion_to_a_slope_of_either_sign(sign):
    def bent(x):
        # Of the flat side, the differences see a slope of 1e-7 · sign, jax.grad 0.
        return jnp.sum(jax.nn.relu(sign * x) - 0.1 * x**2)

    report = testing.check_gradients(bent, (np.zeros(1),), allow_kinks=True)
    assert report.kinks[0].gradient == 0


@pytest.mark.parametrize("allow_kinks", [False, True])
def test_a_jump_is_reported(allow_kinks):
    def step(x):
        return jnp.sum(jnp.where(x >= 0, x + 1, x))

    pattern = r"a jump along .*First, args\[0\]\[0\].* Move the arguments off it\. \(L"
    with pytest.raises(AssertionError, match=pattern):
        testing.check_gradients(step, (np.array([0.0, 1.0]),), allow_kinks=allow_kinks)


def with_gradient(fn, gradient):
    """`fn` with a derivative made up."""
    wrong = jax.custom_vjp(fn)
    wrong.defvjp(lambda x: (fn(x), x), lambda x, cotangent: (cotangent * gradient(x),))
    return wrong


@pytest.mark.parametrize(
    ("fn", "gradient", "point"),
    [
        (lambda x: jnp.exp(x).sum(), lambda x: 0 * x, [709.5]),  # a step overflows
        (lambda x: jnp.log(x).sum(), lambda x: 0 * x, [1e-3]),  # a step leaves it
        (lambda x: (1 / x).sum(), lambda x: 777 + 0 * x, [1e-3]),
        (lambda x: jnp.abs(x).sum(), lambda x: 0.5 + 0 * x, [1e-3]),
        (lambda x: (x**2).sum(), lambda x: 1e-5 + 0 * x, [0.0]),
        # Of the wrong sign, and small beside its neighbour.
        (
            lambda x: 1e5 * x[0] ** 2 + x[1] ** 2,
            lambda x: jnp.array([2e5 * x[0], -2 * x[1]]),
            [1.0, 1.0],
        ),
    ],
)
def test_no_wrong_gradient_slips_through_where_differences_are_hard(
    fn, gradient, point
):
    for num_directions in (0, 4):
        with pytest.raises(AssertionError, match=r"Worst, args\[0\]"):
            testing.check_gradients(
                with_gradient(fn, gradient),
                (np.array(point),),
                num_directions=num_directions,
            )


@pytest.mark.parametrize(
    ("fn", "point"),
    [
        (lambda x: jnp.sum((x - 1) ** 2), 1.0),
        (lambda x: jnp.sum(x**3), 0.0),
        (lambda x: jnp.sum(x * jnp.abs(x)), 0.0),
        (lambda x: jnp.sum(jax.nn.relu(x) ** 2), 0.0),
        (lambda x: jnp.sum(jnp.log(x)), 1e-4),
        (lambda x: jnp.sum(jnp.sqrt(x)), 1e-6),
        (lambda x: jnp.sum(jnp.arccos(x)), 1 - 5e-4),
        (lambda x: jax.nn.logsumexp(x), 1e6),
        (lambda x: losses.value_loss(x, jnp.full(3, 2.0)), 2.0),
    ],
)
def test_stationary_points_edges_and_large_arguments_pass(fn, point):
    assert testing.check_gradients(fn, (np.full(3, point),)).kinks == ()


def test_the_oracle_cannot_change_the_arguments():
    def by_hand(x, y):
        y *= 2
        return np.sum(x * y) / 2, y / 2

    x, y = np.ones(3), np.arange(3.0)
    testing.check_gradients(lambda x, y: jnp.sum(x * y), (x, y), by_hand)
    np.testing.assert_array_equal(y, np.arange(3.0))


@pytest.mark.parametrize(
    "fn",
    [
        lambda x: 1e6 + jnp.sin(100 * x).sum(),
        lambda x: 1e-9 * jnp.sum(x**2),
        lambda x: jnp.sum(jnp.log(x)),
        lambda x: jnp.sum(jnp.exp(10 * x)),
        lambda x: jnp.sum(0 * x),
    ],
)
def test_size_and_curvature_raise_no_false_alarm(fn):
    for point in (np.array([0.01, 1.3]), np.array([3.0])):
        assert testing.check_gradients(fn, (point,)).kinks == ()


def test_any_pytree_with_whatever_is_no_floating_number():
    def loss(params, agent, count, key):
        noise = jax.random.normal(key)
        return agent.discount * jnp.sum(params[0] * params[1]) ** 2 * count + noise

    args = ((np.ones(2), np.array([2, 3])), rljax.PPO(hidden_sizes=()), 3)
    args = (*args, jax.random.key(0))
    assert testing.check_gradients(loss, args).num_slopes == 2 + 8
    by_both = testing.check_gradients(loss, args, argnums=(0, 1))
    assert by_both.num_slopes > 2 + 8


def test_many_numbers_are_sampled():
    weights = np.random.default_rng(0).normal(size=(60, 50))
    report = testing.check_gradients(
        lambda w: jnp.sum(jnp.tanh(w)), (weights,), max_coordinates=20
    )
    assert report.num_slopes == 28


def test_the_shared_trunk_of_a_shipped_network_against_the_oracle():
    rng = np.random.default_rng(1)
    obs, actions = rng.normal(size=(7, 4)), rng.integers(2, size=7)
    advantages, targets = rng.normal(size=(2, 7))
    agent = rljax.ActorCritic(hidden_sizes=(8,))
    env = rljax.make("CartPole-v1")
    params = agent.init(jax.random.key(0), env).params

    def loss(params):
        logits, values = jax.vmap(
            lambda x: networks.actor_critic_apply(params, x, "relu")
        )(obs)
        log_probs = rljax.distributions.categorical_log_prob(logits, actions)
        policy_loss = losses.policy_gradient_loss(log_probs, advantages)
        return policy_loss + losses.value_loss(values, targets)

    def by_hand(params):
        (w1, b1), (wa, ba), (wc, bc) = (
            params.trunk[0],
            params.actor[0],
            params.critic[0],
        )
        p = {"W1": w1, "b1": b1, "Wa": wa, "ba": ba, "Wc": wc, "bc": bc}
        z, h, logits, values = oracle.forward(p, obs)
        grads = oracle.backward(
            p,
            obs,
            z,
            h,
            oracle.policy_gradient(logits, actions, advantages) / 7,
            (values - targets) / 7,
        )
        pi = np.exp(logits - np.log(np.exp(logits).sum(1, keepdims=True)))
        policy_loss = -np.mean(np.log(pi[np.arange(7), actions]) * advantages)
        value = policy_loss + 0.5 * np.mean((targets - values) ** 2)
        dense = [
            (networks.Dense(grads["W" + name], grads["b" + name]),) for name in "1ac"
        ]
        return value, networks.ActorCriticParams(*dense)

    report = testing.check_gradients(loss, (params,), by_hand)
    assert report.oracle_error < 1e-12


@pytest.mark.parametrize(
    ("fn", "args", "settings", "error", "message"),
    [
        (jnp.sum, np.ones(3), {}, TypeError, "args must be the tuple"),
        (jnp.sum, (3,), {}, ValueError, "names no floating number"),
        (jnp.sum, (np.zeros(0),), {}, ValueError, "names no floating number"),
        (jnp.sum, (1.0,), {"argnums": 1}, ValueError, "by their numbers, got 1"),
        (jnp.sum, (1.0,), {"argnums": "a"}, ValueError, "by their numbers, got 'a'"),
        (jnp.sum, (1.0,), {"argnums": (0, -1)}, ValueError, "each argument once"),
        (jnp.sum, (1.0,), {"rtol": -1.0}, ValueError, "rtol must be a number above 0"),
        (None, (1.0,), {}, TypeError, "fn must be a function, got None"),
        (jnp.sum, (1.0,), {"oracle": 3}, TypeError, "oracle must be a function, got 3"),
        (jnp.sum, (np.ones(2, complex),), {}, TypeError, "is complex"),
        (
            jnp.max,
            (np.array([0.0, -np.inf]),),
            {},
            ValueError,
            r"args\[0\]\[1\] is -inf: differences need finite numbers",
        ),
        (
            jnp.sum,
            (1.0,),
            {"oracle": lambda x: (None, 1.0)},
            TypeError,
            "a real scalar as its value, got None",
        ),
        (
            jnp.sum,
            (1.0,),
            {"oracle": lambda x: (np.array([1.0]), 1.0)},
            TypeError,
            "a real scalar as its value, got array([1.])",
        ),
        (
            jnp.sum,
            (1.0,),
            {"oracle": lambda x: (1 + 0j, 1.0)},
            TypeError,
            "a real scalar as its value, got (1+0j)",
        ),
        (lambda x: x, (np.ones(2),), {}, ValueError, "must return a scalar"),
        (
            lambda x: jnp.sum(x.astype(jnp.float32)),
            (np.ones(2),),
            {},
            ValueError,
            "returns float32 for arguments in float64",
        ),
        (jnp.log, (-1.0,), {}, AssertionError, "is nan at the arguments"),
        (
            lambda x: jnp.sqrt(x["a"]).sum(),
            ({"a": np.array([1.0, 0.0])},),
            {},
            AssertionError,
            r"by args\[0\]\['a'\]\[1\] is inf",
        ),
        (
            jnp.sum,
            (np.ones(2),),
            {"oracle": lambda x: 2.0},
            TypeError,
            "must return (value, gradient)",
        ),
        (
            jnp.sum,
            (np.ones(2),),
            {"oracle": lambda x: (2.0, {"x": x})},
            TypeError,
            "in the structure",
        ),
        (
            jnp.sum,
            (np.ones(2),),
            {"oracle": lambda x: (2.0, np.ones(3))},
            ValueError,
            "has shape (3,), the argument (2,)",
        ),
        (
            jnp.sum,
            (np.ones(2),),
            {"num_directions": 0, "max_coordinates": 0},
            ValueError,
            "must not both be 0",
        ),
    ],
)
def test_bad_input_is_named(fn, args, settings, error, message):
    if r"\[" not in message:
        message = re.escape(message)
    with pytest.raises(error, match=message):
        testing.check_gradients(fn, args, **settings)
