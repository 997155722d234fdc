"""Losses: means over all elements of the batch, to be minimised.

Arguments have one shape (any, written [B] below) unless said otherwise. Targets and
advantages come in as arguments: compute them outside the function that you
differentiate. Nothing here stops a gradient, save where a docstring says so. Every
function raises ValueError where its arguments' shapes do not fit: a broadcast of [B]
against [B, 1] would silently give the mean over [B, B]. It raises TypeError where flags
come in the place of numbers or the reverse. Arguments of half precision are computed
with in float32, which is then the result's dtype; gradients come back in their own.
"""

import jax
import jax.numpy as jnp

from rljax import checks


def policy_gradient_loss(log_probs: jax.Array, weights: jax.Array) -> jax.Array:
    """L = −mean_b(log π(a_b|s_b) · w_b); its gradient is minus the policy gradient.

    Args:
      log_probs: [B] log π(a|s) of the actions taken, differentiable.
      weights: [B] returns or advantages; no gradient flows into them.

    Returns:
      [] loss.

    Source: Williams (1992); Sutton and Barto (2018), §13.3.
    """
    log_probs, weights = checks.alike(log_probs=log_probs, weights=weights)
    return -jnp.mean(log_probs * jax.lax.stop_gradient(weights))


def value_loss(values: jax.Array, targets: jax.Array) -> jax.Array:
    """L = ½ mean_b (y_b − V(s_b))².

    Args:
      values: [B] V(s), differentiable.
      targets: [B] y.

    Returns:
      [] loss.

    Source: Sutton and Barto (2018), §9.2, with the ½ that makes its gradient V − y.
    """
    values, targets = checks.alike(values=values, targets=targets)
    return 0.5 * jnp.mean(jnp.square(targets - values))


def clipped_value_loss(
    values: jax.Array,
    old_values: jax.Array,
    targets: jax.Array,
    clip_epsilon: jax.typing.ArrayLike,
) -> jax.Array:
    """L = ½ mean_b max[(y − V)², (y − V_clip)²].

    V_clip = V_old + clip(V − V_old, −ε, ε).

    Where the clipped error is the larger one, V is beyond ε of V_old and on its way to
    the target: the gradient is 0 there. At equality it is that of (y − V)².

    Args:
      values: [B] V(s), differentiable.
      old_values: [B] V(s) when the data was gathered.
      targets: [B] y.
      clip_epsilon: ε > 0, in the units of the values.

    Returns:
      [] loss.

    Source: the value clipping of OpenAI's baselines, ppo2.
    """
    values, old_values, targets = checks.alike(
        values=values, old_values=old_values, targets=targets
    )
    epsilon = jnp.asarray(
        checks.scalar(0.0, open_minimum=True, clip_epsilon=clip_epsilon)
    )
    clipped = old_values + jnp.clip(values - old_values, -epsilon, epsilon)
    error, clipped_error = jnp.square(targets - values), jnp.square(targets - clipped)
    # At a tie, jnp.maximum would pass half of each gradient, which where does not.
    return 0.5 * jnp.mean(jnp.where(error >= clipped_error, error, clipped_error))


def ppo_clip_loss(
    log_probs: jax.Array,
    behaviour_log_probs: jax.Array,
    advantages: jax.Array,
    clip_epsilon: jax.typing.ArrayLike,
    dual_clip: jax.typing.ArrayLike | None = None,
) -> jax.Array:
    """L = −mean_b min(r A, clip(r, 1−ε, 1+ε) A), r = π(a|s) / π_old(a|s).

    The gradient of one element is −r A ∇log π where the ratio may still move the way
    the advantage points (r ≤ 1+ε for A ≥ 0, r ≥ 1−ε for A < 0), else 0. The bounds
    themselves count as inside.

    For A < 0 nothing bounds r from above. There one stale sample, whose action has
    become far more probable, outweighs all others; in float32 loss and gradient are
    infinite from r = e^89 on. With `dual_clip` = c, the loss of such an element is
    −max(min(r A, clip(r, 1−ε, 1+ε) A), c A): where r > c it is −c A, without gradient.

    Args:
      log_probs: [B] log π(a|s), differentiable.
      behaviour_log_probs: [B] log π_old(a|s) of the policy that acted.
      advantages: [B] A.
      clip_epsilon: ε, scalar.
      dual_clip: c, scalar, more than 1; None: no such bound, as first published.

    Returns:
      [] loss, the negative of the published objective.

    Source: Schulman et al. (2017), arXiv:1707.06347, eq. 7; Ye et al. (2020),
      arXiv:1912.09729, for `dual_clip`, with c = 3.
    """
    log_probs, behaviour_log_probs, advantages = checks.alike(
        log_probs=log_probs,
        behaviour_log_probs=behaviour_log_probs,
        advantages=advantages,
    )
    log_ratio = log_probs - behaviour_log_probs
    inside, bound = _clip_bounds(
        jnp.exp(log_ratio), advantages, clip_epsilon, dual_clip
    )
    # At a tie, jnp.minimum would pass half of each gradient, which where does not. The
    # ratio is masked before exp as well as after: where it overflows, its derivative is
    # infinite, and infinity times the 0 of the outer mask would be NaN.
    ratio = jnp.exp(jnp.where(inside, log_ratio, 0))
    return -jnp.mean(jnp.where(inside, ratio, bound) * advantages)


def _clip_bounds(ratio, advantages, clip_epsilon, dual_clip):
    """Whether each ratio is inside of its bounds, and the one that it would cross."""
    clip_epsilon = checks.scalar(0.0, clip_epsilon=clip_epsilon)
    bound = jnp.where(advantages >= 0, 1 + clip_epsilon, 1 - clip_epsilon)
    # As a negation: a ratio that is NaN then counts as inside, and the loss is NaN too.
    inside = ~jnp.where(advantages >= 0, ratio > bound, ratio < bound)
    dual_clip = checks.scalar(
        1.0, open_minimum=True, optional=True, dual_clip=dual_clip
    )
    if dual_clip is None:
        return inside, bound
    beyond = (advantages < 0) & (ratio > dual_clip)
    return inside & ~beyond, jnp.where(beyond, dual_clip, bound)


def td_errors(
    q_values: jax.Array,
    actions: jax.Array,
    rewards: jax.Array,
    next_q_values: jax.Array,
    terminated: jax.Array,
    discount: jax.typing.ArrayLike,
) -> jax.Array:
    """Q-learning's δ_t = r_t + γ (1 − terminated_t) max_a Q(s_{t+1}, a) − Q(s_t, a_t).

    Not a mean: one error per step. It is differentiable in both Q; for the usual
    semi-gradient pass target values computed outside the differentiated function.

    Args:
      q_values: [T, A] Q(s_t, ·).
      actions: [T] integer a_t.
      rewards: [T] r_t.
      next_q_values: [T, A] Q(s_{t+1}, ·), of the true successor.
      terminated: [T] bool.
      discount: γ, scalar in [0, 1].

    Returns:
      [T] δ_t.

    Source: Watkins and Dayan (1992); Sutton and Barto (2018), eq. 6.8.
    """
    checks.same_shape(actions=actions, rewards=rewards, terminated=terminated)
    discount = checks.scalar(0.0, 1.0, discount=discount)
    q_values, next_q_values = checks.alike(
        q_values=q_values, next_q_values=next_q_values
    )
    (rewards,) = checks.floating(rewards=rewards)
    (actions,) = checks.integers(actions=actions)
    (terminated,) = checks.flags(terminated=terminated)
    if jnp.shape(q_values)[:-1] != jnp.shape(actions):
        raise ValueError(
            "q_values must be [T, A] for actions [T], got "
            f"{jnp.shape(q_values)} and {jnp.shape(actions)}."
        )
    taken = jnp.take_along_axis(q_values, actions[..., None], axis=-1).squeeze(-1)
    bootstrap = jnp.where(terminated, 0, discount * jnp.max(next_q_values, axis=-1))
    return rewards + bootstrap - taken
