"""Advantages of episodes with the same start, by comparing them with one another.

Returns of half precision are compared in float32, which is then the result's dtype.
"""

import jax
import jax.numpy as jnp

from rljax import checks


def leave_one_out_advantages(returns: jax.Array) -> jax.Array:
    """A_i = R_i − 1/(G−1) Σ_{j≠i} R_j: the baseline is the mean of the others.

    That baseline does not depend on the actions of episode i, so the policy gradient
    with these advantages is unbiased.

    Args:
      returns: [G] R, the returns of G ≥ 2 episodes with the same start.

    Returns:
      [G] A.

    Raises:
      ValueError: `returns` is not a vector of two or more elements.

    Source: Kool et al. (2019), Buy 4 REINFORCE samples, get a baseline for free!;
      Ahmadian et al. (2024), arXiv:2402.14740 (RLOO).
    """
    returns = _one_group(returns)
    size = len(returns)
    return centred(returns) * (size / (size - 1))


def group_normalized_advantages(returns: jax.Array) -> jax.Array:
    """A_i = (R_i − mean R) / sqrt(var R + 1e-8), with mean and variance over the group.

    The returns of each start are divided by their own standard deviation. So starts
    whose returns differ little count as much as those whose returns differ much, and
    the coefficient β of a KL term that is added to the loss is in units of that
    deviation, not of the reward.

    Args:
      returns: [G] R, the returns of G ≥ 2 episodes with the same start.

    Returns:
      [G] A.

    Raises:
      ValueError: `returns` is not a vector of two or more elements.

    Source: Shao et al. (2024), arXiv:2402.03300, §4.1 (GRPO); on the bias, Liu et al.
      (2025), arXiv:2503.20783.
    """
    returns = _one_group(returns)
    deviations = centred(returns)
    return deviations / jnp.sqrt(jnp.mean(jnp.square(deviations)) + 1e-8)


def _one_group(returns: jax.Array) -> jax.Array:
    (returns,) = checks.floating(returns=returns)
    if jnp.ndim(returns) != 1 or len(returns) < 2:
        raise ValueError(
            "returns must be those of one group of two or more, [G], got shape "
            f"{jnp.shape(returns)}. vmap over several groups."
        )
    return returns


def centred(returns: jax.Array) -> jax.Array:
    """R_i − mean R, [G], exactly 0 where all returns are equal."""
    # One return is subtracted before the mean. The mean of equal numbers is rounded, so
    # it may differ from them, and the advantages would then not be exactly 0.
    shifted = returns - returns[0]
    return shifted - jnp.mean(shifted)
