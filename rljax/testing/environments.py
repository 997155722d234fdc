"""The contract of environments."""

import contextlib
import inspect
from typing import Any, NamedTuple
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np

from rljax import spaces, struct, types
from rljax.mdp import MDP, SparseTransitions
from rljax.testing import common
from rljax.testing.common import require
from rljax.types import Env, TimeStep


class _Step(NamedTuple):
    """One step of the random play, and the same with another key."""

    time: int
    state: Any
    obs: Any
    action: Any
    next_state: Any
    time_step: TimeStep
    with_other_key: tuple[Any, TimeStep]

    @property
    def done(self) -> bool:
        return bool(self.time_step.terminated | self.time_step.truncated)


def check_env(env: Env, key: jax.Array, *, num_steps: int = 200) -> None:
    """Holds an environment against the contract of `types.Env`.

    - Signatures; shapes and dtypes of `reset` and `step` agree, none is weakly typed,
      reward and end flags are scalars.
    - Both functions are pure: the same from two calls with one key, under jit, under
      vmap over three states as in a loop, and no traced value is left behind.
    - `draw` and `advance`, if there are any, do what `step` does.
    - In a random play of `num_steps` steps, observations lie in their space, rewards
      are finite, and so is the observation that ends an episode.
    - `step` never resets: it does not call `reset`, and the state after a done step is
      not a fresh one. The latter is seen where all done steps, and not all others,
      lead to a state that `reset` returns, or where done steps alone depend on the key.
    - `to_mdp`, where observations are Discrete: every step played has a probability
      above 0, ends where the model's terminal states are, and pays R(s,a) where reward
      and successor are certain.

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
    key_reset, key_action, key_step, key_play, key_fresh = jax.random.split(key, 5)
    first = env.reset(key_reset)
    require(common.is_pair(first), f"reset must return (state, obs), got {first!r}")
    state, obs = first
    action = env.action_space.sample(key_action)
    _check_no_call_of_reset(env, state, action, key_step)
    second = env.step(state, action, key_step)
    require(
        common.is_pair(second) and isinstance(second[1], TimeStep),
        f"step must return (state, TimeStep), got {second!r}",
    )
    for what, tree in (("reset", first), ("step", (second[0], tuple(second[1])))):
        common.require_arrays(tree, what)
    _check_reset_and_step_agree(env, key, action)
    common.require_element(env.observation_space, obs, "the observation of reset")
    keys = jax.random.split(key_reset, 3)
    common.require_pure(env.reset, [(k,) for k in keys], "reset")
    if hasattr(type(env), "draw"):
        _check_draw(env, state, action, key_step)
    steps = _play(env, key_play, num_steps)
    cases = [(s.state, s.action, k) for s, k in zip(steps[-3:], keys, strict=False)]
    common.require_pure(env.step, cases, "step")
    fresh = [env.reset(k) for k in jax.random.split(key_fresh, 8)]
    _check_no_reset_inside(steps, fresh)
    if hasattr(env, "to_mdp") and isinstance(env.observation_space, spaces.Discrete):
        _check_model(env.to_mdp(), steps, fresh)  # pyright: ignore[reportAttributeAccessIssue]


def _check_signatures(env: Env) -> None:
    for method, expected in (
        (env.reset, ["key"]),
        (env.step, ["state", "action", "key"]),
    ):
        names = list(inspect.signature(method).parameters)
        require(
            names == expected,
            f"{method.__name__} takes {names}, the contract says {expected}",
        )


def _check_reset_and_step_agree(env: Env, key: jax.Array, action: Any) -> None:
    state, obs = jax.eval_shape(env.reset, key)
    next_state, time_step = jax.eval_shape(env.step, state, action, key)
    times = ("after step", "after reset")
    common.require_same_types(next_state, state, "state", times)
    common.require_same_types(time_step.obs, obs, "obs", times)
    for name, value in zip(time_step._fields, time_step, strict=True):
        common.require_strong(value, f"TimeStep.{name}")
    reward = time_step.reward
    require(
        reward.shape == () and jnp.issubdtype(reward.dtype, jnp.floating),
        f"TimeStep.reward must be a floating scalar, is {reward}",
    )
    for name in ("terminated", "truncated"):
        flag = getattr(time_step, name)
        require(
            flag.shape == () and flag.dtype == bool,
            f"TimeStep.{name} must be a bool scalar, is {flag}",
        )


def _check_draw(env: Any, state: Any, action: Any, key: jax.Array) -> None:
    """`advance` with drawn noise is `step`, and noise comes in any shape."""
    require(hasattr(env, "advance"), "an environment with draw must have advance")
    advanced = env.advance(state, action, env.draw((), key))
    what = "advance instead of step differs"
    common.require_equal(advanced, env.step(state, action, key), what)
    single = jax.eval_shape(lambda: env.draw((), key))
    many = jax.eval_shape(lambda: env.draw((2, 3), key))
    for one, some in zip(jax.tree.leaves(single), jax.tree.leaves(many), strict=True):
        require(
            some.shape == (2, 3, *one.shape) and some.dtype == one.dtype,
            f"draw((2, 3), key) must return leaves of shape {(2, 3, *one.shape)}, "
            f"returns {some}",
        )


def _play(env: Env, key: jax.Array, num_steps: int) -> list[_Step]:
    """Random actions, with a reset by hand after each done step."""
    reset, step = jax.jit(env.reset), jax.jit(env.step)
    key, key_reset = jax.random.split(key)
    state, obs = reset(key_reset)
    steps = []
    for t in range(num_steps):
        key, key_action, key_step, key_other, key_reset = jax.random.split(key, 5)
        action = env.action_space.sample(key_action)
        next_state, time_step = step(state, action, key_step)
        other = step(state, action, key_other)
        steps.append(_Step(t, state, obs, action, next_state, time_step, other))
        # The observation that ends an episode may lie outside, as a pole that fell, but
        # a truncated one is bootstrapped from.
        if steps[-1].done:
            common.require_finite(time_step.obs, f"the obs of step {t}")
        else:
            common.require_element(
                env.observation_space, time_step.obs, f"obs of step {t}"
            )
        common.require_finite(time_step.reward, f"the reward of step {t}")
        state, obs = next_state, time_step.obs
        if steps[-1].done:
            state, obs = reset(key_reset)
    return steps


def _check_no_call_of_reset(env: Env, state: Any, action: Any, key: jax.Array) -> None:
    """Traces `step` with the `reset` of the environment, and of any inside, watched."""
    classes, waiting = set(), [env]
    while waiting:
        outer = waiting.pop()
        classes.add(type(outer))
        waiting += [
            inner
            for inner in jax.tree.leaves(
                outer, is_leaf=lambda x, outer=outer: x is not outer and _is_env(x)
            )
            if _is_env(inner)
        ]
    with contextlib.ExitStack() as stack:
        watched = [
            stack.enter_context(
                mock.patch.object(cls, "reset", autospec=True, side_effect=cls.reset)
            )
            for cls in classes
        ]
        jax.eval_shape(lambda *args: env.step(*args), state, action, key)
    require(
        not any(reset.called for reset in watched),
        "step calls reset. It must never reset: return the true successor and its "
        "state; rollouts reset after a done step.",
    )


def _is_env(value: Any) -> bool:
    return not isinstance(value, type) and isinstance(value, Env)


def _check_no_reset_inside(steps: list[_Step], fresh: list[tuple[Any, Any]]) -> None:
    done = [step for step in steps if step.done]
    others = [step for step in steps if not step.done]
    if not done or not others:
        return
    fresh_states = [state for state, _ in fresh]

    def is_fresh(step):
        return any(_equal(step.next_state, state) for state in fresh_states)

    def depends_on_key(step):
        return not _equal((step.next_state, step.time_step), step.with_other_key)

    remedy = (
        "step must never reset: return the true successor and its state; rollouts "
        "reset after a done step."
    )
    require(
        not all(map(is_fresh, done)) or all(map(is_fresh, others)),
        f"after step {done[0].time}, which ended the episode, the state is one that "
        f"reset returns. {remedy}",
    )
    require(
        not all(map(depends_on_key, done)) or any(map(depends_on_key, others)),
        f"step {done[0].time}, which ended the episode, depends on its key, while no "
        f"other step does. {remedy}",
    )


def _equal(a: Any, b: Any) -> bool:
    try:
        common.require_equal(a, b, "", exact=True)
    except AssertionError:
        return False
    return True


def _check_model(mdp: MDP, steps: list[_Step], fresh: list[tuple[Any, Any]]) -> None:
    """Holds what was played against the enumerated model."""
    initial, terminal = np.asarray(mdp.initial), np.asarray(mdp.terminal)
    rewards = np.asarray(mdp.rewards)
    for _, obs in fresh:
        require(initial[obs] > 0, f"reset gave {obs}, where to_mdp().initial is 0")
    for step in steps:
        s, a, successor = int(step.obs), int(step.action), int(step.time_step.obs)
        where = f"step {step.time}, from state {s} with action {a} to {successor}"
        probability = _probability(mdp, s, a, successor)
        require(probability > 0, f"{where}, has probability 0 in to_mdp()")
        terminated = bool(step.time_step.terminated)
        require(
            terminated == terminal[successor],
            f"{where}, has terminated {terminated}, to_mdp().terminal is "
            f"{terminal[successor]}",
        )
        reward, other = step.time_step.reward, step.with_other_key[1].reward
        if probability > 1 - 1e-6 and reward == other:
            require(
                np.isclose(reward, rewards[s, a], 1e-5, 1e-6),
                f"{where}, pays {reward}, to_mdp().rewards is {rewards[s, a]}",
            )


def _probability(mdp: MDP, state: int, action: int, successor: int) -> float:
    if not isinstance(mdp.transitions, SparseTransitions):
        return float(mdp.transitions[state, action, successor])
    leads_there = mdp.transitions.next_states[state, action] == successor
    return float(mdp.transitions.probabilities[state, action] @ leads_there)
