"""Holds a function and its gradients against an oracle, in every variant.

Plain and under vmap (which chex's variants lack) in float64 to 1e-12, under jit in
float32 to 1e-5: to compile every pair of the two would take twice as long. Relative: a
value to the largest number that goes in or comes out, a gradient to its own largest or
the largest weight, if that is more.
"""

import contextlib
import functools

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tests.conftest import enable_x64


def assert_equals_oracle(fn, oracle, cases, *, argnums, plain=True, scale=0.0):
    """`fn(*args)` and its gradients by `argnums` are what the oracle says.

    Args:
      fn: the shipped function; a module's own, as its compiled forms are kept.
      oracle: (*args, weights) -> (value, gradients), of Σ weights · value.
      cases: two tuples of arguments, alike in shape, with float64 and other arrays; the
        last entry of each are the weights, in the shape of the value.
      argnums: of the arguments that `oracle` gives gradients by, in its order.
      plain: whether to run it without jit as well, which takes 1000 times longer.
      scale: size of the numbers that cancel in a gradient, 0 where none do.
    """
    expected = [oracle(*case) for case in cases]
    for dtype, tolerance, variants in (
        (jnp.float64, 1e-12, ("plain", "vmap")[not plain :]),
        (jnp.float32, 1e-5, ("jit",)),
    ):
        args = [[_cast(x, dtype) for x in case] for case in cases]
        x64 = enable_x64() if dtype == jnp.float64 else contextlib.nullcontext()
        with x64:
            for variant in variants:
                if variant == "vmap":
                    stacked = [np.stack(both) for both in zip(*args, strict=True)]
                    out = _transformed(fn, argnums, "vmap")(*stacked)
                    outs = [jax.tree.map(lambda x, i=i: x[i], out) for i in (0, 1)]
                else:
                    outs = [_transformed(fn, argnums, variant)(*args[0])]
                for case, one, right in zip(args, outs, expected, strict=False):
                    _assert_close(one, right, case, dtype, tolerance, variant, scale)


@functools.cache
def _transformed(fn, argnums, variant):
    def value_and_gradients(*args):
        *args, weights = args

        def of_differentiable(*chosen):
            full = list(args)
            for i, value in zip(argnums, chosen, strict=True):
                full[i] = value
            return fn(*full)

        value, vjp = jax.vjp(of_differentiable, *(args[i] for i in argnums))
        return value, vjp(jnp.asarray(weights, value.dtype))

    if variant == "plain":
        return value_and_gradients
    if variant == "jit":
        return jax.jit(value_and_gradients)
    return jax.jit(jax.vmap(value_and_gradients))


def _cast(x, dtype):
    x = np.asarray(x)
    return x.astype(dtype) if x.dtype.kind == "f" else x


def _assert_close(out, expected, args, dtype, tolerance, variant, scale):
    inputs = [np.abs(x).max() for x in args if x.dtype.kind == "f" and x.size]
    for i, (a, b) in enumerate(
        zip(jax.tree.leaves(out), jax.tree.leaves(expected), strict=True)
    ):
        assert a.dtype == dtype
        others = inputs if i == 0 else [inputs[-1], scale]  # the last are the weights
        size = max(1.0, np.abs(b).max(initial=0.0), *others)
        np.testing.assert_allclose(
            a,
            b,
            rtol=tolerance,
            atol=tolerance * size,
            err_msg=f"{variant}, {'value' if i == 0 else f'gradient {i - 1}'}",
        )


PLAIN = st.sampled_from([True] + [False] * 15)  # the first one is tried first


def reals(low, high):
    """Numbers that float32 holds exactly: both precisions compute the same thing.

    None so small that XLA flushes it to 0, which moves it to the other side of a sign.
    """
    return st.floats(low, high, width=32, allow_subnormal=False)


REALS = reals(-4, 4) | st.sampled_from([0.0, 1.0, -1.0])


def arrays(shape, elements=REALS):
    return hnp.arrays(np.float64, shape, elements=elements)


def flags(length):
    """[length] bool: anything, none, all, or the last alone."""
    last = np.arange(length) == length - 1
    special = [np.zeros(length, bool), np.ones(length, bool), last]
    # As digits of a number: all patterns are drawn alike, few of them being all False.
    digits = st.integers(0, 2**length - 1).map(
        lambda number: np.array([number >> i & 1 for i in range(length)], bool)
    )
    return digits | digits | st.sampled_from(special)
