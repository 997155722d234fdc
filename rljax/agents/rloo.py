"""REINFORCE whose baseline is the other episodes of a group: RLOO."""

from typing import ClassVar

import jax
import jax.numpy as jnp

from rljax import distributions, kl_control, returns, struct
from rljax.agents import common, reference
from rljax.agents.reference import ReferencePolicy, ReferenceState
from rljax.types import Env, Transition


@struct.dataclass
class RLOO(ReferencePolicy):
    """REINFORCE with a leave-one-out baseline and a price on leaving a reference.

        ∇J = 1/N Σ_n Σ_t ∇log π(a_t|s_t) (R_n − mean of the others' R)

    Episodes come in groups of `group_size` from one and the same start (a prompt), as
    training deals them; each is compared with the others of its group. R is the sum of
    the episode's rewards less β Σ_t k_t; with `credit` "token", what is left of it from
    step t on, compared with what the others have left. One gradient step per rollout.
    Where the KL is paid and how it is estimated: see `rljax.kl_control`. By default the
    expected gradient is that of E[Σ r] − β KL(π‖π_ref) exactly.

    Rollouts begin with a reset and the first episode of each counts; one that is still
    running after `rollout_length` steps is cut there. On a TokenMDP, set it to the
    horizon: less is refused, as no reward would be seen.

    Source: Kool et al. (2019); Ahmadian et al. (2024), arXiv:2402.14740.
    """

    group_size: int = struct.static(default=16)
    """Episodes from one start, 2 or more; divides num_envs."""
    kl_in: kl_control.Place = struct.static(default="reward")
    """Where β's term is: "reward" or "loss"."""
    kl_estimator: kl_control.Estimator = struct.static(default="k1")
    """How a step's divergence is estimated: "exact", "k1", "k2" or "k3"."""
    credit: kl_control.Credit = struct.static(default="sequence")
    """Whether a "token" answers for what follows it, or for the whole "sequence"."""
    kl_target: float | None = None
    """KL of whole episodes, in nats, towards which β is adapted; None: β is fixed."""
    kl_rate: float = 0.1
    """K of that adaptation, see `kl_control.adapted_kl_coef`."""

    fresh_episodes: ClassVar[bool] = True

    def __post_init__(self):
        super().__post_init__()
        kl_control.check_settings(self)
        struct.check_ints(self, "group_size", minimum=2)
        if self.num_envs % self.group_size:
            raise ValueError(
                f"{type(self).__name__}.group_size must divide num_envs = "
                f"{self.num_envs}, got {self.group_size}."
            )

    def init(self, key: jax.Array, env: Env) -> ReferenceState:
        """Policy and reference alike; zeroes the optimiser's moments.

        Raises:
          ValueError: `network` or `reference` do not fit, or sequences of the
            environment are longer than `rollout_length`.
        """
        horizon = getattr(env, "horizon", None)
        if horizon is not None and self.rollout_length < horizon:
            raise ValueError(
                f"{type(self).__name__}.rollout_length must be at least the horizon of "
                f"the environment, {horizon}, got {self.rollout_length}: the reward "
                "comes with the last token."
            )
        return super().init(key, env)

    def update(
        self, state: ReferenceState, trajectory: Transition, key: jax.Array
    ) -> tuple[ReferenceState, dict[str, jax.Array]]:
        """One gradient step, or several on the same rollout; `key` is not needed.

        Metrics are means over the gradient steps; `kl` is Σ_t KL(π(·|s_t)‖π_ref(·|s_t))
        per episode, of the policy that acted; `beta` is the price that it paid.
        """
        del key
        old_logits = common.batch_policy(self, state.params, trajectory.obs)
        reference_logits = common.batch_policy(
            self, state.reference_params, trajectory.obs
        )
        mask = jax.vmap(returns.first_episode, 1, 1)(
            trajectory.terminated, trajectory.truncated
        )
        coef = reference.kl_coef(self, state)
        rewards = reference.penalize(
            self, trajectory, old_logits, reference_logits, coef
        )
        advantages = jnp.where(mask, self._advantages(rewards, mask), 0)
        old_log_probs = distributions.categorical_log_prob(
            old_logits, trajectory.action
        )
        rate = common.annealed(self, state.num_updates)
        optimizer = common.built_optimizer(self, rate)

        def loss_fn(params):
            logits = common.batch_policy(self, params, trajectory.obs)
            log_probs = distributions.categorical_log_prob(logits, trajectory.action)
            policy_loss = self._policy_loss(log_probs, old_log_probs, advantages)
            loss = policy_loss
            if self.kl_in != "reward":
                kl = kl_control.kl_estimates(
                    logits, reference_logits, trajectory.action, self.kl_estimator
                )
                loss += coef * per_episode(jnp.where(mask, kl, 0))
            entropy = distributions.categorical_entropy(logits)
            return loss, {
                "policy_loss": policy_loss,
                "entropy": jnp.sum(entropy * mask) / jnp.sum(mask),
            }

        def gradient_step(carry, _):
            params, opt_state = carry
            grads, metrics = jax.grad(loss_fn, has_aux=True)(params)
            params, opt_state, metrics["grad_norm"] = common.gradient_step(
                optimizer, grads, params, opt_state
            )
            return (params, opt_state), metrics

        (params, opt_state), metrics = jax.lax.scan(
            gradient_step, (state.params, state.opt_state), length=self._num_steps()
        )
        kl = distributions.categorical_kl(old_logits, reference_logits)
        kl = per_episode(jnp.where(mask, kl, 0))
        metrics = jax.tree.map(jnp.mean, metrics)
        metrics |= {"kl": kl, "beta": jnp.asarray(coef, kl.dtype)}
        state = state._replace(
            params=params,
            opt_state=opt_state,
            num_updates=state.num_updates + 1,
            kl_coef=reference.next_kl_coef(self, coef, kl),
        )
        return state, metrics

    def _num_steps(self) -> int:
        return 1

    def _advantages(self, rewards: jax.Array, mask: jax.Array) -> jax.Array:
        """[T, N], from what the first episodes earn after each step."""
        to_go = jnp.cumsum(jnp.where(mask, rewards, 0)[::-1], axis=0)[::-1]
        if self.credit == "sequence":
            to_go = jnp.broadcast_to(to_go[0], to_go.shape)
        groups = to_go.reshape(len(to_go), -1, self.group_size)
        return jax.vmap(jax.vmap(self._compare))(groups).reshape(to_go.shape)

    def _compare(self, group: jax.Array) -> jax.Array:
        return returns.leave_one_out_advantages(group)

    def _policy_loss(
        self, log_probs: jax.Array, old_log_probs: jax.Array, advantages: jax.Array
    ) -> jax.Array:
        # Not losses.policy_gradient_loss, which stops the gradient into the advantages,
        # and with it the derivative of training by its hyperparameters.
        return -per_episode(log_probs * advantages)


def per_episode(x: jax.Array) -> jax.Array:
    """Σ_t, mean over n, of [T, N]."""
    return jnp.sum(x) / x.shape[1]
