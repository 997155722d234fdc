"""What agents share that pay a price for leaving a frozen reference policy."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.core import Tracer

from rljax import distributions, kl_control, networks, struct
from rljax.agents import common
from rljax.types import Env, Transition


class ReferenceState(NamedTuple):
    """Everything that such an agent learns or counts, and what it is held to."""

    params: Any
    opt_state: optax.OptState
    num_updates: jax.Array
    """[] int32: calls of `update` so far."""
    reference_params: Any
    """Of π_ref; never changed."""
    kl_coef: jax.Array
    """[] floating: β of the next update, where it is adapted."""


@struct.dataclass
class ReferencePolicy:
    """A policy alone, with its reference and its optimiser: the base of such agents."""

    num_envs: int = struct.static(default=256)
    """Episodes per update, N."""
    rollout_length: int = struct.static(default=4)
    """Steps after which an episode is cut."""
    hidden_sizes: tuple[int, ...] = struct.static(default=())
    """Widths of the hidden layers; none: a table over discrete observations."""
    activation: Literal["relu", "tanh"] = struct.static(default="relu")
    """Hidden activation."""
    learning_rate: float = 0.05
    """Step size of the optimiser, at first."""
    anneal_updates: float | None = None
    """Updates over which the learning rate falls linearly to 0; None: constant."""
    max_grad_norm: float | None = None
    """Global norm to which a larger gradient is scaled down; None: no limit."""
    kl_coef: float = 0.1
    """β, 0 or more, in units of the reward per nat."""
    optimizer: Callable[..., optax.GradientTransformation] = struct.static(
        default=common.adam
    )
    """Builds the optimiser from the learning rate: optax.sgd, say."""
    network: networks.Network | None = struct.static(default=None)
    """An init/apply pair that returns logits [A], such as `rljax.causal`'s; None: an
    MLP of hidden_sizes."""
    reference: Any = struct.data(default=None)
    """Parameters of π_ref as the network's init gives them, such as those of a policy
    trained before; training starts from them. None: those that are drawn."""

    def __post_init__(self):
        common.check_settings(self)
        common.check_optimizer(self)
        struct.check_reals(
            self,
            "anneal_updates",
            "max_grad_norm",
            minimum=0.0,
            open_minimum=True,
            optional=True,
        )
        check_numbers(self)

    def init(self, key: jax.Array, env: Env) -> ReferenceState:
        """Policy and reference alike; zeroes the optimiser's moments.

        Raises:
          ValueError: `network` or `reference` do not fit.
        """
        params = common.init_policy(self, env, key)
        return start(self, params, common.built_optimizer(self, self.learning_rate))

    def logits(self, state: ReferenceState, obs: Any) -> jax.Array:
        """Logits of π(·|obs), [A]."""
        return common.apply_policy(self, state.params, obs)

    def reference_logits(self, state: ReferenceState, obs: Any) -> jax.Array:
        """Logits of π_ref(·|obs), [A]."""
        return common.apply_policy(self, state.reference_params, obs)

    def act(
        self, state: ReferenceState, obs: Any, key: jax.Array
    ) -> tuple[jax.Array, Any]:
        """Samples a ~ π(·|obs)."""
        return distributions.categorical_sample(self.logits(state, obs), key), ()

    def greedy(self, state: ReferenceState, obs: Any) -> jax.Array:
        """argmax_a π(a|obs), ties to the lowest action."""
        return common.greedy_action(self.logits(state, obs))


def check_numbers(agent: Any) -> None:
    """Raises TypeError or ValueError unless `reference` holds real numbers, no NaN."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(agent.reference):
        if isinstance(leaf, Tracer):
            continue
        array = np.asarray(leaf)
        name = f"{type(agent).__name__}.reference{jax.tree_util.keystr(path)}"
        if not jnp.issubdtype(array.dtype, jnp.number) or jnp.iscomplexobj(array):
            raise TypeError(f"{name} must hold real numbers, got {leaf!r}.")
        if np.isnan(array).any():
            raise ValueError(f"{name} must hold numbers, holds NaN.")


def start(agent: Any, params: Any, optimizer: Any) -> ReferenceState:
    """The state at first, from parameters just drawn or, if given, the reference's.

    Raises:
      ValueError: the agent's `reference` is not like its parameters.
    """
    if agent.reference is not None:
        _check_reference(agent, params)
        params = jax.tree.map(
            lambda given, own: jnp.asarray(given, own.dtype), agent.reference, params
        )
    kl_coef = jnp.asarray(agent.kl_coef, jnp.result_type(float))
    return ReferenceState(
        params, optimizer.init(params), jnp.zeros((), jnp.int32), params, kl_coef
    )


def _check_reference(agent: Any, params: Any) -> None:
    def shapes(tree):
        leaves = jax.tree_util.tree_leaves_with_path(tree)
        return {jax.tree_util.keystr(path): jnp.shape(leaf) for path, leaf in leaves}

    given, own = shapes(agent.reference), shapes(params)
    alike = jax.tree.structure(agent.reference) == jax.tree.structure(params)
    if given != own or not alike:
        raise ValueError(
            f"{type(agent).__name__}.reference must be parameters as the agent's own "
            f"network has them, {own}, got {given}. Take them from the agent_state of "
            "an agent with the same network."
        )


def kl_coef(agent: Any, state: ReferenceState) -> Any:
    """β in force: the agent's, or the state's where it is adapted."""
    return agent.kl_coef if agent.kl_target is None else state.kl_coef


def next_kl_coef(agent: Any, coef: Any, episode_kl: jax.Array) -> jax.Array:
    """β of the next update, adapted within a factor of 10⁴ of the agent's own.

    From a β of 0, or beyond all numbers, no factor leads back.
    """
    if agent.kl_target is not None:
        coef = kl_control.adapted_kl_coef(
            coef, episode_kl, agent.kl_target, agent.kl_rate
        )
        coef = jnp.clip(coef, agent.kl_coef / 1e4, agent.kl_coef * 1e4)
    return jnp.asarray(coef, jnp.result_type(float))


def penalize(
    agent: Any, trajectory: Transition, logits: Any, reference_logits: Any, coef: Any
) -> jax.Array:
    """[T, N] rewards, less the price of the KL where it is paid there."""
    if agent.kl_in == "loss":
        return trajectory.reward
    kl = kl_control.kl_estimates(
        logits, reference_logits, trajectory.action, agent.kl_estimator
    )
    over_envs = jax.vmap(
        kl_control.penalized_rewards, in_axes=(1, 1, 1, 1, None, None), out_axes=1
    )
    return over_envs(
        trajectory.reward,
        kl,
        trajectory.terminated,
        trajectory.truncated,
        coef,
        agent.credit,
    )
