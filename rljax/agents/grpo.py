"""GRPO: PPO's clip, with the group of episodes in the place of a critic."""

import jax
import jax.numpy as jnp

from rljax import losses, returns, struct
from rljax.agents.rloo import RLOO


@struct.dataclass
class GRPO(RLOO):
    """Group-relative policy optimisation: PPO's clip, with the group for a critic.

        L = −1/N Σ_n Σ_t min(r A_n, clip(r, 1−ε, 1+ε) A_n)

    with r = π(a_t|s_t)/π_old(a_t|s_t), A_n = R_n − mean R (with `credit` "token", of
    what is left from step t on), by default also divided by the group's deviation, and
    several gradient steps on one rollout. Steps are summed, not averaged over each
    episode's length, which would favour long episodes that fail (Liu et al. 2025).

    As published, β's term is k3 in the loss: GRPO(kl_in="loss", kl_estimator="k3"). Its
    optimum is another one than that of E[Σ r] − β KL(π‖π_ref): k3 in the loss has the
    gradient of the reverse divergence (see `rljax.kl_control`), and beside advantages
    in units of the group's deviation β means another price for each prompt. Here the
    default is k1 in the reward, before advantages are taken. The deviation, which the
    same rewards make, still biases the gradient, but not where it is 0: at the optimum
    all R of a prompt are the same. Close to it, it magnifies noise, which a learning
    rate that falls takes care of.

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
