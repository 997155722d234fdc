"""GRPO: PPO's clipped loss, with groups of episodes instead of a critic."""

import jax

from rljax import checks, losses, struct
from rljax.rlhf import groups
from rljax.rlhf.rloo import RLOO


@struct.dataclass
class GRPO(RLOO):
    """Group-relative policy optimisation: PPO's clipped loss without a critic.

        L = −1/N Σ_n Σ_t min(r A_n, clip(r, 1−ε, 1+ε) A_n)

    with r = π(a_t|s_t)/π_old(a_t|s_t) and A_n = R_n − mean R, the mean over the group;
    with `credit` "token", R holds only the rewards from step t on. By default A_n is
    also divided by the group's standard deviation. There are several gradient steps per
    rollout. The loss sums over an episode's steps. The published loss averages over
    them, which favours longer episodes among those that fail (Liu et al. 2025).

    As published, the KL term is k3 in the loss: GRPO(kl_in="loss", kl_estimator="k3").
    That loss does not have the optimum of E[Σ r] − β KL(π‖π_ref), for two reasons. k3
    in the loss has the gradient of the reverse divergence (see `rljax.rlhf.kl`). And as
    advantages are in units of the group's deviation, β is a different price for each
    prompt. The default here is k1 in the reward: the penalty is subtracted first, and
    the advantages are computed from the result. The deviation, computed from the same
    rewards, still biases the gradient but does not move the optimum, where all R of a
    prompt are equal and every A_n is 0. Near the optimum, dividing by a small deviation
    magnifies noise, so let the learning rate fall (`anneal_updates`).

    Source: Shao et al. (2024), arXiv:2402.03300, eq. 3; Liu et al. (2025),
      arXiv:2503.20783, on dividing by the length and by the deviation.
    """

    learning_rate: float = 0.03
    """Step size of the optimiser, at first."""
    num_epochs: int = struct.static(default=2)
    """Gradient steps per rollout, each on the whole rollout."""
    clip_epsilon: float = 0.2
    """ε, how far from 1 the ratio r may go before it is clipped."""
    dual_clip: float | None = None
    """c > 1, where r is clipped if A_n < 0, see `losses.ppo_clip_loss`; 3, say. None:
    there it has no upper bound, as published."""
    normalize_advantages: bool = struct.static(default=True)
    """Whether a group's advantages are divided by their standard deviation."""

    def __post_init__(self):
        super().__post_init__()
        checks.ints(self, "num_epochs", minimum=1)
        checks.reals(self, "clip_epsilon", minimum=0.0)
        checks.reals(self, "dual_clip", minimum=1.0, open_minimum=True, optional=True)
        checks.bools(self, "normalize_advantages")

    def _num_steps(self) -> int:
        return self.num_epochs

    def _compare(self, group: jax.Array) -> jax.Array:
        if self.normalize_advantages:
            return groups.group_normalized_advantages(group)
        return groups.centred(group)

    def _policy_loss(self, log_probs, old_log_probs, advantages):
        loss = losses.ppo_clip_loss(
            log_probs, old_log_probs, advantages, self.clip_epsilon, self.dual_clip
        )
        return len(log_probs) * loss  # T · (mean over [T, N]) = 1/N Σ_n Σ_t
