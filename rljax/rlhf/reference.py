"""The base of agents with a KL penalty on leaving a frozen reference policy."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.core import Tracer

from rljax import checks, spaces, struct
from rljax.agents.base import PolicyAgent
from rljax.distributions import Distribution
from rljax.types import EnvLike


class ReferenceState(NamedTuple):
    """Everything that an agent with a reference learns or counts, and the reference."""

    params: Any
    opt_state: optax.OptState
    num_updates: jax.Array
    """[] int32: calls of `update` so far."""
    reference_params: Any
    """Parameters of π_ref, which never change."""
    kl_coef: jax.Array
    """[] floating: β of the next update if β is adapted, else the agent's."""
    policy: Distribution
    """The kind of distribution that the action space needs, without parameters."""


@struct.dataclass
class ReferencePolicy(PolicyAgent):
    """The base of agents with a policy, its reference, and no critic. Abstract.

    The network returns logits [A], as those of `rljax.rlhf.networks` do.
    """

    num_envs: int = struct.static(default=256)
    """Episodes per update, N."""
    rollout_length: int = struct.static(default=4)
    """Steps of each environment per update, T; RLOO and GRPO cut episodes there."""
    hidden_sizes: tuple[int, ...] = struct.static(default=())
    """Widths of the hidden layers; (): a table over discrete observations."""
    learning_rate: float = 0.05
    """Step size of the optimiser, at first."""
    kl_coef: float = 0.1
    """β, 0 or more, in units of the reward per nat."""
    reference: Any = struct.data(default=None)
    """Parameters of π_ref, as the network's `init` returns them, for example those of
    an earlier training. Training starts from them; None: they are drawn at random."""

    def __post_init__(self):
        super().__post_init__()
        checks.reals(self, "kl_coef", minimum=0.0)
        check_numbers(f"{type(self).__name__}.reference", self.reference)

    def init(self, key: jax.Array, env: EnvLike) -> ReferenceState:
        """Makes the policy equal to its reference; zeroes the optimiser's moments.

        Raises:
          TypeError: actions are not discrete.
          ValueError: `network` does not fit the environment, or `reference` does not
            fit the network.
        """
        spaces.num_actions(env.action_space, type(self).__name__)  # refuses others
        drawn = self.init_params(key, env)
        params = first_params(type(self).__name__, self.reference, drawn)
        opt_state = self.make_optimizer(0).init(params)
        policy = self.kind_of_policy(env)
        return first_state(params, opt_state, self.kl_coef, policy)

    def reference_logits(self, state: ReferenceState, obs: Any) -> jax.Array:
        """Logits of π_ref(·|obs), [A]."""
        return self.apply(state.reference_params, obs)


def check_numbers(name: str, reference: Any) -> None:
    """Raises TypeError unless `reference` holds real numbers, ValueError for NaN."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(reference):
        if isinstance(leaf, Tracer):
            continue
        array = np.asarray(leaf)
        where = f"{name}{jax.tree_util.keystr(path)}"
        if not jnp.issubdtype(array.dtype, jnp.number) or jnp.iscomplexobj(array):
            raise TypeError(f"{where} must hold real numbers, got {leaf!r}.")
        if np.isnan(array).any():
            raise ValueError(f"{where} must hold numbers, holds NaN.")


def first_params(who: str, reference: Any, drawn: Any) -> Any:
    """The parameters to start from: `reference` if it is not None, else `drawn`.

    Raises:
      ValueError: `reference` does not have the structure and shapes of `drawn`.
    """
    if reference is None:
        return drawn

    def shapes(tree):
        leaves = jax.tree_util.tree_leaves_with_path(tree)
        return {jax.tree_util.keystr(path): jnp.shape(leaf) for path, leaf in leaves}

    given, own = shapes(reference), shapes(drawn)
    alike = jax.tree.structure(reference) == jax.tree.structure(drawn)
    if given != own or not alike:
        raise ValueError(
            f"{who}.reference must be parameters as the agent's own network has them, "
            f"{own}, got {given}. Take them from the agent_state of an agent with the "
            "same network."
        )
    return jax.tree.map(lambda new, own: jnp.asarray(new, own.dtype), reference, drawn)


def first_state(
    params: Any, opt_state: Any, kl_coef: Any, policy: Distribution
) -> ReferenceState:
    """The state before the first update: the policy is its own reference."""
    beta = jnp.asarray(kl_coef, jnp.result_type(float))
    zero = jnp.zeros((), jnp.int32)
    return ReferenceState(params, opt_state, zero, params, beta, policy)
