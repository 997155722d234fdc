"""`check_env`: whether an environment keeps the contract."""

import contextlib
import inspect
import warnings
from typing import Any, NamedTuple
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np

from rljax import checks, contract, spaces
from rljax.display import in_words
from rljax.mdp import MDP, SparseTransitions
from rljax.testing import common
from rljax.testing.common import require
from rljax.types import Env, EnvLike, TimeStep


class _Step(NamedTuple):
    """One step of the random play, and the same step with another key."""

    time: int
    state: Any
    obs: Any
    action: Any
    key: jax.Array
    next_state: Any
    time_step: TimeStep
    with_other_key: tuple[Any, TimeStep]

    @property
    def done(self) -> bool:
        return bool(self.time_step.terminated | self.time_step.truncated)


def check_env(env: EnvLike, key: jax.Array, *, num_steps: int = 200) -> None:
    """Checks that an environment keeps the contract of `types.Env`.

    - The environment is a pytree that can be an argument of a jitted function. Its
      methods take the contract's arguments. Shapes and dtypes of `reset` and `step`
      agree, none is weakly typed, and reward and end flags are scalars.
    - Both functions are pure: a second call with the same key gives the same result,
      and so do jit and vmap over three states; no traced value is left behind.
    - `advance` with what `draw` returned does what `step` does.
    - In a random play of `num_steps` steps, observations lie in their space, rewards
      are finite, and so is the observation on which an episode terminates.
    - `step` never resets: neither by a call of `reset` nor by other means. Other means
      are found in two cases. In the first, all done steps, but not all other steps,
      lead to a state that `reset` returns, and not all done steps to its observation
      too. In the second, every done step's next state depends on the key, and no other
      step's does. A reset by a random key that the state itself holds is not found.
    - If observations are Discrete and there is a `to_mdp`, every step played has a
      probability above 0 in that model, terminates exactly in the model's terminal
      states, and pays R(s,a) where reward and successor are certain.

    Args:
      env: environment.
      key: random key, typed.
      num_steps: length of the random play.

    Raises:
      AssertionError: the message says which part of the contract is broken, and where.
      TypeError, ValueError: an argument is not what its name says.
    """
    contract.require_env(env)
    common.require_key(key)
    num_steps = checks.integer("num_steps", num_steps, minimum=1)
    with contract.naming_branches(type(env).__name__, AssertionError):
        _check_env(env, key, num_steps)


def _check_env(env: EnvLike, key: jax.Array, num_steps: int) -> None:
    _check_signatures(env)
    key_reset, key_action, key_step, key_play, key_fresh = jax.random.split(key, 5)
    first = env.reset(key_reset)
    found = f"got {in_words(first)}"
    require(common.is_pair(first), f"reset must return (state, obs), {found}")
    state, obs = first
    action = env.action_space.sample(key_action)
    _check_no_call_of_reset(env, state, action, key_step)
    second = env.step(state, action, key_step)
    require(
        common.is_pair(second) and isinstance(second[1], TimeStep),
        f"step must return (state, TimeStep), got {in_words(second)}",
    )
    for what, tree in (("reset", first), ("step", (second[0], tuple(second[1])))):
        common.require_arrays(tree, what)
    jax.eval_shape(lambda *x: env.step(*x), state, action, key_step)
    jax.eval_shape(lambda k: env.reset(k), key_reset)
    _check_is_argument(env, key)
    _check_reset_and_step_agree(env, key, action)
    common.require_element(env.observation_space, obs, "the observation of reset")
    keys = jax.random.split(key_reset, 3)
    common.require_pure(env.reset, [(k,) for k in keys], "reset")
    steps = _play(env, key_play, num_steps)
    if isinstance(env, Env) and type(env).advance is not Env.advance:
        _check_draw(env, steps)
    cases = [(s.state, s.action, k) for s, k in zip(steps[-3:], keys, strict=False)]
    common.require_pure(env.step, cases, "step")
    fresh = [env.reset(k) for k in jax.random.split(key_fresh, 8)]
    _check_no_reset_inside(steps, fresh)
    enumerable = all(_enumerates(inner) for inner in _environments(env))
    if enumerable and isinstance(env.observation_space, spaces.Discrete):
        _check_model(env.to_mdp(), steps, fresh)  # pyright: ignore[reportAttributeAccessIssue]


def _enumerates(env: EnvLike) -> bool:
    return isinstance(env, Env) and type(env).to_mdp is not Env.to_mdp


def _check_signatures(env: EnvLike) -> None:
    common.require_arguments(env, "reset", ["key"])
    common.require_arguments(env, "step", ["state", "action", "key"])


def _check_reset_and_step_agree(env: EnvLike, key: jax.Array, action: Any) -> None:
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


def _check_is_argument(env: EnvLike, key: jax.Array) -> None:
    """Traces the environment as an argument, as training does."""
    try:
        jax.eval_shape(lambda env, key: env.reset(key), env, key)

        def step(env, key):
            return env.step(env.reset(key)[0], env.action_space.sample(key), key)

        jax.eval_shape(step, env, key)
    except (TypeError, jax.errors.JAXTypeError) as error:
        raise AssertionError(
            f"{type(env).__name__} can't be an argument of a jitted function. What "
            "fixes a shape or a branch must be rljax.struct.static, what is no number "
            f"too. {error}"
        ) from error


def _check_draw(env: Env, steps: list[_Step]) -> None:
    """Checks `advance` with drawn noise against `step`, and the shapes of `draw`."""
    advance = jax.jit(
        lambda state, action, key: env.advance(state, action, env.draw((), key))
    )
    for step in steps:
        advanced = advance(step.state, step.action, step.key)
        what = f"advance instead of step differs at step {step.time}"
        common.require_equal(advanced, (step.next_state, step.time_step), what)
    common.require_draws(lambda shape: env.draw(shape, steps[0].key))


def _play(env: EnvLike, key: jax.Array, num_steps: int) -> list[_Step]:
    """Plays random actions, and resets after each done step."""
    reset, step = jax.jit(env.reset), jax.jit(env.step)
    key, key_reset = jax.random.split(key)
    state, obs = reset(key_reset)
    steps = []
    for t in range(num_steps):
        key, key_action, key_step, key_other, key_reset = jax.random.split(key, 5)
        action = env.action_space.sample(key_action)
        next_state, time_step = step(state, action, key_step)
        other = step(state, action, key_other)
        steps.append(
            _Step(t, state, obs, action, key_step, next_state, time_step, other)
        )
        # The observation on which an episode terminates may lie outside of the space,
        # such as that of a fallen pole. One at a truncation may not: its value counts.
        if time_step.terminated:
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


def _check_no_call_of_reset(
    env: EnvLike, state: Any, action: Any, key: jax.Array
) -> None:
    """Traces `step` and watches for calls of `reset`, of any inner environment too."""
    classes = {type(inner) for inner in _environments(env)}
    with contextlib.ExitStack() as stack:
        watched = [
            stack.enter_context(
                mock.patch.object(cls, "reset", autospec=True, side_effect=cls.reset)
            )
            for cls in classes
            if inspect.isfunction(cls.reset)
        ]
        jax.eval_shape(lambda *args: env.step(*args), state, action, key)
    require(
        not any(reset.called for reset in watched),
        "step calls reset. It must never reset: return the true successor and its "
        "state; rollouts reset after a done step.",
    )


def _environments(env: EnvLike) -> list[EnvLike]:
    """The environment and all environments inside of it."""
    found, waiting = [], [env]
    while waiting:
        outer = waiting.pop()
        found.append(outer)

        def is_inside(x, outer=outer):
            return x is not outer and _is_env(x)

        leaves = jax.tree.leaves(outer, is_leaf=is_inside)
        waiting += [leaf for leaf in leaves if _is_env(leaf)]
    return found


def _is_env(value: Any) -> bool:
    return not isinstance(value, type) and isinstance(value, EnvLike)


def _check_no_reset_inside(steps: list[_Step], fresh: list[tuple[Any, Any]]) -> None:
    done = [step for step in steps if step.done]
    others = [step for step in steps if not step.done]
    if not done or not others:
        return

    def is_fresh(step):
        return any(common.equal(step.next_state, state) for state, _ in fresh)

    def says_so(step):
        return any(common.equal(step.time_step.obs, obs) for _, obs in fresh)

    def depends_on_key(step):
        return not common.equal(step.next_state, step.with_other_key[0])

    remedy = (
        "step must never reset: return the true successor and its state; rollouts "
        "reset after a done step."
    )
    alike = all(is_fresh(step) and says_so(step) for step in done)
    if alike and not any(is_fresh(step) and says_so(step) for step in others):
        warnings.warn(
            f"all {len(done)} done steps, and no other one, lead to a state and an "
            f"observation that reset returns. If step resets: {remedy} If episodes "
            "truly end where they begin, all is well.",
            stacklevel=4,
        )
    require(
        # If the observation fits too, an episode may truly end in a state of reset.
        not all(map(is_fresh, done))
        or all(map(is_fresh, others))
        or all(map(says_so, done)),
        f"after step {done[0].time}, which ended the episode, the state is one that "
        f"reset returns. {remedy}",
    )
    require(
        not all(map(depends_on_key, done)) or any(map(depends_on_key, others)),
        f"step {done[0].time}, which ended the episode, depends on its key, while no "
        f"other step does. {remedy}",
    )


def _check_model(mdp: MDP, steps: list[_Step], fresh: list[tuple[Any, Any]]) -> None:
    """Checks that the steps played agree with the enumerated model."""
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
