"""RLOO: REINFORCE whose baseline is the mean of the other episodes in a group."""

import jax
import jax.numpy as jnp
import optax

from rljax import checks, distributions, returns, struct
from rljax.agents.base import gradient_step
from rljax.rlhf import groups, kl
from rljax.rlhf.reference import ReferencePolicy, ReferenceState
from rljax.rlhf.tokens import TokenMDP
from rljax.types import EnvLike, RolloutPlan, Transition


@struct.dataclass
class RLOO(ReferencePolicy):
    """REINFORCE with a leave-one-out baseline and a KL penalty.

        ∇J = 1/N Σ_n Σ_t ∇log π(a_t|s_t) (R_n − mean of the others' R)

    Training starts the `group_size` episodes of a group in the same state (a prompt);
    each is compared with the others of its group. R is the sum of an episode's rewards,
    less β Σ_t k_t if the KL is paid in the reward. With `credit` "token", R is only the
    part of that sum from step t on, for every episode of the group. There is one
    gradient step per rollout. `rljax.rlhf.kl` explains where the KL can be paid and how
    it is estimated. With the defaults, the expected gradient is exactly that of
    E[Σ r] − β KL(π‖π_ref).

    Each rollout begins with a reset, and only the first episode in each environment
    counts; if it is still running after `rollout_length` steps, it is cut there. On a
    TokenMDP, set `rollout_length` to the horizon: less is refused, as the reward comes
    with the last token.

    Source: Kool et al. (2019); Ahmadian et al. (2024), arXiv:2402.14740.
    """

    group_size: int = struct.static(default=16)
    """Episodes from one start, 2 or more; divides num_envs."""
    kl_in: kl.Place = struct.static(default="reward")
    """Where the KL term is: in the "reward" or in the "loss"."""
    kl_estimator: kl.Estimator = struct.static(default="k1")
    """How a step's divergence is estimated: "exact", "k1", "k2" or "k3"."""
    credit: kl.Credit = struct.static(default="sequence")
    """Whether an action is credited with the rewards from its step on ("token"), or
    with those of its whole episode ("sequence")."""
    kl_target: float | None = None
    """KL of whole episodes, in nats, that adapting β aims at; None: β is fixed."""
    kl_rate: float = 0.1
    """K, the rate of that adaptation: see `kl.adapted_kl_coef`."""
    kl_max_log_ratio: float | None = None
    """Bound of |log π(a) − log π_ref(a)| in the estimator k3, so that no action which
    the policy has left can outweigh all others, or overflow; 20, say. None: none."""

    def __post_init__(self):
        super().__post_init__()
        kl.check_settings(self)
        checks.ints(self, "group_size", minimum=2)
        if self.num_envs % self.group_size:
            raise ValueError(
                f"{type(self).__name__}.group_size must divide num_envs = "
                f"{self.num_envs}, got {self.group_size}."
            )

    @property
    def rollout_plan(self) -> RolloutPlan:
        """One episode in each environment; those of a group have the same start."""
        return RolloutPlan(
            self.num_envs,
            self.rollout_length,
            fresh_episodes=True,
            group_size=self.group_size,
        )

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

    def init(self, key: jax.Array, env: EnvLike) -> ReferenceState:
        """Makes the policy equal to its reference; zeroes the optimiser's moments.

        Raises:
          ValueError: `network` does not fit the environment, or `reference` does not
            fit the network; or the horizon is longer than `rollout_length`.
        """
        if isinstance(env, TokenMDP) and self.rollout_length < env.horizon:
            raise ValueError(
                f"{type(self).__name__}.rollout_length must be at least the horizon of "
                f"the environment, {env.horizon}, got {self.rollout_length}: the "
                "reward comes with the last token."
            )
        return super().init(key, env)

    def update(
        self, state: ReferenceState, trajectory: Transition, key: jax.Array
    ) -> tuple[ReferenceState, dict[str, jax.Array]]:
        """Takes one gradient step (GRPO: several) on the rollout; ignores `key`.

        The metrics are means over these gradient steps, except for two: `kl` is the
        mean over episodes of Σ_t KL(π(·|s_t)‖π_ref(·|s_t)) for the policy that acted,
        and `beta` is the β of this update.
        """
        del key
        old_logits = self.over_steps(state.params, trajectory.obs)
        reference_logits = self.over_steps(state.reference_params, trajectory.obs)
        mask = jax.vmap(returns.first_episode, 1, 1)(
            trajectory.terminated, trajectory.truncated
        )
        coef = self.price.in_force(state.kl_coef)
        rewards = self.price.rewards(trajectory, old_logits, reference_logits, coef)
        advantages = jnp.where(mask, self._advantages(rewards, mask), 0)
        old_log_probs = distributions.categorical_log_prob(
            old_logits, trajectory.action
        )
        optimizer = self.make_optimizer(state.num_updates)

        def loss_fn(params):
            logits = self.over_steps(params, trajectory.obs)
            log_probs = distributions.categorical_log_prob(logits, trajectory.action)
            policy_loss = self._policy_loss(log_probs, old_log_probs, advantages)
            loss = policy_loss
            if self.kl_in != "reward":
                estimates = self.price.estimates(
                    logits, reference_logits, trajectory.action
                )
                loss += coef * per_episode(jnp.where(mask, estimates, 0))
            entropy = distributions.categorical_entropy(logits)
            return loss, {
                "policy_loss": policy_loss,
                "entropy": jnp.mean(entropy, where=mask),
            }

        def one_step(carry, _):
            params, opt_state = carry
            grads, metrics = jax.grad(loss_fn, has_aux=True)(params)
            params, opt_state, metrics["grad_norm"] = gradient_step(
                optimizer, grads, params, opt_state
            )
            return (params, opt_state), metrics

        (params, opt_state), metrics = jax.lax.scan(
            one_step, (state.params, state.opt_state), length=self._num_steps()
        )
        exact = distributions.categorical_kl(old_logits, reference_logits)
        episode_kl = per_episode(jnp.where(mask, exact, 0))
        metrics = jax.tree.map(jnp.mean, metrics)
        metrics |= {"kl": episode_kl, "beta": jnp.asarray(coef, episode_kl.dtype)}
        state = state._replace(
            params=params,
            opt_state=opt_state,
            num_updates=optax.safe_increment(state.num_updates),
            kl_coef=self.price.of_next_update(coef, episode_kl),
        )
        return state, metrics

    def _num_steps(self) -> int:
        return 1

    def _advantages(self, rewards: jax.Array, mask: jax.Array) -> jax.Array:
        """Advantages [T, N] from the rewards [T, N] of the steps that `mask` marks."""
        to_go = jnp.cumsum(jnp.where(mask, rewards, 0)[::-1], axis=0)[::-1]
        if self.credit == "sequence":
            to_go = jnp.broadcast_to(to_go[0], to_go.shape)
        groups = to_go.reshape(len(to_go), -1, self.group_size)
        return jax.vmap(jax.vmap(self._compare))(groups).reshape(to_go.shape)

    def _compare(self, group: jax.Array) -> jax.Array:
        return groups.leave_one_out_advantages(group)

    def _policy_loss(
        self, log_probs: jax.Array, old_log_probs: jax.Array, advantages: jax.Array
    ) -> jax.Array:
        # losses.policy_gradient_loss would stop the gradient into the advantages, and
        # with it the derivative of training with respect to hyperparameters.
        return -per_episode(log_probs * advantages)


def per_episode(x: jax.Array) -> jax.Array:
    """1/N Σ_n Σ_t x_tn for x [T, N]: the sum over steps, mean over episodes."""
    return jnp.sum(x) / x.shape[1]
