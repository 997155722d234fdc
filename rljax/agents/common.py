"""What the policy-gradient agents share: their state, and the checks around it."""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree

from rljax import networks, returns, spaces, struct
from rljax.types import Env, Transition


class AgentState(NamedTuple):
    """Everything that a policy-gradient agent learns or counts."""

    params: Any
    opt_state: optax.OptState
    num_updates: jax.Array
    """[] int32: calls of `update` so far."""


def adam(
    learning_rate: jax.typing.ArrayLike, epsilon: jax.typing.ArrayLike = 1e-8
) -> optax.GradientTransformation:
    """Adam that can itself be differentiated.

    optax.adam divides by sqrt(v), whose derivative is infinite at the v = 0 of a dead
    unit; a floor of 1e-30 under the root makes it finite and changes no update that
    epsilon does not drown.
    """
    return optax.adam(learning_rate, eps=epsilon, eps_root=1e-30)  # pyright: ignore[reportArgumentType]


def check_settings(agent: Any) -> None:
    """Checks the fields that all policy-gradient agents have.

    Raises:
      TypeError, ValueError: names the field, the value and what would be right.
    """
    who = type(agent).__name__
    struct.check_ints(agent, "num_envs", "rollout_length", minimum=1)
    struct.check_sizes(agent, "hidden_sizes")
    struct.check_choice(agent, "activation", networks.ACTIVATIONS)
    struct.check_reals(agent, "learning_rate", minimum=0.0)
    if hasattr(agent, "discount"):
        struct.check_reals(agent, "discount", minimum=0.0, maximum=1.0)
    network = agent.network
    if network is not None and (
        isinstance(network, type) or not isinstance(network, networks.Network)
    ):
        raise TypeError(
            f"{who}.network must have init(key, obs) and apply(params, obs), as a flax "
            f"module has, got {network!r}."
        )


def check_optimizer(agent: Any) -> None:
    """Raises TypeError unless `optimizer` can be called with a learning rate."""
    if not callable(agent.optimizer):
        raise TypeError(
            f"{type(agent).__name__}.optimizer must be a function of the learning rate "
            f"such as optax.sgd, not an optimiser built already, got "
            f"{agent.optimizer!r}."
        )


def built_optimizer(
    agent: Any, learning_rate: jax.typing.ArrayLike
) -> optax.GradientTransformation:
    """`agent.optimizer` at a learning rate, behind the clip of the norm if it has one.

    Raises:
      TypeError: what it returns is no optimiser.
    """
    optimizer = agent.optimizer(learning_rate)
    if not (hasattr(optimizer, "init") and hasattr(optimizer, "update")):
        raise TypeError(
            f"{type(agent).__name__}.optimizer must return an optimiser such as "
            f"optax.sgd(learning_rate), returned {optimizer!r}."
        )
    return clipped(optimizer, getattr(agent, "max_grad_norm", None))


def input_size(space: spaces.Space, who: str) -> int:
    """The length of an observation as a vector, one-hot for a discrete space.

    Raises:
      TypeError: observations are of another kind; `who` names the agent.
    """
    if isinstance(space, spaces.Discrete):
        return space.n
    # An integer scalar would be taken for an index: see networks.mlp_apply.
    is_count = jnp.issubdtype(space.dtype, jnp.integer) and space.shape == ()
    if isinstance(space, spaces.Box) and not is_count:
        return math.prod(space.shape)
    raise TypeError(
        f"{who}'s own networks take a Discrete or Box observation space (not a Box of "
        f"one integer), got {space}. Pass {who}(network=…) for any other."
    )


def init_network(
    network: Any, space: spaces.Space, outputs: Any, who: str, key: jax.Array
) -> Any:
    """Parameters of a user's network, once its output is known to fit.

    Args:
      network: the user's `init`/`apply` pair.
      space: observation space.
      outputs: the tree of shapes that `apply` must return.
      who: the agent, for the error.
      key: random key.

    Raises:
      ValueError: `apply` returns something else, or the network says that it is for
        another number of discrete observations.
    """
    for part in (network, *(getattr(network, x, None) for x in ("actor", "critic"))):
        size = getattr(part, "num_observations", None)
        if size is not None and size != getattr(space, "n", None):
            raise ValueError(
                f"{who}.network reads {size} different observations, but the "
                f"environment has {space}: build {part!r} with the environment's sizes."
            )
    obs = jnp.zeros(space.shape, space.dtype)
    params = network.init(key, obs)
    shapes = jax.tree.map(jnp.shape, jax.eval_shape(network.apply, params, obs))
    if shapes != outputs:
        raise ValueError(
            f"{who}.network.apply must return arrays of shapes {outputs} for one "
            f"observation, got {shapes}."
        )
    return params


def as_vector(params: Any) -> tuple[jax.Array, Callable[[jax.Array], Any]]:
    """All parameters in one vector, and the function that makes them of one.

    Raises:
      TypeError: a parameter is no floating array.
    """
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        dtype = jnp.asarray(leaf).dtype
        if not jnp.issubdtype(dtype, jnp.floating):
            raise TypeError(
                "a network's parameters must be floating arrays, as each is learned, "
                f"got {dtype} at params{jax.tree_util.keystr(path)}. Keep it in the "
                "network itself."
            )
    return ravel_pytree(params)


def standardize(x: jax.Array, where: jax.Array | None = None) -> jax.Array:
    """(x − mean) / sqrt(variance + 1e-16), both over the elements that `where` marks.

    The floor stands for the customary 1e-8 beside the root, but under it, so that the
    derivative stays finite where all elements are equal.
    """
    # From one of them first: the mean of equal numbers is rounded, and what it is off
    # by would be all the deviation there is.
    one = x.ravel()[0] if where is None else jnp.max(x, where=where, initial=-jnp.inf)
    x = x - jax.lax.stop_gradient(one)
    x = x - jnp.mean(x, where=where)
    return x / jnp.sqrt(jnp.mean(jnp.square(x), where=where) + 1e-16)


def greedy_action(logits: jax.Array) -> jax.Array:
    """The most probable action, [] int32, ties to the lowest."""
    return jnp.argmax(logits, axis=-1).astype(jnp.int32)


def gradient_step(
    optimizer: optax.GradientTransformation, grads: Any, params: Any, opt_state: Any
) -> tuple[Any, optax.OptState, jax.Array]:
    """Parameters and optimiser state after one step, and the raw gradient's norm."""
    updates, opt_state = optimizer.update(grads, opt_state, params)
    return optax.apply_updates(params, updates), opt_state, optax.tree.norm(grads)


def clipped(
    optimizer: optax.GradientTransformation, max_grad_norm: Any
) -> optax.GradientTransformation:
    """`optimizer` behind a clip of the global gradient norm, unless that is None."""
    if max_grad_norm is None:
        return optimizer
    return optax.chain(optax.clip_by_global_norm(max_grad_norm), optimizer)


def annealed(agent: Any, num_updates: jax.Array) -> Any:
    """The learning rate after some updates; falls to 0 over `anneal_updates`."""
    if agent.anneal_updates is None:
        return agent.learning_rate
    remaining = 1.0 - num_updates / agent.anneal_updates
    return agent.learning_rate * jnp.maximum(remaining, 0.0)


def init_actor_critic(agent: Any, env: Env, initialization: str, key: jax.Array) -> Any:
    """Parameters of an actor and a critic: the agent's own kind or the user's."""
    struct.check_scalars(agent)
    who = type(agent).__name__
    num_actions = spaces.num_actions(env.action_space, who)
    if agent.network is not None:
        outputs = ((num_actions,), ())
        return init_network(agent.network, env.observation_space, outputs, who, key)
    return networks.actor_critic_init(
        input_size(env.observation_space, who),
        num_actions,
        agent.hidden_sizes,
        key,
        shared=agent.shared_network,
        initialization=initialization,
    )


def apply_actor_critic(
    agent: Any, params: Any, obs: Any
) -> tuple[jax.Array, jax.Array]:
    """Logits [A] and value [] of one observation."""
    if agent.network is not None:
        return agent.network.apply(params, obs)
    return networks.actor_critic_apply(params, obs, agent.activation)


def init_policy(agent: Any, env: Env, key: jax.Array) -> Any:
    """Parameters of a policy alone: an MLP of the agent's or the user's network."""
    struct.check_scalars(agent)
    who = type(agent).__name__
    num_actions = spaces.num_actions(env.action_space, who)
    if agent.network is not None:
        space = env.observation_space
        return init_network(agent.network, space, (num_actions,), who, key)
    inputs = input_size(env.observation_space, who)
    return networks.mlp_init((inputs, *agent.hidden_sizes, num_actions), key)


def apply_policy(agent: Any, params: Any, obs: Any) -> jax.Array:
    """Logits [A] of one observation."""
    if agent.network is not None:
        return agent.network.apply(params, obs)
    return networks.mlp_apply(params, obs, agent.activation)


def batch_policy(agent: Any, params: Any, obs: Any) -> jax.Array:
    """Logits [T, N, A] of observations [T, N, …]."""
    single = functools.partial(apply_policy, agent, params)
    return jax.vmap(jax.vmap(single))(obs)


def batch_apply(agent: Any, params: Any, obs: Any) -> tuple[jax.Array, jax.Array]:
    """Logits [T, N, A] and values [T, N] of observations [T, N, …]."""
    single = functools.partial(apply_actor_critic, agent, params)
    return jax.vmap(jax.vmap(single))(obs)


def advantages_and_targets(
    agent: Any, params: Any, trajectory: Transition, time_limit_is_termination=False
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Generalised advantages, λ-return targets and values, each [T, N].

    The critic sees every successor as well as every observation, so that a value is
    bootstrapped from the state that was reached, not from one after a reset.
    """
    _, values = batch_apply(agent, params, trajectory.obs)
    _, next_values = batch_apply(agent, params, trajectory.next_obs)
    terminated = trajectory.terminated
    if time_limit_is_termination:
        terminated = terminated | trajectory.truncated
    advantages = jax.vmap(returns.gae, in_axes=(1, 1, 1, 1, 1, None, None), out_axes=1)(
        trajectory.reward,
        values,
        next_values,
        terminated,
        trajectory.truncated,
        agent.discount,
        agent.gae_lambda,
    )
    return advantages, advantages + values, values
