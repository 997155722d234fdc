"""A function of small arrays, evaluated number by number.

A GPU's block works on vectors, here of one number for each environment. An
environment's own arrays are small: four numbers of an observation, say. So what the
environment computes is taken apart: `Numbers` holds, for each element of an array, the
vector of what that element is in all environments, and `evaluate` walks through the
traced function with them. Moving elements about (stack, reshape, slice …) then costs
nothing, as it only moves Python references.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.extend import core

ELEMENTWISE = frozenset(
    {
        "abs",
        "acos",
        "acosh",
        "add",
        "and",
        "asin",
        "asinh",
        "atan",
        "atan2",
        "atanh",
        "cbrt",
        "ceil",
        "clamp",
        "convert_element_type",
        "cos",
        "cosh",
        "div",
        "eq",
        "erf_inv",
        "exp",
        "exp2",
        "expm1",
        "floor",
        "ge",
        "gt",
        "integer_pow",
        "le",
        "log",
        "log1p",
        "logistic",
        "lt",
        "max",
        "min",
        "mul",
        "ne",
        "neg",
        "not",
        "or",
        "pow",
        "rem",
        "rsqrt",
        "select_n",
        "shift_left",
        "shift_right_arithmetic",
        "shift_right_logical",
        "sign",
        "sin",
        "sinh",
        "sqrt",
        "square",
        "sub",
        "tan",
        "tanh",
        "xor",
    }
)
"""Primitives that a kernel knows, of arrays of one shape."""

CALLS = {
    "jit": "jaxpr",
    "pjit": "jaxpr",
    "closed_call": "call_jaxpr",
    "custom_jvp_call": "call_jaxpr",
    "custom_vjp_call": "call_jaxpr",
    "remat": "jaxpr",
    "checkpoint": "jaxpr",
}
"""Primitives that call another function, and where it stands."""


def supported(jaxpr: Any) -> bool:
    """Whether `evaluate` knows every primitive of a traced function."""
    for eqn in jaxpr.eqns:
        name = eqn.primitive.name
        if name in CALLS:
            inner = eqn.params[CALLS[name]]
            if not supported(getattr(inner, "jaxpr", inner)):
                return False
        elif name not in ELEMENTWISE and name not in MOVES:
            return False
    return True


def uses(jaxpr: Any, variable: Any) -> bool:
    """Whether anything is computed from a variable of a traced function."""
    read = [*jaxpr.outvars, *(x for eqn in jaxpr.eqns for x in eqn.invars)]
    return any(x is variable for x in read)


def evaluate(jaxpr: Any, consts: list[Any], args: list[np.ndarray], like: Any) -> Any:
    """The results of a traced function that is `supported`, as arrays of vectors.

    Args:
      jaxpr: the function, all of whose arrays have fixed shapes.
      consts: its constants.
      args: for each argument an array of objects in the argument's shape, each of which
        is a vector; None for an argument that is not used.
      like: a vector, for its shape.
    """
    values: dict[Any, Any] = {}

    def spread(constant, dtype=None):
        array = np.asarray(constant, dtype)
        vectors = np.empty(array.shape, object)
        for index in np.ndindex(array.shape):
            vectors[index] = jnp.full(like.shape, array[index], array.dtype)
        return vectors

    def read(atom):
        if isinstance(atom, core.Literal):
            return spread(atom.val, getattr(atom.aval, "dtype", None))
        return values[atom]

    for var, constant in zip(jaxpr.constvars, consts, strict=True):
        values[var] = spread(constant)
    for var, arg in zip(jaxpr.invars, args, strict=True):
        values[var] = arg
    for eqn in jaxpr.eqns:
        name = eqn.primitive.name
        inputs = [read(atom) for atom in eqn.invars]
        if name in CALLS:
            inner = eqn.params[CALLS[name]]
            inner_consts = getattr(inner, "consts", [])
            inner = getattr(inner, "jaxpr", inner)
            outputs = evaluate(inner, inner_consts, inputs, like)
        elif name in ELEMENTWISE:
            outputs = [_elementwise(eqn, inputs)]
        else:
            outputs = [MOVES[name](eqn.params, eqn.outvars[0].aval, *inputs)]
        for var, output in zip(eqn.outvars, outputs, strict=True):
            values[var] = output
    return [read(atom) for atom in jaxpr.outvars]


def _elementwise(eqn, inputs):
    shape = eqn.outvars[0].aval.shape
    inputs = [np.broadcast_to(x, shape) for x in inputs]  # select_n, clamp: scalars
    params = eqn.params
    if eqn.primitive.name == "convert_element_type":
        params = {"dtype": params["new_dtype"]}
        bind = lambda x, dtype: x.astype(dtype)  # noqa: E731
    else:
        bind = eqn.primitive.bind
    out = np.empty(shape, object)
    for index in np.ndindex(shape):
        out[index] = bind(*(x[index] for x in inputs), **params)
    return out


def _broadcast(params, aval, x):
    shape = [1] * len(aval.shape)
    for size, axis in zip(x.shape, params["broadcast_dimensions"], strict=True):
        shape[axis] = size
    return np.broadcast_to(x.reshape(shape), aval.shape)


def _slice(params, aval, x):
    del aval
    strides = params["strides"] or (1,) * x.ndim
    index = zip(params["start_indices"], params["limit_indices"], strides, strict=True)
    return x[tuple(slice(*bounds) for bounds in index)]


def _reduce(combine: Callable[[Any, Any], Any]) -> Callable[..., np.ndarray]:
    def reduce(params, aval, x):
        axes = params["axes"]
        kept = [axis for axis in range(x.ndim) if axis not in axes]
        rows = np.transpose(x, [*kept, *axes]).reshape(*aval.shape, -1)
        out = np.empty(aval.shape, object)
        for index in np.ndindex(aval.shape):
            out[index] = functools.reduce(combine, rows[index])
        return out

    return reduce


MOVES: dict[str, Callable[..., np.ndarray]] = {
    "broadcast_in_dim": _broadcast,
    "concatenate": lambda params, aval, *xs: np.concatenate(xs, params["dimension"]),
    "copy": lambda params, aval, x: x,
    "optimization_barrier": lambda params, aval, x: x,
    "reduce_and": _reduce(jnp.logical_and),
    "reduce_max": _reduce(jnp.maximum),
    "reduce_min": _reduce(jnp.minimum),
    "reduce_or": _reduce(jnp.logical_or),
    "reduce_sum": _reduce(jnp.add),
    "reshape": lambda params, aval, x: x.reshape(aval.shape),
    "rev": lambda params, aval, x: np.flip(x, params["dimensions"]),
    "slice": _slice,
    "squeeze": lambda params, aval, x: x.reshape(aval.shape),
    "stack": lambda params, aval, *xs: np.stack(xs, params.get("axis", 0)),
    "stop_gradient": lambda params, aval, x: x,
    "transpose": lambda params, aval, x: np.transpose(x, params["permutation"]),
}
"""Primitives that move elements about, or fold them."""
