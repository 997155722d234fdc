"""PPO with a KL penalty on leaving a reference policy: the usual recipe of RLHF."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from rljax import distributions, spaces, struct
from rljax.agents.base import as_vector
from rljax.agents.ppo import PPO
from rljax.rlhf import kl
from rljax.rlhf.reference import (
    ReferenceState,
    check_numbers,
    first_params,
    first_state,
)
from rljax.rlhf.tokens import TokenMDP
from rljax.types import EnvLike, Transition


@struct.dataclass
class PPOKL(PPO):
    """PPO that maximises E[Σ r] − β KL(π‖π_ref) for a frozen reference π_ref.

    The KL penalty is either in the reward, r_t − β k_t, before advantages are computed,
    or in the loss, + β · mean k_t(π); `rljax.rlhf.kl` says which of these has the right
    gradient. The defaults are for a table over the prefixes of a `TokenMDP` of horizon
    4; for another horizon, set `rollout_length` to it.

    A `network` returns (logits, value). `Pair(actor, critic)` of `rljax.rlhf.networks`
    makes one from two networks, the critic with outputs=1.

    With `normalize_advantages`, the β of a penalty in the loss is in units of the
    advantages' standard deviation, not of the reward.

    Source: Ziegler et al. (2019), arXiv:1909.08593; Ouyang et al. (2022),
      arXiv:2203.02155; for PPO itself see `PPO`.
    """

    num_envs: int = struct.static(default=256)
    """Environments stepped side by side, N."""
    rollout_length: int = struct.static(default=4)
    """Steps of each per update, T; a multiple of the horizon gives whole episodes."""
    num_epochs: int = struct.static(default=2)
    """Passes over the rollout per update."""
    num_minibatches: int = struct.static(default=2)
    """Gradient steps per pass; divides rollout_length × num_envs."""
    hidden_sizes: tuple[int, ...] = struct.static(default=())
    """Widths of the hidden layers; (): a table over discrete observations."""
    learning_rate: float = 0.03
    """Adam's step size, at first."""
    discount: float = 1.0
    """γ in [0, 1]."""
    gae_lambda: float = 0.95
    """λ in [0, 1] of the advantages."""
    normalize_advantages: bool = struct.static(default=False)
    """Whether advantages are standardised in each minibatch."""
    entropy_coef: float = 0.0
    """Weight c_H of the entropy bonus, which the KL penalty makes unnecessary."""
    kl_coef: float = 0.1
    """β, 0 or more, in units of the reward per nat."""
    kl_in: kl.Place = struct.static(default="reward")
    """Where the KL term is: in the "reward" or in the "loss"."""
    kl_estimator: kl.Estimator = struct.static(default="k1")
    """How a step's divergence is estimated: "exact", "k1", "k2" or "k3"."""
    credit: kl.Credit = struct.static(default="token")
    """Whether each "token" pays its own β k_t, or the last one that of its
    "sequence"."""
    kl_target: float | None = None
    """KL of whole episodes, in nats, that adapting β aims at; None: β is fixed."""
    kl_rate: float = 0.1
    """K, the rate of that adaptation: see `kl.adapted_kl_coef`."""
    kl_max_log_ratio: float | None = None
    """Bound of |log π(a) − log π_ref(a)| in the estimator k3, so that no action which
    the policy has left can outweigh all others, or overflow; 20, say. None: none."""
    reference: Any = struct.data(default=None)
    """Parameters of π_ref and of the initial critic, as the network's `init` returns
    them: (actor, critic) for a `Pair`. Training starts from them; None: they are
    drawn at random."""

    def __post_init__(self):
        super().__post_init__()
        kl.check_settings(self)
        check_numbers("PPOKL.reference", self.reference)

    @property
    def price(self) -> kl.Price:
        """The settings of the KL penalty."""
        return kl.Price(
            self.kl_coef,
            self.kl_in,
            self.kl_estimator,
            self.credit,
            self.kl_target,
            self.kl_rate,
            self.kl_max_log_ratio,
        )

    def init(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, key: jax.Array, env: EnvLike
    ) -> ReferenceState:
        """Makes the policy equal to its reference; zeroes the optimiser's moments.

        Raises:
          TypeError: actions are not discrete.
          ValueError: `network` does not fit the environment, or `reference` does not
            fit the network; or there is a `kl_target`, and `rollout_length` is not a
            multiple of the horizon.
        """
        spaces.num_actions(env.action_space, "PPOKL")  # refuses others
        adapts = self.kl_target is not None
        if adapts and isinstance(env, TokenMDP) and self.rollout_length % env.horizon:
            raise ValueError(
                "PPOKL.rollout_length must be a multiple of the environment's horizon, "
                f"{env.horizon}, with a kl_target, which is a KL of whole episodes, "
                f"got {self.rollout_length}."
            )
        params = first_params("PPOKL", self.reference, self.init_params(key, env))
        opt_state = self.make_optimizer(0).init(as_vector(params)[0])
        policy = self.kind_of_policy(env)
        return first_state(params, opt_state, self.kl_coef, policy)

    def reference_logits(self, state: ReferenceState, obs: Any) -> jax.Array:
        """Logits of π_ref(·|obs), [A]."""
        return self.apply(state.reference_params, obs)[0]

    def update(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, state: ReferenceState, trajectory: Transition, key: jax.Array
    ) -> tuple[ReferenceState, dict[str, jax.Array]]:
        """PPO's update with the current β; its metrics also have `kl` and `beta`.

        `kl` is the sum of KL(π(·|s_t)‖π_ref(·|s_t)) over the rollout's steps, for the
        policy that acted, divided by the number of episodes that ended there. It is the
        KL of whole episodes if the rollout holds whole ones. If none ended, β is kept.
        """
        logits, _ = self.over_steps(state.params, trajectory.obs)
        reference_logits, _ = self.over_steps(state.reference_params, trajectory.obs)
        coef = self.price.in_force(state.kl_coef)
        priced = trajectory._replace(
            reward=self.price.rewards(trajectory, logits, reference_logits, coef),
            extras={**trajectory.extras, "reference_logits": reference_logits},
        )
        at_price = dataclasses.replace(self, kl_coef=coef)
        state, metrics = at_price.learn(state, priced, key)
        exact = jnp.sum(distributions.categorical_kl(logits, reference_logits))
        num_ended = jnp.sum(trajectory.terminated | trajectory.truncated)
        num_ended = num_ended.astype(exact.dtype)
        episode_kl = exact / jnp.maximum(num_ended, 1)
        adapted = self.price.of_next_update(coef, episode_kl)
        state = state._replace(kl_coef=jnp.where(num_ended > 0, adapted, coef))
        coef = jnp.asarray(coef, episode_kl.dtype)
        return state, metrics | {"kl": episode_kl, "beta": coef}

    def _penalty(self, policy: Any, steps: Transition) -> Any:
        if self.kl_in == "reward":
            return 0.0
        estimates = self.price.estimates(
            policy.logits, steps.extras["reference_logits"], steps.action
        )
        return self.kl_coef * jnp.mean(estimates)
