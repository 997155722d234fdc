"""A price on leaving a frozen reference policy: the KL term of RLHF.

What is wanted is the gradient of

    J_β(π) = E_π[Σ_t r_t] − β KL(π‖π_ref),   KL(π‖π_ref) = E_π[Σ_t d_t],
    d_t = log π(a_t|s_t) − log π_ref(a_t|s_t).

With k_t an estimate of step t's divergence (`kl_estimates`), either β k_t is taken from
the reward r_t, or β Σ_t k_t is added to the loss. What gradient β then multiplies, on
average over whole episodes that the policy itself sampled, with the shorthands
KL_t = KL(π(·|s_t)‖π_ref(·|s_t)) and RKL_t = KL(π_ref(·|s_t)‖π(·|s_t)):

| where  | k_t   | expected gradient                                        |
|--------|-------|----------------------------------------------------------|
| reward | k1    | ∇KL(π‖π_ref)                                             |
| loss   | exact | E_π[Σ ∇KL_t]                                             |
| loss   | k2    | E_π[Σ ∇KL_t]                                             |
| loss   | k3    | E_π[Σ ∇RKL_t]                                            |
| reward | k2    | ∇E_π[Σ k2_t] − E_π[Σ ∇KL_t]                              |
| reward | k3    | ∇KL(π‖π_ref) − E_π[Σ ∇RKL_t]                             |

Only the first is right. E_π[Σ ∇KL_t] is the divergence of each step where the policy
comes, but blind to where its actions lead: right only for episodes of one step.
Two pairs are refused: k1 in the loss, whose expected gradient is 0, and the exact KL in
the reward, which leaves out each action's own step. The table is tested by enumeration.
After the first of several gradient steps on one rollout the samples are another
policy's, and nothing of this is exact any more.

k1 in the reward, paid by the whole sequence, has another virtue: at the optimum
r − β Σ_t k1_t is the same for all sequences of a prompt, so that behind a baseline
which takes the others' mean away the gradient has no variance there.
"""

from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from rljax import distributions, struct

ESTIMATORS = ("exact", "k1", "k2", "k3")
PLACES = {
    "reward": ("k1", "k2", "k3"),
    "loss": ("exact", "k2", "k3"),
}
"""Where the term may be, and what estimates may be there."""

Place = Literal["reward", "loss"]
Estimator = Literal["exact", "k1", "k2", "k3"]
Credit = Literal["token", "sequence"]


def kl_estimates(
    logits: jax.Array,
    reference_logits: jax.Array,
    actions: jax.Array,
    estimator: Estimator,
) -> jax.Array:
    """Each step's divergence from the reference, estimated from the action taken.

        exact  Σ_a π(a) (log π(a) − log π_ref(a))
        k1     d = log π(a) − log π_ref(a)
        k2     ½ d²
        k3     e^{−d} − 1 + d

    For a ~ π, k1 and k3 have the exact one as their mean, k2 only to the second order.

    Args:
      logits: [..., A] of π.
      reference_logits: [..., A] of π_ref.
      actions: [...] integer.
      estimator: one of `ESTIMATORS`.

    Returns:
      [...] in nats.

    Raises:
      ValueError: shapes do not fit, or an unknown estimator.

    Source: Schulman (2020), Approximating KL divergence.
    """
    if estimator == "exact":
        return distributions.categorical_kl(logits, reference_logits)
    if estimator not in ESTIMATORS:
        raise ValueError(
            f"estimator must be one of {', '.join(map(repr, ESTIMATORS))}, got "
            f"{estimator!r}."
        )
    log_probs = distributions.categorical_log_prob(logits, actions)
    reference = distributions.categorical_log_prob(reference_logits, actions)
    estimate = {
        "k1": distributions.kl_k1,
        "k2": distributions.kl_k2,
        "k3": distributions.kl_k3,
    }[estimator]
    return estimate(log_probs, reference)


def penalized_rewards(
    rewards: jax.Array,
    kl: jax.Array,
    terminated: jax.Array,
    truncated: jax.Array,
    kl_coef: jax.typing.ArrayLike,
    credit: Credit = "token",
) -> jax.Array:
    """Rewards less the price of one trajectory's divergence; callers vmap.

        token     r_t − β k_t
        sequence  r_t − β Σ_{i ≤ t, same episode} k_i where the episode ends (or the
                  trajectory does), r_t elsewhere

    Undiscounted, both have the same sum over an episode. Per token, an action answers
    for what it and later ones cost; per sequence, for all, which is noisier but what
    treating the whole sequence as one action means.

    Args:
      rewards: [T] r_t.
      kl: [T] k_t, see `kl_estimates`.
      terminated: [T] bool.
      truncated: [T] bool.
      kl_coef: β, scalar.
      credit: "token" or "sequence".

    Returns:
      [T].

    Raises:
      ValueError: shapes do not fit, or an unknown credit.

    Source: Ziegler et al. (2019), arXiv:1909.08593, eq. 2; Ahmadian et al. (2024),
      arXiv:2402.14740, §3, for whole sequences.
    """
    shapes = {jnp.shape(x) for x in (rewards, kl, terminated, truncated)}
    if len(shapes) != 1 or len(*shapes) != 1:
        raise ValueError(
            "rewards, kl, terminated and truncated must have one shape [T], got "
            f"{jnp.shape(rewards)}, {jnp.shape(kl)}, {jnp.shape(terminated)} and "
            f"{jnp.shape(truncated)}. vmap over a batch of trajectories."
        )
    if credit == "token":
        return rewards - kl_coef * kl
    if credit != "sequence":
        raise ValueError(f"credit must be 'token' or 'sequence', got {credit!r}.")
    done = terminated | truncated

    def forward(total, step):
        kl, done = step
        total = total + kl
        return jnp.where(done, 0, total), total

    _, totals = jax.lax.scan(forward, jnp.zeros_like(kl, shape=()), (kl, done))
    last = done | (jnp.arange(len(kl)) == len(kl) - 1)
    return rewards - kl_coef * jnp.where(last, totals, 0)


def adapted_kl_coef(
    kl_coef: jax.Array,
    kl: jax.Array,
    kl_target: jax.typing.ArrayLike,
    kl_rate: jax.typing.ArrayLike,
) -> jax.Array:
    """β ← β (1 + K · clip(KL/KL_target − 1, −0.2, 0.2)): towards a KL, not at a price.

    One update moves β by 20 K per cent at most: from far away it takes hundreds of
    updates at K = 0.1. A larger K overshoots, as the policy follows β with a delay.
    The agents keep β within a factor of 10⁴ of the one they begin with.

    Args:
      kl_coef: [] β.
      kl: [] KL(π‖π_ref) of whole episodes, in nats.
      kl_target: the divergence to keep, more than 0.
      kl_rate: K, in [0, 4].

    Source: Ziegler et al. (2019), arXiv:1909.08593, §2.2, K = 0.1.
    """
    error = jnp.clip(kl / kl_target - 1, -0.2, 0.2)
    return kl_coef * (1 + kl_rate * error)


def check_settings(agent: Any) -> None:
    """Checks the fields kl_coef, kl_in, kl_estimator, credit, kl_target and kl_rate.

    Raises:
      TypeError, ValueError: names the field, the value and what would be right.
    """
    struct.check_reals(agent, "kl_coef", minimum=0.0)
    struct.check_reals(
        agent, "kl_target", minimum=0.0, open_minimum=True, optional=True
    )
    # With 5, one update could take β to 0 for good, and with more below it.
    struct.check_reals(agent, "kl_rate", minimum=0.0, maximum=4.0)
    adapts = agent.kl_target is not None
    if adapts and not isinstance(agent.kl_coef, Tracer) and np.any(agent.kl_coef == 0):
        raise ValueError(
            f"{type(agent).__name__}.kl_coef must be more than 0 with a kl_target, as "
            "β is adapted by factors, got 0."
        )
    struct.check_choice(agent, "kl_in", PLACES)
    struct.check_choice(agent, "kl_estimator", ESTIMATORS)
    struct.check_choice(agent, "credit", ("token", "sequence"))
    allowed = PLACES[agent.kl_in]
    if agent.kl_estimator not in allowed:
        why = {
            "k1": "its expected gradient is 0 there",
            "exact": "it would leave out each action's own step there",
        }[agent.kl_estimator]
        raise ValueError(
            f"{type(agent).__name__}.kl_estimator must be one of "
            f"{', '.join(map(repr, allowed))} with kl_in={agent.kl_in!r}, got "
            f"{agent.kl_estimator!r}: {why}."
        )
