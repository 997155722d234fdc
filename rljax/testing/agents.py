"""`check_agent`: whether an agent keeps the contract."""

import warnings
from typing import Any

import jax
import jax.numpy as jnp

from rljax import contract, rollout, struct
from rljax.display import in_words
from rljax.testing import common
from rljax.testing.common import require
from rljax.training import init_train, train_step
from rljax.types import Agent, EnvLike


def check_agent(agent: Agent, env: EnvLike, key: jax.Array) -> None:
    """Checks that an agent keeps the contract of `types.Agent` in an environment.

    - The agent is a pytree that can be flattened and put together again. Its leaves are
      scalars, except in fields of `struct.data`. Its methods take the contract's
      arguments.
    - `init`, `act`, `greedy` and `update` are pure: a second call with the same key
      gives the same result, and so do jit and vmap; no traced value is left behind.
    - Actions lie in the environment's action space. What `act` returns beside them, the
      state and the metrics are strongly typed arrays.
    - An update keeps the state's structure, shapes and dtypes, so that training can
      scan over it and compiles once. The state holds no NaN. Metrics are scalars by
      name.
    - `decide` with what `draw` returned does what `act` does, and `decide_greedily`
      does what `greedy` does. A memory keeps its structure, shapes and dtypes.

    Two training updates are run, of as many steps as the rollout plan says.

    Args:
      agent: agent, with scalar leaves.
      env: environment that it can act in; see `check_env`.
      key: random key, typed.

    Raises:
      AssertionError: the message says which part of the contract is broken, and where.
      TypeError, ValueError: an argument is not what its name says.
    """
    contract.require(agent, env, key)
    common.require_key(key)
    with contract.naming_branches(type(agent).__name__, AssertionError):
        _check_agent(agent, env, key)


def _check_agent(agent: Agent, env: EnvLike, key: jax.Array) -> None:
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
    _check_decide(agent, state, obs, key_act)
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


def _check_signatures(agent: Agent) -> None:
    expected = {
        "init": ["key", "env"],
        "act": ["state", "obs", "key"],
        "greedy": ["state", "obs"],
        "update": ["state", "trajectory", "key"],
    }
    for method, arguments in expected.items():
        common.require_arguments(agent, method, arguments)


def _check_actions(
    agent: Agent, env: EnvLike, state: Any, obs: Any, key: jax.Array
) -> None:
    keys = jax.random.split(key, 3)
    acted = agent.act(state, obs, key)
    found = f"got {in_words(acted)}"
    require(common.is_pair(acted), f"act must return (action, extras), {found}")
    common.require_arrays(acted, "act")
    _warn_if_key_is_ignored(agent, state, obs, key)
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


def _check_decide(agent: Agent, state: Any, obs: Any, key: jax.Array) -> None:
    """Checks `draw`, `decide` and `decide_greedily`, and what memory they return."""
    memory = agent.init_memory(state)
    common.require_arrays(memory, "init_memory")
    decided = agent.decide(state, obs, agent.draw(state, (), key), memory)
    require(
        isinstance(decided, tuple) and len(decided) == 3,
        f"decide must return (action, extras, memory), got {in_words(decided)}",
    )
    what = "decide instead of act differs"
    common.require_equal(decided[:2], agent.act(state, obs, key), what)
    best = agent.decide_greedily(state, obs, memory)
    require(
        common.is_pair(best),
        f"decide_greedily must return (action, memory), got {in_words(best)}",
    )
    what = "decide_greedily instead of greedy differs"
    common.require_equal(best[0], agent.greedy(state, obs), what)
    for name, after in (("decide", decided[2]), ("decide_greedily", best[1])):
        shapes, first = jax.eval_shape(lambda after=after: (after, memory))
        times = (f"after {name}", "after init_memory")
        common.require_same_types(shapes, first, "memory", times)
    common.require_draws(lambda shape: agent.draw(state, shape, key))


def _check_learning(agent: Agent, env: EnvLike, key: jax.Array) -> None:
    keys = jax.random.split(key, 2)
    gather = jax.jit(lambda k: _experience(agent, env, k))
    # A clone, as `gather` has split these keys, and JAX can refuse to use one twice.
    cases = [(*gather(k), jax.random.clone(k)) for k in keys]
    learned = jax.eval_shape(agent.update, *cases[0])
    require(
        common.is_pair(learned),
        f"update must return (state, metrics), got {in_words(learned)}",
    )
    after, metrics = learned
    before = jax.eval_shape(lambda k: agent.init(k, env), key)
    times = ("after update", "after init")
    common.require_same_types(after, before, "state", times)
    require(
        isinstance(metrics, dict), f"update's metrics must be a dict, got {metrics!r}"
    )
    for metric, value in metrics.items():
        require(
            hasattr(value, "shape")
            and value.shape == ()
            and jnp.issubdtype(value.dtype, jnp.floating),
            f"metric {metric!r} must be a floating scalar, is {value}",
        )
        common.require_strong(value, f"metric {metric!r}")
    common.require_pure(agent.update, cases, "update")
    import chex  # only here, as it would add a tenth to the time of importing rljax

    step = jax.jit(train_step)
    first = train_state = init_train(agent, env, key)
    for i in range(2):
        train_state, _ = step(agent, env, train_state)
        common.require_finite(
            train_state.agent_state,
            f"the state after {i + 1} updates",
            or_infinite=True,  # such as a best value so far, at first
        )
        chex.assert_trees_all_equal_shapes_and_dtypes(
            train_state,
            first,
            custom_message="An update must keep the types of all that training "
            "carries, or each one compiles anew",
        )
    pairs = [(before, agent.update(before, *rest)[0]) for before, *rest in cases]
    pairs.append((first.agent_state, train_state.agent_state))
    _warn_if_nothing_is_learned(agent, pairs)
    # After learning, too, its actions must lie in the action space.
    state = train_state.agent_state
    obs = jax.tree.map(lambda x: x[0], train_state.rollout_state.obs)
    action, _ = agent.act(state, obs, key)
    common.require_element(env.action_space, action, "after 2 updates, act's action")
    greedy = agent.greedy(state, obs)
    common.require_element(env.action_space, greedy, "after 2 updates, greedy's action")


def _warn_if_key_is_ignored(agent: Agent, state: Any, obs: Any, key: jax.Array) -> None:
    """Warns of an `act` to which its key makes no difference at all."""
    if not jax.tree.leaves(jax.eval_shape(lambda: agent.draw(state, (), key))):
        return  # it says itself that it draws nothing
    traced = jax.make_jaxpr(lambda k: agent.act(state, obs, k))(key).jaxpr
    used = {id(x) for equation in traced.eqns for x in equation.invars}
    used |= {id(x) for x in traced.outvars}
    if not any(id(x) in used for x in traced.invars):
        warnings.warn(
            f"{type(agent).__name__}.act ignores its key, so it never explores by "
            "chance. Where that is meant, let draw return ().",
            stacklevel=5,
        )


def _warn_if_nothing_is_learned(agent: Agent, pairs: list[tuple[Any, Any]]) -> None:
    """Warns where the agent has learned nothing in any (state before, state after).

    One pair would not do: an update may have to wait for the next step, as Sarsa's, and
    rewards may cancel by chance.
    """
    learned = [(agent.learned(before), agent.learned(after)) for before, after in pairs]
    if all(common.equal(before, after) for before, after in learned):
        warnings.warn(
            f"{type(agent).__name__}.update changes nothing of what it has learned, "
            f"in any of {len(pairs)} trials.",
            stacklevel=5,
        )


def _experience(agent: Agent, env: EnvLike, key: jax.Array) -> tuple[Any, Any]:
    """An untrained state, and a trajectory of the kind that `update` gets."""
    key_init, key_reset, key_unroll = jax.random.split(key, 3)
    plan = agent.rollout_plan
    state = agent.init(key_init, env)

    def unroll(start, key):
        return rollout.unroll(agent, state, env, start, key, length=plan.block)[1]

    starts = rollout.start_all(agent, state, env, key_reset)
    keys = jax.random.split(key_unroll, plan.num_envs)
    return state, jax.vmap(unroll, out_axes=1)(starts, keys)
