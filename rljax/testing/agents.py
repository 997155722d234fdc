"""The contract of agents."""

import inspect
from typing import Any

import jax
import jax.numpy as jnp

from rljax import rollout, struct, types
from rljax.testing import common
from rljax.testing.common import require
from rljax.train import init_train, train_step
from rljax.types import Agent, Env


def check_agent(agent: Agent, env: Env, key: jax.Array) -> None:
    """Holds an agent against the contract of `types.Agent`, in an environment.

    - It is a pytree that survives flattening, its leaves are scalars (fields of
      `struct.data` apart); signatures are the protocol's.
    - `init`, `act`, `greedy`, `update` (`learn`, if it is online) are pure: the same
      from two calls with one key, under jit, under vmap as in a loop, and no traced
      value is left behind.
    - Actions lie in the environment's action space; what `act` returns beside them, the
      state and the metrics are arrays, strongly typed.
    - An update keeps structure, shapes and dtypes of the state, so training scans over
      it and compiles once; the state holds no NaN; metrics are scalars by name.
    - `draw` and `decide`, if there are any, do what `act` does.

    Two updates are run, on `rollout_length` × `num_envs` steps each.

    Args:
      agent: agent, with scalar leaves.
      env: environment that it can act in; see `check_env`.
      key: random key, typed.

    Raises:
      AssertionError: the message says which part of the contract is broken, and where.
      TypeError, ValueError: an argument is not what its name says.
    """
    types.check_agent(agent)
    types.check_env(env)
    types.check_key(key)
    for name in ("num_envs", "rollout_length"):
        label = f"{type(agent).__name__}.{name}"
        struct.check_int(label, getattr(agent, name), minimum=1)
    _check_pytree(agent)
    _check_signatures(agent)
    key_init, key_reset, key_act, key_train = jax.random.split(key, 4)
    state = agent.init(key_init, env)
    common.require_arrays(state, "init")
    keys = jax.random.split(key_init, 2)
    common.require_pure(lambda k: agent.init(k, env), [(k,) for k in keys], "init")
    common.require_strong(jax.eval_shape(lambda: agent.init(key_init, env)), "state")
    common.require_finite(state, "the state after init", or_infinite=True)
    _, obs = env.reset(key_reset)
    _check_actions(agent, env, state, obs, key_act)
    if hasattr(type(agent), "draw"):
        _check_draw(agent, state, obs, key_act)
    _check_learning(agent, env, key_train)


def _check_pytree(agent: Agent) -> None:
    leaves, structure = jax.tree.flatten(agent)
    again = jax.tree.unflatten(structure, leaves)
    require(
        jax.tree.structure(again) == structure,
        f"{type(agent).__name__} has another structure after it was flattened and put "
        "together again, perhaps as a field is neither a leaf nor static",
    )
    for path, leaf in jax.tree_util.tree_leaves_with_path(struct.without_data(agent)):
        where = f"{type(agent).__name__}{jax.tree_util.keystr(path)}"
        try:
            shape = jnp.shape(jnp.asarray(leaf))
        except TypeError as error:
            raise AssertionError(
                f"{where} is {leaf!r}, a leaf that is no number; make the field "
                "rljax.struct.static."
            ) from error
        require(shape == (), f"{where} must be a scalar here, has shape {shape}: vmap")


def _check_signatures(agent: Any) -> None:
    expected = {
        "init": ["key", "env"],
        "act": ["state", "obs", "key"],
        "greedy": ["state", "obs"],
        "update": ["state", "trajectory", "key"],
    }
    if getattr(agent, "online", False):
        require(hasattr(agent, "learn"), "an online agent must have learn")
        expected["learn"] = ["state", "transition"]
    for method, arguments in expected.items():
        names = list(inspect.signature(getattr(agent, method)).parameters)
        require(names == arguments, f"{method} takes {names}, the contract {arguments}")


def _check_actions(
    agent: Agent, env: Env, state: Any, obs: Any, key: jax.Array
) -> None:
    keys = jax.random.split(key, 3)
    acted = agent.act(state, obs, key)
    require(common.is_pair(acted), f"act must return (action, extras), got {acted!r}")
    common.require_arrays(acted, "act")
    shapes = jax.eval_shape(agent.act, state, obs, key)
    common.require_strong(shapes, "what act returns, ")
    for i, k in enumerate(keys):
        action, _ = agent.act(state, obs, k)
        common.require_element(env.action_space, action, f"action {i} of act")
    greedy = agent.greedy(state, obs)
    common.require_element(env.action_space, greedy, "the action of greedy")
    cases = [(state, obs, k) for k in keys]
    common.require_pure(agent.act, cases, "act")
    common.require_pure(agent.greedy, [(state, obs)] * 2, "greedy")


def _check_draw(agent: Any, state: Any, obs: Any, key: jax.Array) -> None:
    """`decide` with drawn noise is `act`, and noise comes in any shape."""
    require(hasattr(agent, "decide"), "an agent with draw must have decide")
    decided = agent.decide(state, obs, agent.draw(state, (), key))
    what = "decide instead of act differs"
    common.require_equal(decided, agent.act(state, obs, key), what)
    single = jax.eval_shape(lambda: agent.draw(state, (), key))
    many = jax.eval_shape(lambda: agent.draw(state, (2, 3), key))
    for one, some in zip(jax.tree.leaves(single), jax.tree.leaves(many), strict=True):
        require(
            some.shape == (2, 3, *one.shape) and some.dtype == one.dtype,
            f"draw(state, (2, 3), key) must return leaves of shape "
            f"{(2, 3, *one.shape)}, returns {some}",
        )


def _check_learning(agent: Any, env: Env, key: jax.Array) -> None:
    keys = jax.random.split(key, 2)
    online = getattr(agent, "online", False)
    name = "learn" if online else "update"
    gather = jax.jit(lambda k: _experience(agent, env, k))
    experience = [gather(k) for k in keys]
    cases = [
        (state, jax.tree.map(lambda x: x[0], trajectory))
        if online
        else (state, trajectory, k)
        for (state, trajectory), k in zip(experience, keys, strict=True)
    ]
    learn = getattr(agent, name)
    learned = jax.eval_shape(learn, *cases[0])
    require(
        common.is_pair(learned),
        f"{name} must return (state, metrics), got {learned!r}",
    )
    after, metrics = learned
    before = jax.eval_shape(lambda k: agent.init(k, env), key)
    times = (f"after {name}", "after init")
    common.require_same_types(after, before, "state", times)
    require(
        isinstance(metrics, dict), f"{name}'s metrics must be a dict, got {metrics!r}"
    )
    for metric, value in metrics.items():
        require(
            hasattr(value, "shape")
            and value.shape == ()
            and jnp.issubdtype(value.dtype, jnp.floating),
            f"metric {metric!r} must be a floating scalar, is {value}",
        )
        common.require_strong(value, f"metric {metric!r}")
    common.require_pure(learn, cases, name)
    step = jax.jit(train_step)
    train_state = init_train(agent, env, key)
    for i in range(2):
        train_state, _ = step(agent, env, train_state)
        common.require_finite(
            train_state.agent_state,
            f"the state after {i + 1} updates",
            or_infinite=True,  # as a best so far is at first
        )
    # Where the agent has come to, its actions must still be actions.
    state = train_state.agent_state
    obs = jax.tree.map(lambda x: x[0], train_state.rollout_state.obs)
    action, _ = agent.act(state, obs, key)
    common.require_element(env.action_space, action, "after 2 updates, act's action")
    greedy = agent.greedy(state, obs)
    common.require_element(env.action_space, greedy, "after 2 updates, greedy's action")


def _experience(agent: Any, env: Env, key: jax.Array) -> tuple[Any, Any]:
    """An untrained state and a trajectory [T, N, …] of it."""
    key_init, key_reset, key_unroll = jax.random.split(key, 3)
    state = agent.init(key_init, env)

    def unroll(key_reset, key_unroll):
        start = rollout.start(env, key_reset)
        return rollout.unroll(
            agent, state, env, start, key_unroll, length=agent.rollout_length
        )[1]

    keys_reset = jax.random.split(key_reset, agent.num_envs)
    keys_unroll = jax.random.split(key_unroll, agent.num_envs)
    return state, jax.vmap(unroll, out_axes=1)(keys_reset, keys_unroll)
