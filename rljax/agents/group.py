"""Policy gradients whose baseline is the group: RLOO and GRPO, without a critic."""

from collections.abc import Callable
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import optax

from rljax import distributions, kl_control, losses, networks, returns, struct
from rljax.agents import common, reference
from rljax.agents.reference import ReferenceState
from rljax.types import Env, Transition


@struct.dataclass
class RLOO:
    """REINFORCE with a leave-one-out baseline and a price on leaving a reference.

        ∇J = 1/N Σ_n Σ_t ∇log π(a_t|s_t) (R_n − mean of the others' R)

    Episodes come in groups of `group_size` from one and the same start (a prompt), as
    training deals them; each is compared with the others of its group. R is the sum of
    the episode's rewards less β Σ_t k_t; with `credit` "token", what is left of it from
    step t on, compared with what the others have left. One gradient step per rollout.
    Where the KL is paid and how it is estimated: see `rljax.kl_control`. By default the
    expected gradient is that of E[Σ r] − β KL(π‖π_ref) exactly.

    Rollouts begin with a reset and the first episode of each counts; one that is still
    running after `rollout_length` steps is cut there.

    Source: Kool et al. (2019); Ahmadian et al. (2024), arXiv:2402.14740.
    """

    num_envs: int = struct.static(default=256)
    """Episodes per update, N."""
    group_size: int = struct.static(default=16)
    """Episodes from one start, 2 or more; divides num_envs."""
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
    kl_in: kl_control.Place = struct.static(default="reward")
    """Where β's term is: "reward" or "loss"."""
    kl_estimator: kl_control.Estimator = struct.static(default="k1")
    """How a step's divergence is estimated: "exact", "k1", "k2" or "k3"."""
    credit: kl_control.Credit = struct.static(default="sequence")
    """Whether a "token" answers for what follows it, or for the whole "sequence"."""
    kl_target: float | None = None
    """KL of whole episodes, in nats, towards which β is adapted; None: β is fixed."""
    kl_rate: float = 0.1
    """K of that adaption, see `kl_control.adapted_kl_coef`."""
    optimizer: Callable[..., optax.GradientTransformation] = struct.static(
        default=common.adam
    )
    """Builds the optimiser from the learning rate: optax.sgd, say."""
    network: networks.Network | None = struct.static(default=None)
    """An init/apply pair that returns logits [A], such as `rljax.causal`'s; None: an
    MLP of hidden_sizes."""
    reference: Any = struct.data(default=None)
    """Parameters of π_ref, from which the policy starts; None: those that are drawn."""

    fresh_episodes: ClassVar[bool] = True

    def __post_init__(self):
        common.check_settings(self)
        common.check_optimizer(self)
        kl_control.check_settings(self)
        struct.check_reals(
            self,
            "anneal_updates",
            "max_grad_norm",
            minimum=0.0,
            open_minimum=True,
            optional=True,
        )
        struct.check_ints(self, "group_size", minimum=2)
        if self.num_envs % self.group_size:
            raise ValueError(
                f"{type(self).__name__}.group_size must divide num_envs = "
                f"{self.num_envs}, got {self.group_size}."
            )

    def init(self, key: jax.Array, env: Env) -> ReferenceState:
        """Policy and reference alike; zeroes the optimiser's moments.

        Raises:
          ValueError: `reference` does not fit the network.
        """
        params = common.init_policy(self, env, key)
        return reference.start(self, params, self._optimizer(self.learning_rate))

    def _optimizer(self, learning_rate: Any) -> optax.GradientTransformation:
        return common.clipped(self.optimizer(learning_rate), self.max_grad_norm)

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

    def update(
        self, state: ReferenceState, trajectory: Transition, key: jax.Array
    ) -> tuple[ReferenceState, dict[str, jax.Array]]:
        """One gradient step, or several on the same rollout; `key` is not needed.

        Metrics are means over the steps; `kl` is Σ_t KL(π(·|s_t)‖π_ref(·|s_t)) per
        episode, of the policy that acted.
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
        optimizer = self._optimizer(common.annealed(self, state.num_updates))

        def loss_fn(params):
            logits = common.batch_policy(self, params, trajectory.obs)
            log_probs = distributions.categorical_log_prob(logits, trajectory.action)
            policy_loss = self._policy_loss(log_probs, old_log_probs, advantages)
            loss = policy_loss
            if self.kl_in != "reward":
                kl = kl_control.kl_estimates(
                    logits, reference_logits, trajectory.action, self.kl_estimator
                )
                loss += coef * _per_episode(jnp.where(mask, kl, 0))
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
        kl = _per_episode(jnp.where(mask, kl, 0))
        metrics = jax.tree.map(jnp.mean, metrics)
        metrics |= {"kl": kl, "kl_coef": jnp.asarray(coef, kl.dtype)}
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
        return -_per_episode(log_probs * advantages)


@struct.dataclass
class GRPO(RLOO):
    """Group-relative policy optimisation: PPO's clip, with the group for a critic.

        L = −1/N Σ_n Σ_t min(r A_n, clip(r, 1−ε, 1+ε) A_n)

    with r = π(a_t|s_t)/π_old(a_t|s_t) and A_n = R_n − mean R, by default also divided
    by the group's deviation, and several gradient steps on one rollout. Steps are
    summed, not averaged over each episode's length, which would favour long episodes
    that fail (Liu et al. 2025).

    As published, β's term is k3 in the loss: GRPO(kl_in="loss", kl_estimator="k3"). Its
    optimum is another one than that of E[Σ r] − β KL(π‖π_ref): k3 in the loss has the
    gradient of the reverse divergence (see `rljax.kl_control`), and beside advantages
    in units of the group's deviation β means another price for each prompt. Here the
    default is k1 in the reward, before advantages are taken.

    Source: Shao et al. (2024), arXiv:2402.03300, eq. 3; Liu et al. (2025),
      arXiv:2503.20783, on both divisions.
    """

    learning_rate: float = 0.03
    """Step size of the optimiser, at first."""
    num_epochs: int = struct.static(default=2)
    """Gradient steps per rollout, each on all of it."""
    clip_epsilon: float = 0.2
    """ε of the ratio."""
    normalize_advantages: bool = struct.static(default=True)
    """Whether a group's advantages are divided by their deviation."""

    def __post_init__(self):
        super().__post_init__()
        struct.check_ints(self, "num_epochs", minimum=1)
        struct.check_reals(self, "clip_epsilon", minimum=0.0)
        struct.check_bools(self, "normalize_advantages")

    def _num_steps(self) -> int:
        return self.num_epochs

    def _compare(self, group: jax.Array) -> jax.Array:
        if self.normalize_advantages:
            return returns.group_normalized_advantages(group)
        return group - jnp.mean(group)

    def _policy_loss(self, log_probs, old_log_probs, advantages):
        loss = losses.ppo_clip_loss(
            log_probs, old_log_probs, advantages, self.clip_epsilon
        )
        return len(log_probs) * loss  # a mean over steps; wanted, their sum


def _per_episode(x: jax.Array) -> jax.Array:
    """Σ_t, mean over n, of [T, N]."""
    return jnp.sum(x) / x.shape[1]
