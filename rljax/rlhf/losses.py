"""Losses of pairwise preferences: means over the pairs, to be minimised.

As in `rljax.losses`, all arguments that are written [B] must have the same shape;
otherwise ValueError is raised. Arguments of half precision are computed with in
float32, which is then the result's dtype.
"""

import jax
import jax.numpy as jnp

from rljax import checks


def bradley_terry_loss(
    chosen_rewards: jax.Array, rejected_rewards: jax.Array
) -> jax.Array:
    """L = −mean_b log σ(r(x_b, y⁺_b) − r(x_b, y⁻_b)), for a reward model.

    L is the negative log-likelihood of the preferences y⁺ ≻ y⁻ when
    P(y ≻ y') = σ(r(x, y) − r(x, y')). It determines the rewards only up to a constant
    for each prompt.

    Args:
      chosen_rewards: [B] r(x, y⁺) of the preferred sequences, differentiable.
      rejected_rewards: [B] r(x, y⁻) of the other sequences, differentiable.

    Returns:
      [] loss.

    Source: Bradley and Terry (1952); Christiano et al. (2017), arXiv:1706.03741, eq. 1.
    """
    chosen_rewards, rejected_rewards = checks.alike(
        chosen_rewards=chosen_rewards, rejected_rewards=rejected_rewards
    )
    return jnp.mean(jax.nn.softplus(rejected_rewards - chosen_rewards))


def dpo_loss(
    chosen_log_probs: jax.Array,
    rejected_log_probs: jax.Array,
    reference_chosen_log_probs: jax.Array,
    reference_rejected_log_probs: jax.Array,
    kl_coef: jax.typing.ArrayLike,
) -> jax.Array:
    """L = −mean_b log σ(β[log π(y⁺)/π_ref(y⁺) − log π(y⁻)/π_ref(y⁻)]).

    This is the Bradley–Terry loss of the rewards r = β log π/π_ref. For that reward, π
    itself maximises E[r] − β KL(π‖π_ref), so fitting r to preferences gives the optimal
    policy at once, without a separate reward model and without sampling.

    Args:
      chosen_log_probs: [B] log π(y⁺|x) of whole sequences, differentiable.
      rejected_log_probs: [B] log π(y⁻|x), differentiable.
      reference_chosen_log_probs: [B] log π_ref(y⁺|x).
      reference_rejected_log_probs: [B] log π_ref(y⁻|x).
      kl_coef: β > 0, scalar.

    Returns:
      [] loss.

    Source: Rafailov et al. (2023), arXiv:2305.18290, eq. 7.
    """
    chosen, rejected, reference_chosen, reference_rejected = checks.alike(
        chosen_log_probs=chosen_log_probs,
        rejected_log_probs=rejected_log_probs,
        reference_chosen_log_probs=reference_chosen_log_probs,
        reference_rejected_log_probs=reference_rejected_log_probs,
    )
    kl_coef = jnp.asarray(checks.scalar(0.0, open_minimum=True, kl_coef=kl_coef))
    return bradley_terry_loss(
        kl_coef * (chosen - reference_chosen),
        kl_coef * (rejected - reference_rejected),
    )
