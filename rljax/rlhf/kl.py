"""The KL penalty of RLHF: a price on leaving a frozen reference policy.

Learning should follow the gradient of

    J_β(π) = E_π[Σ_t r_t] − β KL(π‖π_ref),   KL(π‖π_ref) = E_π[Σ_t d_t],
    d_t = log π(a_t|s_t) − log π_ref(a_t|s_t).

Let k_t be an estimate of step t's divergence (`kl_estimates`). Either β k_t is
subtracted from the reward r_t, or β Σ_t k_t is added to the loss. The table shows which
gradient β then multiplies, in expectation over whole episodes sampled from the policy
itself, with KL_t = KL(π(·|s_t)‖π_ref(·|s_t)) and RKL_t = KL(π_ref(·|s_t)‖π(·|s_t)):

| where  | k_t   | expected gradient                                        |
|--------|-------|----------------------------------------------------------|
| reward | k1    | ∇KL(π‖π_ref)                                             |
| loss   | exact | E_π[Σ ∇KL_t]                                             |
| loss   | k2    | E_π[Σ ∇KL_t]                                             |
| loss   | k3    | E_π[Σ ∇RKL_t]                                            |
| reward | k2    | ∇E_π[Σ k2_t] − E_π[Σ ∇KL_t]                              |
| reward | k3    | ∇KL(π‖π_ref) − E_π[Σ ∇RKL_t]                             |

Only the first row is the gradient of KL(π‖π_ref). E_π[Σ ∇KL_t] accounts for the
divergence in each state that the policy visits, but ignores that its actions decide
which states it visits; so it is right only for episodes of one step. Two combinations
are refused. k1 in the loss has an expected gradient of 0. The exact KL in the reward
has the same value for all actions of its step, so it acts there as a baseline, and that
step's divergence is missing from the gradient. The table is tested by enumeration. It
holds for the first gradient step on a rollout; at later steps the samples are those of
an older policy, and no row is exact.

Log-probabilities, rewards and divergences of half precision are computed with in
float32, which is then the dtype of the results.

k1 in the reward, paid by the whole sequence, has a further advantage: at the optimum
r − β Σ_t k1_t is the same for all sequences of a prompt. A baseline that is the mean of
other episodes then makes every advantage 0, so the gradient has no variance there.
"""

import functools
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from rljax import checks, distributions
from rljax.types import Transition

ESTIMATORS = ("exact", "k1", "k2", "k3")
PLACES = {
    "reward": ("k1", "k2", "k3"),
    "loss": ("exact", "k2", "k3"),
}
"""Where the KL term may be, and which estimators are allowed there."""

Place = Literal["reward", "loss"]
Estimator = Literal["exact", "k1", "k2", "k3"]
Credit = Literal["token", "sequence"]


def kl_k1(log_probs: jax.Array, reference_log_probs: jax.Array) -> jax.Array:
    """k1 = log π(a) − log ρ(a), an estimate of KL(π‖ρ) from a ~ π.

    It is unbiased, but its variance is high and it may be negative. It is useless as a
    loss: its gradient is that of log π(a), whose mean over a ~ π is 0.

    Args:
      log_probs: [...] log π(a); π may be any distribution, not only a categorical one.
      reference_log_probs: [...] log ρ(a).

    Returns:
      [...] one estimate for each a.

    Raises:
      TypeError: an argument does not hold real numbers.
      ValueError: the shapes differ.

    Source: Schulman (2020), Approximating KL divergence.
    """
    return _log_ratios(log_probs, reference_log_probs)


def kl_k2(log_probs: jax.Array, reference_log_probs: jax.Array) -> jax.Array:
    """k2 = ½ (log π(a) − log ρ(a))², an estimate of KL(π‖ρ) from a ~ π.

    It is never negative. Its bias is of third order in the log-ratios. The mean of its
    gradient over a ~ π is exactly the gradient of KL(π‖ρ).

    Arguments, result, errors and source are those of `kl_k1`.
    """
    return jnp.square(_log_ratios(log_probs, reference_log_probs)) / 2


def kl_k3(
    log_probs: jax.Array,
    reference_log_probs: jax.Array,
    max_log_ratio: jax.typing.ArrayLike | None = None,
) -> jax.Array:
    """k3 = ρ(a)/π(a) − 1 − log ρ(a)/π(a), an estimate of KL(π‖ρ) from a ~ π.

    It is never negative, and unbiased if π(a) = 0 implies ρ(a) = 0. The mean of its
    gradient over a ~ π is the gradient of the *reverse* divergence, KL(ρ‖π).

    Where a is far more probable under ρ than under π, as of a stale sample, ρ(a)/π(a)
    outweighs all other samples; in float32 k3 and its gradient are infinite from
    d = log π(a) − log ρ(a) = −89 on. With `max_log_ratio` = m, d is clipped to [−m, m]:
    beyond, k3 is that of ±m and has no gradient. Codes of RLHF often take some 20.

    Args:
      log_probs: [...] log π(a).
      reference_log_probs: [...] log ρ(a).
      max_log_ratio: m, scalar, more than 0; None: d as it is, as first published.

    Result, errors and source are those of `kl_k1`.
    """
    log_ratio = _log_ratios(log_probs, reference_log_probs)
    bound = checks.scalar(
        0.0, open_minimum=True, optional=True, max_log_ratio=max_log_ratio
    )
    if bound is not None:
        log_ratio = jnp.clip(log_ratio, -bound, bound)
    return jnp.expm1(-log_ratio) + log_ratio


def _log_ratios(log_probs, reference_log_probs):
    log_probs, reference_log_probs = checks.floating(
        log_probs=log_probs, reference_log_probs=reference_log_probs
    )
    shapes = jnp.shape(log_probs), jnp.shape(reference_log_probs)
    if shapes[0] != shapes[1]:
        raise ValueError(
            "log_probs and reference_log_probs must have one shape, got "
            f"{shapes[0]} and {shapes[1]}."
        )
    return jnp.asarray(log_probs) - jnp.asarray(reference_log_probs)


def kl_estimates(
    logits: jax.Array,
    reference_logits: jax.Array,
    actions: jax.Array,
    estimator: Estimator,
    max_log_ratio: jax.typing.ArrayLike | None = None,
) -> jax.Array:
    """Each step's divergence from the reference, estimated from the action taken.

        exact  Σ_a π(a) (log π(a) − log π_ref(a))
        k1     d = log π(a) − log π_ref(a)
        k2     ½ d²
        k3     e^{−d} − 1 + d

    For a ~ π, the mean of k1 and of k3 is the exact divergence; the mean of k2 agrees
    with it up to the second order of d.

    Args:
      logits: [..., A] of π.
      reference_logits: [..., A] of π_ref.
      actions: [...] integer.
      estimator: one of `ESTIMATORS`.
      max_log_ratio: bound of |d| in k3, see `kl_k3`; the others have none.

    Returns:
      [...] in nats.

    Raises:
      ValueError: the shapes do not fit, or the estimator is unknown.

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
    if estimator == "k3":
        return kl_k3(log_probs, reference, max_log_ratio)
    return {"k1": kl_k1, "k2": kl_k2}[estimator](log_probs, reference)


def penalized_rewards(
    rewards: jax.Array,
    kl: jax.Array,
    terminated: jax.Array,
    truncated: jax.Array,
    kl_coef: jax.typing.ArrayLike,
    credit: Credit = "token",
) -> jax.Array:
    """Subtracts the KL penalty from the rewards of one trajectory; vmap over more.

        token     r_t − β k_t
        sequence  r_t − β Σ_{i ≤ t, same episode} k_i where the episode ends (or the
                  trajectory does), r_t elsewhere

    Without a discount, both have the same sum over an episode. With "token", the return
    from an action on includes the penalties of this and later steps; with "sequence",
    it includes those of all steps. "sequence" gives the return more variance, but
    treats the whole sequence as one action.

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
      TypeError: a flag is not bool, or another array is.
      ValueError: the shapes do not fit, or the credit is unknown.

    Source: Ziegler et al. (2019), arXiv:1909.08593, eq. 2; Ahmadian et al. (2024),
      arXiv:2402.14740, §3, for whole sequences.
    """
    checks.trajectory(
        rewards=rewards, kl=kl, terminated=terminated, truncated=truncated
    )
    rewards, kl, kl_coef = checks.floating(rewards=rewards, kl=kl, kl_coef=kl_coef)
    terminated, truncated = checks.flags(terminated=terminated, truncated=truncated)
    if credit == "token":
        return rewards - kl_coef * kl
    if credit != "sequence":
        raise ValueError(f"credit must be 'token' or 'sequence', got {credit!r}.")
    done = terminated | truncated
    last = done | (jnp.arange(len(kl)) == len(kl) - 1)
    return rewards - kl_coef * jnp.where(last, _so_far(kl, done), 0)


@functools.partial(jax.jit, inline=True)  # a scan outside of jit compiles each time
def _so_far(kl, done):
    """The sum of an episode's k_i up to each step, [T]."""

    def forward(total, step):
        kl, done = step
        total = total + kl
        return jnp.where(done, 0, total), total

    return jax.lax.scan(forward, jnp.zeros_like(kl, shape=()), (kl, done))[1]


def adapted_kl_coef(
    kl_coef: jax.Array,
    kl: jax.Array,
    kl_target: jax.typing.ArrayLike,
    kl_rate: jax.typing.ArrayLike,
) -> jax.Array:
    """β ← β (1 + K · clip(KL/KL_target − 1, −0.2, 0.2)), to keep KL near its target.

    One update changes β by at most 20 K per cent, so at K = 0.1 a β that is far off
    needs hundreds of updates. With a larger K, β overshoots, as the policy follows it
    with a delay. The agents keep β within a factor of 10⁴ of their `kl_coef`.

    Args:
      kl_coef: [] β.
      kl: [] KL(π‖π_ref) of whole episodes, in nats.
      kl_target: the divergence to keep, more than 0.
      kl_rate: K, in [0, 4].

    Source: Ziegler et al. (2019), arXiv:1909.08593, §2.2, K = 0.1.
    """
    kl_coef, kl, kl_target, kl_rate = checks.floating(
        kl_coef=kl_coef, kl=kl, kl_target=kl_target, kl_rate=kl_rate
    )
    error = jnp.clip(kl / kl_target - 1, -0.2, 0.2)
    return kl_coef * (1 + kl_rate * error)


class Price(NamedTuple):
    """The settings of an agent's KL penalty."""

    kl_coef: Any
    """β, 0 or more, in units of the reward per nat."""
    kl_in: Place
    """Where the KL term is: in the "reward" or in the "loss"."""
    kl_estimator: Estimator
    """How a step's divergence is estimated."""
    credit: Credit
    """Whether each "token" pays its own β k_t, or the last one that of its
    "sequence"."""
    kl_target: Any
    """KL of whole episodes, in nats, that adapting β aims at; None: β is fixed."""
    kl_rate: Any
    """K, the rate of that adaptation: see `adapted_kl_coef`."""
    max_log_ratio: Any
    """Bound of the log-ratio in k3, see `kl_k3`; None: no bound."""

    def in_force(self, adapted: jax.Array) -> Any:
        """β of this update: the agent's `kl_coef`, or `adapted` if it has a target."""
        return self.kl_coef if self.kl_target is None else adapted

    def of_next_update(self, coef: Any, episode_kl: jax.Array) -> jax.Array:
        """β of the next update, [], within a factor of 10⁴ of the agent's `kl_coef`.

        Without this limit, β could become 0 or infinite in floating point, and it would
        stay so, as updates only multiply it.
        """
        if self.kl_target is not None:
            coef = adapted_kl_coef(coef, episode_kl, self.kl_target, self.kl_rate)
            coef = jnp.clip(coef, self.kl_coef / 1e4, self.kl_coef * 1e4)
        return jnp.asarray(coef, jnp.result_type(float))

    def estimates(
        self, logits: Any, reference_logits: Any, actions: jax.Array
    ) -> jax.Array:
        """`kl_estimates` as the settings say."""
        return kl_estimates(
            logits, reference_logits, actions, self.kl_estimator, self.max_log_ratio
        )

    def rewards(
        self, trajectory: Transition, logits: Any, reference_logits: Any, coef: Any
    ) -> jax.Array:
        """Rewards [T, N], less the KL penalty if it is paid in the reward."""
        if self.kl_in == "loss":
            return checks.floating(reward=trajectory.reward)[0]
        kl = self.estimates(logits, reference_logits, trajectory.action)
        over_envs = jax.vmap(
            penalized_rewards, in_axes=(1, 1, 1, 1, None, None), out_axes=1
        )
        return over_envs(
            trajectory.reward,
            kl,
            trajectory.terminated,
            trajectory.truncated,
            coef,
            self.credit,
        )


def check_settings(agent: Any) -> None:
    """Checks the fields of an agent that are the settings of its `Price`.

    Raises:
      TypeError, ValueError: a field is wrong; the message says what is allowed.
    """
    checks.reals(agent, "kl_coef", minimum=0.0)
    checks.reals(agent, "kl_target", minimum=0.0, open_minimum=True, optional=True)
    # With K = 5, one update could set β to 0 for good, and a larger K could make it
    # negative.
    checks.reals(agent, "kl_rate", minimum=0.0, maximum=4.0)
    adapts = agent.kl_target is not None
    if adapts and not isinstance(agent.kl_coef, Tracer) and np.any(agent.kl_coef == 0):
        raise ValueError(
            f"{type(agent).__name__}.kl_coef must be more than 0 with a kl_target, as "
            "β is adapted by factors, got 0."
        )
    checks.choice(agent, "kl_in", PLACES)
    checks.choice(agent, "kl_estimator", ESTIMATORS)
    checks.choice(agent, "credit", ("token", "sequence"))
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
    checks.reals(
        agent, "kl_max_log_ratio", minimum=0.0, open_minimum=True, optional=True
    )
    if agent.kl_max_log_ratio is not None and agent.kl_estimator != "k3":
        raise ValueError(
            f"{type(agent).__name__}.kl_max_log_ratio must be None with kl_estimator="
            f"{agent.kl_estimator!r}, got {agent.kl_max_log_ratio!r}: only k3 takes "
            "the exponential of a log-ratio."
        )
