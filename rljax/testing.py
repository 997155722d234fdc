"""Checks of the contracts, for anybody's environments, in any test runner."""

import inspect
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np

from rljax import struct, types
from rljax.types import Env, TimeStep


def check_env(env: Env, key: jax.Array, *, num_steps: int = 200) -> None:
    """Holds an environment against the contract of `types.Env`.

    Shapes and dtypes of `reset` and `step` agree, none is weakly typed, reward and end
    flags are scalars, spaces are honoured; both functions are deterministic in their
    arguments and give the same under jit, under vmap and without either; `draw` and
    `advance`, if there are any, do what `step` does. Random actions are played for
    `num_steps` steps. It cannot find out a `step` that resets: what a
    state means is the environment's own affair.

    Args:
      env: environment.
      key: random key, typed.
      num_steps: length of the random play.

    Raises:
      AssertionError: the message says which part of the contract is broken, and where.
      TypeError, ValueError: an argument is not what its name says.
    """
    types.check_env(env)
    types.check_key(key)
    num_steps = struct.check_int("num_steps", num_steps, minimum=1)
    _check_signatures(env)
    key_reset, key_action, key_step, key_play = jax.random.split(key, 4)
    first = env.reset(key_reset)
    _require(_is_pair(first), f"reset must return (state, obs), got {first!r}")
    state, obs = first
    action = env.action_space.sample(key_action)
    second = env.step(state, action, key_step)
    _require(
        _is_pair(second) and isinstance(second[1], TimeStep),
        f"step must return (state, TimeStep), got {second!r}",
    )
    for what, tree in (("reset", first), ("step", (second[0], tuple(second[1])))):
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
            _require(
                isinstance(leaf, jax.Array),
                f"{what} must return arrays, but {jax.tree_util.keystr(path)} of what "
                f"it returns is {leaf!r}",
            )
    _check_reset_and_step_agree(env, key, action)
    _check_element(env.observation_space, obs, "the observation of reset")
    _check_pure(env.reset, (key_reset,), "reset")
    _check_pure(env.step, (state, action, key_step), "step")
    if hasattr(type(env), "draw"):
        _check_draw(env, state, action, key_step)
    _check_play(env, key_play, num_steps)


def _require(condition: Any, message: str) -> None:
    # Not an assert statement: python -O would drop it, and the check with it.
    if not condition:
        raise AssertionError(message)


def _is_pair(value: Any) -> bool:
    return isinstance(value, tuple) and len(value) == 2


def _check_signatures(env: Env) -> None:
    for method, expected in (
        (env.reset, ["key"]),
        (env.step, ["state", "action", "key"]),
    ):
        names = list(inspect.signature(method).parameters)
        _require(
            names == expected,
            f"{method.__name__} takes {names}, the contract says {expected}",
        )


def _check_reset_and_step_agree(env: Env, key: jax.Array, action: Any) -> None:
    state, obs = jax.eval_shape(env.reset, key)
    next_state, time_step = jax.eval_shape(env.step, state, action, key)
    _assert_same_types(next_state, state, "state")
    _assert_same_types(time_step.obs, obs, "obs")
    for name, value in zip(time_step._fields, time_step, strict=True):
        for path, leaf in jax.tree_util.tree_leaves_with_path(value):
            where = f"TimeStep.{name}{jax.tree_util.keystr(path)}"
            _require(
                not leaf.weak_type, f"{where} is weakly typed; give its array a dtype"
            )
    reward = time_step.reward
    _require(
        reward.shape == () and jnp.issubdtype(reward.dtype, jnp.floating),
        f"TimeStep.reward must be a floating scalar, is {reward}",
    )
    for name in ("terminated", "truncated"):
        flag = getattr(time_step, name)
        _require(
            flag.shape == () and flag.dtype == bool,
            f"TimeStep.{name} must be a bool scalar, is {flag}",
        )


def _assert_same_types(after: Any, before: Any, what: str) -> None:
    structures = jax.tree.structure(after), jax.tree.structure(before)
    _require(
        structures[0] == structures[1],
        f"{what} has structure {structures[0]} after step, {structures[1]} after reset",
    )
    before_leaves = jax.tree.leaves(before)
    for (path, a), b in zip(
        jax.tree_util.tree_leaves_with_path(after), before_leaves, strict=True
    ):
        where = f"{what}{jax.tree_util.keystr(path)}"
        _require(
            (a.shape, a.dtype) == (b.shape, b.dtype),
            f"{where} is {a} after step, but {b} after reset",
        )
        _require(
            not (a.weak_type or b.weak_type),
            f"{where} is weakly typed; give its array a dtype",
        )


def _check_element(space: Any, value: Any, what: str) -> None:
    expected = (space.shape, jnp.dtype(jnp.result_type(space.dtype)))
    _require(isinstance(value, jax.Array), f"{what} must be one array, is {value!r}")
    got = (value.shape, value.dtype)
    _require(got == expected, f"{what} has shape and dtype {got}, its space {expected}")
    _require(space.contains(value), f"{what} is outside its space: {value}")


def _check_pure(fn: Any, args: tuple[Any, ...], name: str) -> None:
    out = fn(*args)
    chex.assert_trees_all_equal(
        out, fn(*args), custom_message=f"{name} differs between two calls"
    )
    _assert_close(out, jax.jit(fn)(*args), f"{name} under jit")
    batch = jax.tree.map(lambda x: jnp.stack([x, x]), args)
    batched = jax.vmap(fn)(*batch)
    _assert_close(out, jax.tree.map(lambda x: x[1], batched), f"{name} under vmap")


def _check_draw(env: Any, state: Any, action: Any, key: jax.Array) -> None:
    """`advance` with drawn noise is `step`, and noise comes in any shape."""
    _require(hasattr(env, "advance"), "an environment with draw must have advance")
    advanced = env.advance(state, action, env.draw((), key))
    _assert_close(env.step(state, action, key), advanced, "advance instead of step")
    single = jax.eval_shape(lambda: env.draw((), key))
    many = jax.eval_shape(lambda: env.draw((2, 3), key))
    for one, some in zip(jax.tree.leaves(single), jax.tree.leaves(many), strict=True):
        _require(
            some.shape == (2, 3, *one.shape) and some.dtype == one.dtype,
            f"draw((2, 3), key) must return leaves of shape {(2, 3, *one.shape)}, "
            f"returns {some}",
        )


def _assert_close(a: Any, b: Any, what: str) -> None:
    for (path, x), y in zip(
        jax.tree_util.tree_leaves_with_path(a), jax.tree.leaves(b), strict=True
    ):
        if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
            x, y = jax.random.key_data(x), jax.random.key_data(y)
        np.testing.assert_allclose(
            x, y, 1e-5, 1e-6, err_msg=f"{what}: {jax.tree_util.keystr(path)}"
        )


def _check_play(env: Env, key: jax.Array, num_steps: int) -> None:
    """Random actions, with a reset by hand after each done step."""
    reset, step = jax.jit(env.reset), jax.jit(env.step)
    key, key_reset = jax.random.split(key)
    state, _ = reset(key_reset)
    for t in range(num_steps):
        key, key_action, key_step, key_reset = jax.random.split(key, 4)
        action = env.action_space.sample(key_action)
        state, time_step = step(state, action, key_step)
        done = time_step.terminated | time_step.truncated
        # The observation that ends an episode may lie outside, as a pole that fell, but
        # a truncated one is bootstrapped from.
        if done:
            _require(
                jnp.isfinite(time_step.obs).all(), f"the obs of step {t} is not finite"
            )
        else:
            _check_element(env.observation_space, time_step.obs, f"obs of step {t}")
        _require(
            jnp.isfinite(time_step.reward), f"the reward of step {t} is not finite"
        )
        if done:
            state, _ = reset(key_reset)
