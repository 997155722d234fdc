"""PPO with a price on leaving a reference policy: the usual recipe of RLHF."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import optax

from rljax import distributions, kl_control, struct
from rljax.agents import common, reference
from rljax.agents.ppo import PPO
from rljax.agents.reference import ReferenceState
from rljax.types import Env, Transition


@struct.dataclass
class PPOKL(PPO):
    """PPO that maximises E[Σ r] − β KL(π‖π_ref) for a frozen reference π_ref.

    The price is paid in the reward, r_t − β k_t, before the advantages are computed, or
    in the loss, + β · mean k_t(π): see `rljax.kl_control` for which of these has the
    right gradient. Defaults are for a table of prefixes of a `TokenMDP` of horizon 4:
    with another horizon set `rollout_length` to it.

    The network returns (logits, value): of `rljax.causal`'s take two, an actor and a
    critic with outputs=1, as `networks.Pair(actor, critic)`.

    With `normalize_advantages`, a price in the loss is in units of the advantages'
    deviation, not of the reward.

    Source: Ziegler et al. (2019), arXiv:1909.08593; Ouyang et al. (2022),
      arXiv:2203.02155; PPO as in `PPO`.
    """

    num_envs: int = struct.static(default=256)
    """Episodes side by side, N."""
    rollout_length: int = struct.static(default=4)
    """Steps of each per update, T: whole episodes if it is a multiple of H."""
    num_epochs: int = struct.static(default=2)
    """Passes over the rollout per update."""
    num_minibatches: int = struct.static(default=2)
    """Gradient steps per pass; divides rollout_length × num_envs."""
    hidden_sizes: tuple[int, ...] = struct.static(default=())
    """Widths of the hidden layers; none: a table over discrete observations."""
    learning_rate: float = 0.03
    """Adam's step size, at first."""
    discount: float = 1.0
    """γ in [0, 1]."""
    gae_lambda: float = 0.95
    """λ in [0, 1] of the advantages."""
    normalize_advantages: bool = struct.static(default=False)
    """Whether advantages are standardised in each minibatch."""
    entropy_coef: float = 0.0
    """Weight c_H of the entropy bonus, which π_ref makes needless."""
    kl_coef: float = 0.1
    """β, 0 or more, in units of the reward per nat."""
    kl_in: kl_control.Place = struct.static(default="reward")
    """Where β's term is: "reward" or "loss"."""
    kl_estimator: kl_control.Estimator = struct.static(default="k1")
    """How a step's divergence is estimated: "exact", "k1", "k2" or "k3"."""
    credit: kl_control.Credit = struct.static(default="token")
    """Whether each "token" pays for itself, or the end for the whole "sequence"."""
    kl_target: float | None = None
    """KL of whole episodes, in nats, towards which β is adapted; None: β is fixed."""
    kl_rate: float = 0.1
    """K of that adaptation, see `kl_control.adapted_kl_coef`."""
    reference: Any = struct.data(default=None)
    """Parameters of π_ref and of the first critic, as the network's init gives them:
    of a Pair (actor, critic). Training starts from them; None: those that are drawn."""

    def __post_init__(self):
        super().__post_init__()
        kl_control.check_settings(self)
        reference.check_numbers(self)

    def init(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, key: jax.Array, env: Env
    ) -> ReferenceState:
        """Policy and reference alike; zeroes Adam's moments.

        Raises:
          ValueError: `network` or `reference` do not fit, or `rollout_length` does not
            hold whole sequences though `kl_target` needs them.
        """
        horizon = getattr(env, "horizon", None)
        if self.kl_target is not None and horizon and self.rollout_length % horizon:
            raise ValueError(
                "PPOKL.rollout_length must be a multiple of the environment's horizon, "
                f"{horizon}, with a kl_target, which is a KL of whole episodes, got "
                f"{self.rollout_length}."
            )
        params = common.init_actor_critic(self, env, self.initialization, key)
        state = reference.start(self, params, optax.identity())
        vector, _ = common.as_vector(state.params)
        return state._replace(opt_state=self._optimizer(0.0).init(vector))

    def reference_logits(self, state: ReferenceState, obs: Any) -> jax.Array:
        """Logits of π_ref(·|obs), [A]."""
        return common.apply_actor_critic(self, state.reference_params, obs)[0]

    def update(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, state: ReferenceState, trajectory: Transition, key: jax.Array
    ) -> tuple[ReferenceState, dict[str, jax.Array]]:
        """PPO's update at the price of now; metrics have `kl` and `beta` besides.

        `kl` is the sum of KL(π(·|s_t)‖π_ref(·|s_t)) over the rollout's steps, of the
        policy that acted, by the number of episodes that ended in it: KL of whole
        episodes where the rollout holds whole ones. β stays where none ended.
        """
        logits, _ = common.batch_apply(self, state.params, trajectory.obs)
        reference_logits, _ = common.batch_apply(
            self, state.reference_params, trajectory.obs
        )
        coef = reference.kl_coef(self, state)
        priced = trajectory._replace(
            reward=reference.penalize(self, trajectory, logits, reference_logits, coef),
            extras={**trajectory.extras, "reference_logits": reference_logits},
        )
        at_price = dataclasses.replace(self, kl_coef=coef)
        state, metrics = at_price._learn(state, priced, key)
        num_ended = jnp.sum(trajectory.terminated | trajectory.truncated)
        kl = jnp.sum(distributions.categorical_kl(logits, reference_logits))
        kl = kl / jnp.maximum(num_ended, 1)
        adapted = reference.next_kl_coef(self, coef, kl)
        state = state._replace(kl_coef=jnp.where(num_ended > 0, adapted, coef))
        coef = jnp.asarray(coef, kl.dtype)
        return state, metrics | {"kl": kl, "beta": coef}

    def _penalty(self, logits: jax.Array, steps: Transition) -> Any:
        if self.kl_in == "reward":
            return 0.0
        kl = kl_control.kl_estimates(
            logits, steps.extras["reference_logits"], steps.action, self.kl_estimator
        )
        return self.kl_coef * jnp.mean(kl)
