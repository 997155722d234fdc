"""Checks: what is on the edge, what just outside it, and what comes back."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rljax import checks, struct


@struct.dataclass
class Settings:
    """A number and a size."""

    x: float | None
    n: int = struct.static(default=1)


def passes(x, **bounds):
    """Whether x is accepted."""
    try:
        checks.reals(Settings(x), "x", **bounds)
    except ValueError:
        return False
    return True


@pytest.mark.parametrize(
    ("bounds", "inside", "outside"),
    [
        ({}, [-1e30, 0, 1e30], [np.inf, -np.inf, np.nan, 10**400, 1e39]),
        ({"minimum": 1.0}, [1, 1.5], [0.999, np.inf, np.nan]),
        ({"minimum": 1.0, "open_minimum": True}, [1.001], [1, 0.5]),
        ({"minimum": 0.0, "maximum": 2.0}, [0, 2], [-0.001, 2.001]),
        # Not 0 in float64, but in float32.
        ({"minimum": 0.0, "open_minimum": True}, [1e-30], [1e-60]),
        ({"minimum": 0.0}, [np.array([0.0, 3.0])], [np.array([0.5, -0.1])]),
    ],
)
def test_numbers_on_the_edge_and_outside(bounds, inside, outside):
    assert [x for x in inside if not passes(x, **bounds)] == []
    assert [x for x in outside if passes(x, **bounds)] == []


def test_what_a_number_becomes():
    for x in (1, np.int64(1), np.float32(1), jnp.float32(1), jnp.int32(1)):
        settings = Settings(x)
        checks.reals(settings, "x")
        assert type(settings.x) is float and settings.x == 1
    settings = Settings(np.array([1, 2]))
    checks.reals(settings, "x")
    assert settings.x.dtype == jnp.result_type(float)
    settings = Settings(jnp.array([1.5, 2.0], jnp.bfloat16))
    checks.reals(settings, "x")
    assert settings.x.dtype == jnp.bfloat16


@pytest.mark.parametrize(
    "x", [True, "1", None, 1j, np.array(["a"]), [1.0], lambda t: t]
)
def test_what_is_no_number_is_refused(x):
    with pytest.raises(TypeError, match=r"Settings.x must be a real number, finite"):
        checks.reals(Settings(x), "x")


def test_none_and_schedules_where_they_may_be():
    checks.reals(Settings(None), "x", optional=True)
    checks.reals(Settings(lambda step: step / 2), "x", schedule=True)
    with pytest.raises(TypeError, match=r"must return a scalar, returns shape \(2,\)"):
        checks.reals(Settings(lambda step: jnp.ones(2)), "x", schedule=True)
    with pytest.raises(TypeError, match="a function of the step such as"):
        checks.reals(Settings(lambda: 1.0), "x", schedule=True)


def test_integers():
    for value in (2, np.int64(2)):
        assert type(checks.integer("n", value, minimum=2, maximum=2)) is int
    for value, words in ((1, "at least 2, got 1"), (4, "at most 3, got 4")):
        with pytest.raises(ValueError, match=f"n must be {words}"):
            checks.integer("n", value, minimum=2, maximum=3)
    assert checks.integer("n", 2**70, minimum=0) == 2**70
    for value in (True, np.bool_(True), jnp.int32(2), np.array(2)):
        with pytest.raises(TypeError, match="n must be a Python integer"):
            checks.integer("n", value, minimum=0)
    with pytest.raises(TypeError, match="n must be an integer, got 2.0"):
        checks.integer("n", 2.0, minimum=0)


def test_static_fields_of_integers():
    settings = Settings(0.0, np.int32(5))
    checks.ints(settings, "n", minimum=5)
    assert type(settings.n) is int and settings.n == 5
    for n, words in ((4, "at least 5"), (2**31, "at most 2147483647")):
        with pytest.raises(ValueError, match=rf"Settings\.n must be {words}"):
            checks.ints(Settings(0.0, n), "n", minimum=5)


def test_sizes():
    settings = Settings(0.0, [3, np.int64(1)])
    checks.sizes(settings, "n")
    assert settings.n == (3, 1)
    for n, error, words in (
        (3, TypeError, "must be a tuple of integers"),
        ((3, 0), ValueError, r"n\[1\] must be at least 1"),
        ((2**31,), ValueError, r"n\[0\] must be at most 2147483647"),
    ):
        with pytest.raises(error, match=words):
            checks.sizes(Settings(0.0, n), "n")


def test_bools_and_choices():
    checks.bools(Settings(0.0, False), "n")
    with pytest.raises(TypeError, match=r"Settings\.n must be True or False, got 0"):
        checks.bools(Settings(0.0, 0), "n")
    checks.choice(Settings(0.0, "b"), "n", ["a", "b"])
    for value in ("c", ["a"]):
        with pytest.raises(ValueError, match=r"Settings\.n must be one of 'a', 'b', g"):
            checks.choice(Settings(0.0, value), "n", ["a", "b"])


def test_settings_are_scalars_and_data_may_be_arrays():
    @struct.dataclass
    class Both:
        x: float
        data: float = struct.data(default=None)
        y: float = 0.0

    checks.scalars(Both(1.0, np.ones(3)))
    with pytest.raises(
        ValueError, match=r"Both\.x must be a scalar here, has shape \(2"
    ):
        checks.scalars(Both(np.ones(2)))
    checks.scalars(Both(np.ones(2)), "y")
    with pytest.raises(ValueError, match=r"Both\.y must be a scalar here"):
        checks.scalars(Both(1.0, None, np.ones(2)), "x", "y")


def test_shapes():
    checks.same_shape(a=np.ones((2, 3)), b=np.ones((2, 3)))
    with pytest.raises(ValueError, match=r"a \(2,\), b \(2, 1\)"):
        checks.same_shape(a=np.ones(2), b=np.ones((2, 1)))
    checks.trajectory(a=np.ones(4), b=np.zeros(4))
    for arrays in (
        {"a": np.ones(4), "b": np.ones(3)},
        {"a": np.ones((4, 2)), "b": np.ones((4, 2))},
        {"a": 1.0, "b": 2.0},
    ):
        with pytest.raises(ValueError, match=r"one trajectory must have one shape \[T"):
            checks.trajectory(**arrays)
    checks.scalar(discount=np.float32(1))
    with pytest.raises(
        ValueError, match=r"discount must be a scalar, got shape \(1,\)"
    ):
        checks.scalar(discount=np.ones(1))


def test_what_becomes_numpy_s_floats():
    for good in ([1, 2], jnp.array([1, 2], jnp.bfloat16), np.array([1.0, 2.0])):
        found = checks.as_floats("x", good)
        assert type(found) is np.ndarray and found.dtype == np.float64
        np.testing.assert_array_equal(found, [1, 2])
    for wrong in ("many", [[1.0], [1.0, 2.0]], [1j], lambda: 1.0):
        with pytest.raises(TypeError, match="x must be real numbers, got "):
            checks.as_floats("x", wrong)


def test_keys():
    for good in (
        jax.random.key(0),
        jax.random.PRNGKey(0),
        jax.random.key(0, impl="rbg"),
    ):
        checks.key(good)
    for several in (jax.random.split(jax.random.key(0)), jnp.zeros((3, 2), jnp.uint32)):
        with pytest.raises(
            ValueError, match="key must be a single key, got keys of sha"
        ):
            checks.key(several)
    wrong = [0, None, np.zeros(2, np.uint32), jnp.zeros(2, jnp.int32)]
    for other in [*wrong, jnp.zeros(3, jnp.uint32), jnp.zeros(4, jnp.uint32)]:
        with pytest.raises(TypeError, match="key must be a random key such as"):
            checks.key(other)


@pytest.mark.parametrize(
    ("bounds", "where"),
    [
        ({}, "finite, got nan"),
        ({"minimum": 1.5}, "finite and at least 1.5, got nan"),
        ({"minimum": 0.0, "open_minimum": True}, "finite and more than 0, got nan"),
        ({"minimum": 0.0, "maximum": 2.0}, "in [0, 2], got nan"),
        (
            {"minimum": 0.0, "maximum": 2.0, "open_minimum": True},
            "in (0, 2], got nan",
        ),
    ],
)
def test_the_message_says_what_would_be_right(bounds, where):
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        checks.reals(Settings(np.nan), "x", **bounds)
    assert str(caught.value).startswith(f"Settings.x must be {where}")


def test_the_message_says_what_a_value_becomes_only_where_that_differs():
    for x, words in ((1e-60, "1e-60, which is 0.0 in float32"), (-1, "-1")):
        with pytest.raises(ValueError, match=rf", got {words}\.$"):
            checks.reals(Settings(x), "x", minimum=0.0, open_minimum=True)


def test_traced_values_are_left_alone():
    @jax.jit
    def checked(x):
        settings = Settings(x)
        checks.reals(settings, "x", minimum=5.0)
        return settings.x

    assert checked(1.0) == 1


def test_a_legacy_key_has_the_words_of_the_default_generator():
    with jax.default_prng_impl("rbg"):
        checks.key(jnp.zeros(4, jnp.uint32))
        with pytest.raises(TypeError, match="key must be a random key such as"):
            checks.key(jnp.zeros(2, jnp.uint32))
