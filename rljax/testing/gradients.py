"""Gradients against central differences, and against a NumPy oracle."""

import contextlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rljax import checks
from rljax.testing import differences
from rljax.testing.differences import Kink
from rljax.testing.vector import Vector


class GradientReport(NamedTuple):
    """What `check_gradients` measured if it found no mistake."""

    max_error: float
    """Largest error against differences, relative to the leaf's largest slope."""
    oracle_error: float | None
    """Largest error against the oracle, relative to the leaf's largest number."""
    num_slopes: int
    """Coordinates and directions that were tried."""
    kinks: tuple[Kink, ...]
    """Empty unless `allow_kinks`."""


def check_gradients(
    fn: Callable[..., Any],
    args: Sequence[Any],
    oracle: Callable[..., Any] | None = None,
    *,
    argnums: int | Sequence[int] = 0,
    rtol: float = 1e-6,
    oracle_rtol: float = 1e-10,
    num_directions: int = 8,
    max_coordinates: int = 1000,
    allow_kinks: bool = False,
    seed: int = 0,
) -> GradientReport:
    """Checks jax.grad of a scalar function against central differences, in float64.

        ∇fn(x)·v ≈ (fn(x + h v) − fn(x − h v)) / 2h

    along each coordinate v of the floating leaves, and along random directions through
    all of them at once. Every floating number in `args` becomes float64 for this, and
    x64 is on while it runs. What `fn` holds constant by stop_gradient is not constant
    in the differences: pass it as an argument of its own instead.

    Where the slopes to the left and to the right differ, their mean says nothing about
    the gradient. The check fails at such a kink (within 1e-6 of the point, relative to
    its size) and names it. With `allow_kinks`, the gradient there must only lie between
    the two slopes, and the report lists the kinks. A jump of `fn` always fails.

    Args:
      fn: function of `args` to a scalar, differentiable and jittable.
      args: its arguments; pytrees of arrays and numbers.
      oracle: value and gradient by hand, in NumPy: called as oracle(*args) with NumPy
        arrays in float64, it returns (value, gradient) in the form that
        jax.value_and_grad(fn, argnums) does.
      argnums: which arguments to differentiate by, as in jax.grad.
      rtol: largest error against central differences, relative to the slope. The error
        that the differences themselves have is allowed in addition.
      oracle_rtol: largest error against the oracle's gradient, relative to the largest
        number of the same leaf, and against its value, relative to that value.
      num_directions: number of random directions.
      max_coordinates: most coordinates to try one by one; if there are more, they are
        chosen at random.
      allow_kinks: see above.
      seed: seed of the random directions and of that choice.

    Returns:
      What was measured.

    Raises:
      AssertionError: a gradient differs or is not finite, or there is a kink; the
        message names the argument, the leaf, the index and both numbers.
      TypeError, ValueError: something is not what its name says.
    """
    _check_settings(fn, args, oracle, rtol=rtol, oracle_rtol=oracle_rtol)
    num_directions = checks.integer("num_directions", num_directions, minimum=0)
    max_coordinates = checks.integer("max_coordinates", max_coordinates, minimum=0)
    with enable_x64():
        args = jax.tree.map(_to_float64, tuple(args))
        vector = Vector(args, argnums)
        name = getattr(fn, "__name__", repr(fn))

        def value_of(x):
            return fn(*vector.arguments(x))

        value, gradient = _value_and_gradient(value_of, vector, name)
        oracle_error = None
        if oracle is not None:
            expected = oracle(*jax.tree.map(_to_numpy, args))  # copies it may change
            oracle_error = _compare_with_oracle(
                name, vector, value, gradient, expected, oracle_rtol
            )
        rng = np.random.default_rng(seed)
        coordinates = np.arange(gradient.size)
        if gradient.size > max_coordinates:
            coordinates = rng.choice(gradient.size, max_coordinates, replace=False)
        shape = (num_directions, gradient.size)
        directions = rng.normal(size=shape) / np.sqrt(gradient.size) * vector.sizes
        values = differences.values_along(
            value_of, vector.start, vector.sizes, coordinates, directions
        )
    labels = [vector.label(i) for i in coordinates]
    labels += [f"random direction {i}" for i in range(num_directions)]
    groups = np.append(vector.leaf_of[coordinates], np.full(num_directions, -1))
    along = np.append(gradient[coordinates], directions @ gradient)
    lengths = np.append(vector.sizes[coordinates], np.ones(num_directions))
    slopes = differences.Slopes(values, lengths)
    scales = _largest_of_each_group(np.maximum(np.abs(slopes.best), abs(along)), groups)
    kinks, jumps = differences.find_kinks(labels, along, slopes, rtol * scales)
    if jumps:
        raise AssertionError(_describe_kinks(name, "jump", jumps))
    if kinks and not allow_kinks:
        raise AssertionError(_describe_kinks(name, "kink", kinks))
    error = _compare_with_differences(
        name,
        labels,
        len(coordinates),
        along,
        slopes,
        rtol,
        scales,
        {kink.where for kink in kinks},
    )
    return GradientReport(error, oracle_error, len(labels), tuple(kinks))


def enable_x64() -> contextlib.AbstractContextManager[Any]:
    """A context in which JAX computes in double precision."""
    if hasattr(jax, "enable_x64"):
        return jax.enable_x64(True)
    from jax.experimental import (  # before jax 0.8
        enable_x64,  # pyright: ignore[reportAttributeAccessIssue]
    )

    return enable_x64()


def _describe_kinks(name, what, kinks):
    first = kinks[0]
    remedy = "Move the arguments off it"
    if what == "kink":
        remedy += (
            ", or pass allow_kinks=True to ask only that the gradient lie between the "
            "slopes"
        )
    return (
        f"{name} has a {what} along {len(kinks)} of the coordinates and directions, so "
        f"there is no one gradient. First, {first.where}: the slope is "
        f"{first.left:.6g} on the left and {first.right:.6g} on the right, jax.grad "
        f"says {first.gradient:.6g}. {remedy}. (Lower precision inside looks the same.)"
    )


def _value_and_gradient(value_of, vector, name):
    """Value and gradient in NumPy, or an AssertionError if they are not finite."""
    _check_output(jax.eval_shape(value_of, vector.start), name)
    value, gradient = jax.jit(jax.value_and_grad(value_of))(vector.start)
    value, gradient = float(value), np.asarray(gradient)
    if not np.isfinite(value):
        raise AssertionError(f"{name} is {value} at the arguments given.")
    if not np.isfinite(gradient).all():
        i = np.argmin(np.isfinite(gradient))
        raise AssertionError(
            f"the gradient of {name} by {vector.label(i)} is {gradient[i]}."
        )
    return value, gradient


def _compare_with_differences(
    name, labels, num_coordinates, along, slopes, rtol, scales, kinks
):
    """The largest relative error, or an AssertionError that names it."""
    is_kink = np.array([label in kinks for label in labels])
    sides = (
        slopes.left[:, differences.KINK_STEP],
        slopes.right[:, differences.KINK_STEP],
    )
    low, high = np.minimum(*sides), np.maximum(*sides)
    outside = np.maximum(np.maximum(low - along, along - high), 0)
    errors = np.where(is_kink, outside, np.abs(along - slopes.best))
    # How much a slope changes with the step bounds the error of the step. Where the
    # true slope is 0, that error is all that the differences show.
    unresolved = np.minimum(
        slopes.at_chosen(slopes.change), rtol * np.maximum(1, scales)
    )
    own = np.maximum(np.abs(slopes.best), np.abs(along))
    allowed = rtol * own + unresolved + slopes.at_chosen(slopes.noise)
    allowed = np.where(is_kink, rtol * scales, allowed)
    wrong = ~(np.isfinite(allowed) & (errors <= allowed))
    if wrong.any():
        excess = np.where(wrong, errors / np.maximum(allowed, 1e-300), 0)
        if wrong[:num_coordinates].any():  # report these: they name a number
            excess[num_coordinates:] = 0
        k = int(np.argmax(excess))
        what = f"{slopes.best[k]:.10g}"
        if is_kink[k]:
            what = f"slopes of {low[k]:.10g} to {high[k]:.10g} at a kink"
        raise AssertionError(
            f"jax.grad of {name} differs from central differences along {wrong.sum()} "
            f"of {len(labels)} coordinates and directions. Worst, {labels[k]}: "
            f"jax.grad says {along[k]:.10g}, differences {what}. Either a derivative "
            "is wrong, or fn holds something constant by stop_gradient: pass that as "
            "an argument."
        )
    return _largest_ratio(errors, scales)


def _compare_with_oracle(name, vector, value, gradient, result, rtol):
    """The largest relative error, or an AssertionError that names it."""
    if not isinstance(result, tuple) or len(result) != 2:
        raise TypeError(
            f"oracle must return (value, gradient), got a {type(result).__name__}."
        )
    if np.shape(result[0]) != () or not np.isrealobj(result[0]) or result[0] is None:
        raise TypeError(
            f"oracle must return a real scalar as its value, got {result[0]!r}."
        )
    expected_value, expected = float(result[0]), vector.gradient_of(result[1])
    floor = 1e-15 * max(abs(value), np.abs(gradient).max())
    if not abs(value - expected_value) <= rtol * abs(expected_value) + floor:
        raise AssertionError(
            f"{name} is {value:.17g}, its oracle says {expected_value:.17g}."
        )
    errors = np.abs(gradient - expected)
    scales = _largest_of_each_group(np.abs(expected), vector.leaf_of)
    wrong = ~(errors <= rtol * scales + floor)
    if wrong.any():
        i = int(np.argmax(np.where(wrong, errors, -1)))
        raise AssertionError(
            f"jax.grad of {name} differs from the oracle's gradient in {wrong.sum()} "
            f"of {errors.size} numbers. Worst, {vector.label(i)}: jax.grad says "
            f"{gradient[i]:.17g}, the oracle {expected[i]:.17g}."
        )
    return _largest_ratio(errors, scales)


def _largest_ratio(errors, scales):
    """max errors / scales, in which 0/0 is 0."""
    ratios = errors / np.maximum(scales, 1e-300)
    return float(np.max(ratios, where=errors > 0, initial=0))


def _largest_of_each_group(sizes, groups):
    """For each element, the largest of its group."""
    largest = np.zeros(groups.max() + 2)
    np.maximum.at(largest, groups, sizes)  # group -1, the directions, is last
    return largest[groups]


def _check_settings(fn, args, oracle, **tolerances):
    if not isinstance(args, tuple | list):
        raise TypeError(
            "args must be the tuple of fn's arguments, (params,) for a single one, got "
            f"a {type(args).__name__}."
        )
    for name, function in (("fn", fn), ("oracle", oracle)):
        if not callable(function) and not (name == "oracle" and function is None):
            raise TypeError(f"{name} must be a function, got {function!r}.")
    for name, value in tolerances.items():
        if not isinstance(value, float | int) or not 0 < value < np.inf:
            raise ValueError(f"{name} must be a number above 0, got {value!r}.")


def _check_output(output, name):
    leaves = jax.tree.leaves(output)
    if len(leaves) != 1 or not hasattr(output, "shape") or output.shape != ():
        raise ValueError(f"{name} must return a scalar, returns {output}.")
    if output.dtype != np.float64:
        raise ValueError(
            f"{name} returns {output.dtype} for arguments in float64: something in it "
            "casts to a lower precision, which differences can't be taken of."
        )


def _to_float64(x):
    if isinstance(x, bool | int | str) or not isinstance(
        x, float | np.ndarray | np.generic | jax.Array
    ):
        return x
    is_floating = jnp.issubdtype(getattr(x, "dtype", np.float64), jnp.floating)
    return np.asarray(x, np.float64) if is_floating else x


def _to_numpy(x):
    is_key = isinstance(x, jax.Array) and jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
    return np.array(x) if isinstance(x, jax.Array | np.ndarray) and not is_key else x
