"""Planning with a KL penalty on leaving a reference policy.

    J_β(π) = E_π[Σ_t r_t] − β KL(π ‖ π_ref)
    KL(π ‖ π_ref) = E_π[Σ_t log π(a_t|s_t)/π_ref(a_t|s_t)]

Both are undiscounted, over whole episodes; J_β is the objective of RLHF if the states
are prefixes of a text. Every episode must end, as it does in an acyclic process, where
values settle after as many sweeps as the longest episode has steps. Half precision is
computed with in float32, then the dtype of the results. Shape letters: S states, A
actions.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from rljax import checks
from rljax.mdp import MDP
from rljax.rlhf import sequences
from rljax.rlhf.reference import ReferenceState
from rljax.rlhf.tokens import TokenMDP
from rljax.tabular import planning

__all__ = [
    "Objective",
    "SequenceObjective",
    "SoftPlan",
    "log_probs_of",
    "measure",
    "objective",
    "optimal_log_probs",
    "sequence_objective",
    "soft_value_iteration",
]

_MAX_SWEEPS = 100_000


class SoftPlan(NamedTuple):
    """The optimal policy for one β, and its values."""

    values: jax.Array
    """[S] V(s) = β log Σ_a π_ref(a|s) exp(Q(s,a)/β); 0 at terminal states."""
    q_values: jax.Array
    """[S, A] Q(s,a) = R(s,a) + Σ_s' P(s'|s,a) V(s')."""
    log_policy: jax.Array
    """[S, A] log π*(a|s) = log π_ref(a|s) + (Q(s,a) − V(s))/β."""
    objective: jax.Array
    """[] J_β(π*), the maximum over all policies."""


class Objective(NamedTuple):
    """J_β(π) and its parts, computed exactly."""

    objective: jax.Array
    """[] expected_return − β · kl."""
    expected_return: jax.Array
    """[] E_π[Σ r]."""
    kl: jax.Array
    """[] KL(π ‖ π_ref) of whole episodes, in nats."""


def soft_value_iteration(
    mdp: MDP, reference: jax.Array, kl_coef: jax.typing.ArrayLike
) -> SoftPlan:
    """The policy that maximises J_β, by dynamic programming.

        V(s) = β log Σ_a π_ref(a|s) exp(Q(s,a)/β),   π*(a|s) ∝ π_ref(a|s) exp(Q(s,a)/β)

    At β = 0 this is value iteration over the actions with π_ref(a|s) > 0, and tied
    actions share their probability in proportion to π_ref. At β = ∞, π* is π_ref. If
    transitions are deterministic, the probability of a whole episode y is
    π*(y) ∝ π_ref(y) exp(r(y)/β).

    Args:
      mdp: a process whose episodes all end.
      reference: [S, A] probabilities π_ref(a|s).
      kl_coef: β, 0 or more, ∞ allowed.

    Raises:
      TypeError, ValueError: an argument is wrong; the message names it.

    Source: Todorov (2006); Levine (2018), arXiv:1805.00909, §2; with the reference in
      the place of a uniform prior.
    """
    reference = _check_policy("reference", mdp, reference)
    _check_kl_coef(kl_coef)
    return _soft_value_iteration(mdp, reference, kl_coef)


def objective(
    mdp: MDP,
    policy: jax.Array,
    reference: jax.Array,
    kl_coef: jax.typing.ArrayLike,
) -> Objective:
    """J_β of any policy, computed from the model.

    Args:
      mdp: a process whose episodes all end.
      policy: [S, A] probabilities π(a|s).
      reference: [S, A] probabilities π_ref(a|s).
      kl_coef: β, 0 or more and finite.

    Returns:
      The objective and its parts. The KL is ∞ if π, in a state that it can reach, may
      take an action that π_ref never takes.

    Raises:
      TypeError, ValueError: an argument is wrong; the message names it.
    """
    policy = _check_policy("policy", mdp, policy)
    reference = _check_policy("reference", mdp, reference)
    _check_kl_coef(kl_coef, finite=True)
    return _objective(mdp, policy, reference, kl_coef)


@jax.jit
def _soft_value_iteration(mdp, reference, kl_coef):
    beta = jnp.asarray(kl_coef, mdp.rewards.dtype)
    # The mask is applied before log as well as after it: the derivative of log 0 is
    # infinite, and infinity times the 0 of the outer mask would be NaN.
    positive = jnp.where(reference > 0, reference, 1)
    log_reference = jnp.where(reference > 0, jnp.log(positive), -jnp.inf)

    def values_of(q):
        return _soft_maximum(q, log_reference, beta)

    def sweep(values):
        return jnp.where(
            mdp.terminal, 0, values_of(planning.q_values(mdp, values, 1.0))
        )

    values = _settle(sweep, mdp)
    q = planning.q_values(mdp, values, 1.0)
    log_policy = _soft_policy(q, log_reference, beta)
    return SoftPlan(values, q, log_policy, jnp.sum(mdp.initial * values))


def _soft_maximum(q, log_reference, beta):
    """β log Σ_a π_ref(a) exp(Q(a)/β), including its limits at β = 0 and ∞.

    It is computed as max + β log1p(Σ π_ref expm1((Q − max)/β)), which loses no digits
    for a large β. If that sum is −1/2 or less, as it may be for a small β, it is
    computed as max + β log Σ exp(log π_ref + (Q − max)/β), which is right even if π_ref
    underflows to 0.
    """
    allowed = log_reference > -jnp.inf
    reference = jnp.exp(log_reference)
    highest = jnp.max(jnp.where(allowed, q, -jnp.inf), axis=-1, keepdims=True)
    gap = jnp.where(allowed, q - highest, 0)
    inner = jnp.where((beta > 0) & jnp.isfinite(beta), beta, 1)
    near = jnp.sum(reference * jnp.expm1(gap / inner), axis=-1)
    far = jax.nn.logsumexp(log_reference + gap / inner, axis=-1)
    # Where `far` is taken, jnp.maximum keeps the unused log1p and its gradient finite.
    log_sum = jnp.where(near > -0.5, jnp.log1p(jnp.maximum(near, -0.5)), far)
    soft = highest[..., 0] + inner * log_sum
    average = jnp.sum(reference * jnp.where(allowed, q, 0), axis=-1)
    return jnp.where(
        beta == 0, highest[..., 0], jnp.where(jnp.isinf(beta), average, soft)
    )


@jax.jit
def _soft_policy(q, log_reference, beta):
    """log π_ref(a) + (Q(a) − V)/β, including its limits at β = 0 and ∞."""
    allowed = log_reference > -jnp.inf
    highest = jnp.max(jnp.where(allowed, q, -jnp.inf), axis=-1, keepdims=True)
    best = jnp.where(q == highest, log_reference, -jnp.inf)
    inner = jnp.where(beta > 0, beta, 1)
    tilted = log_reference + jnp.where(jnp.isinf(beta), 0, (q - highest) / inner)
    return jax.nn.log_softmax(jnp.where(beta == 0, best, tilted), axis=-1)


@jax.jit
def _objective(mdp, policy, reference, kl_coef):
    both = (policy > 0) & (reference > 0)
    log_ratio = jnp.where(both, jnp.log(policy) - jnp.log(reference), 0)
    barred = jnp.where((policy > 0) & (reference == 0), 1.0, 0.0)
    returns = _evaluate(mdp, policy, mdp.rewards)
    # Infinite log-ratios are left out of the sweeps, where 0 · ∞ would be NaN, and
    # added afterwards if π can take an action that is `barred`.
    kl = _evaluate(mdp, policy, log_ratio)
    kl = jnp.where(_evaluate(mdp, policy, barred) > 0, jnp.inf, kl)
    penalty = jnp.where(kl_coef == 0, 0, kl_coef * kl)
    return Objective(returns - penalty, returns, kl)


def _evaluate(mdp, policy, rewards):
    """E_π[Σ rewards] over whole episodes."""

    def sweep(values):
        q = planning.q_values(_with_rewards(mdp, rewards), values, 1.0)
        return jnp.where(mdp.terminal, 0, jnp.sum(policy * q, axis=-1))

    return jnp.sum(mdp.initial * _settle(sweep, mdp))


def _with_rewards(mdp, rewards):
    leaves = (mdp.transitions, rewards, mdp.terminal, mdp.initial)
    return jax.tree.unflatten(jax.tree.structure(mdp), jax.tree.leaves(leaves))


def _settle(sweep, mdp):
    """Repeats V ← sweep(V) from V = 0 until no value changes.

    The result is exact if every episode ends; otherwise `_MAX_SWEEPS` ends the loop.
    """

    def going(carry):
        _, count, changed = carry
        return changed & (count < _MAX_SWEEPS)

    def step(carry):
        values, count, _ = carry
        new = sweep(values)
        return new, count + 1, jnp.any(new != values)

    values = jnp.zeros_like(mdp.rewards, shape=mdp.num_states)
    return jax.lax.while_loop(going, step, (values, 0, jnp.bool_(True)))[0]


class SequenceObjective(NamedTuple):
    """J_β of a distribution over whole sequences, compared with its maximum.

    All prompts have the same weight. Each field is [] floating.
    """

    objective: jax.Array
    """J_β(π) = E_π[r] − β KL(π‖π_ref)."""
    expected_reward: jax.Array
    """E_π[r]."""
    kl: jax.Array
    """KL(π‖π_ref) of whole sequences, in nats."""
    optimum: jax.Array
    """J_β(π*) = β log Σ_y π_ref(y|x) exp(r(x,y)/β), mean over prompts."""
    gap: jax.Array
    """J_β(π*) − J_β(π), which is β KL(π‖π*) for β > 0. At β = 0, π* is the best of the
    policies that take only what π_ref may take; any other policy may do better than
    π*, and its gap is then negative."""
    kl_to_optimum: jax.Array
    """KL(π‖π*), in nats; ∞ if π allows a sequence that π* excludes, as at β = 0."""


def sequence_objective(
    log_probs: jax.Array,
    reference_log_probs: jax.Array,
    rewards: jax.Array,
    kl_coef: jax.typing.ArrayLike,
) -> SequenceObjective:
    """The exact objective of a policy, by enumeration of all sequences.

        π*(y|x) ∝ π_ref(y|x) exp(r(x,y)/β)

    Args:
      log_probs: [P, Y] log π(y|x), see `sequences.sequence_log_probs`.
      reference_log_probs: [P, Y] log π_ref(y|x).
      rewards: [P, Y] r(x, y).
      kl_coef: β, 0 or more and finite.

    Raises:
      TypeError: kl_coef is not a single number.
      ValueError: the shapes differ, or kl_coef is negative or infinite.

    Source: Korbak et al. (2022), arXiv:2205.11275; Rafailov et al. (2023),
      arXiv:2305.18290, eq. 4.
    """
    shapes = [jnp.shape(x) for x in (log_probs, reference_log_probs, rewards)]
    if len(set(shapes)) != 1 or len(shapes[0]) != 2:
        raise ValueError(
            "log_probs, reference_log_probs and rewards must be [P, Y] alike, got "
            f"shapes {shapes[0]}, {shapes[1]} and {shapes[2]}."
        )
    _check_kl_coef(kl_coef, finite=True)
    arrays = checks.floating(
        log_probs=log_probs, reference_log_probs=reference_log_probs, rewards=rewards
    )
    return _sequence_objective(*arrays, kl_coef)


@jax.jit
def _sequence_objective(log_probs, reference_log_probs, rewards, kl_coef):
    beta = jnp.asarray(kl_coef, jnp.result_type(rewards, float))
    expected_reward = jnp.mean(jnp.sum(jnp.exp(log_probs) * rewards, axis=-1))
    kl = _mean_kl(log_probs, reference_log_probs)
    objective = expected_reward - jnp.where(beta == 0, 0, beta * kl)
    optimum = jnp.mean(_soft_maximum(rewards, reference_log_probs, beta))
    log_best = optimal_log_probs(reference_log_probs, rewards, beta)
    return SequenceObjective(
        objective,
        expected_reward,
        kl,
        optimum,
        optimum - objective,
        _mean_kl(log_probs, log_best),
    )


def optimal_log_probs(
    reference_log_probs: jax.Array, rewards: jax.Array, kl_coef: jax.typing.ArrayLike
) -> jax.Array:
    """log π*(y|x) = log π_ref(y|x) + r(x,y)/β − log Z(x), the optimum for one β.

    Over all β, these policies are the Pareto frontier: no policy has more reward at the
    same KL(π‖π_ref), or less KL at the same reward.

    Args:
      reference_log_probs: [P, Y] log π_ref(y|x).
      rewards: [P, Y] r(x, y).
      kl_coef: β, 0 or more, ∞ allowed.

    Returns:
      [P, Y].

    Raises:
      TypeError, ValueError: kl_coef is not a single number of 0 or more.

    Source: the sources of `sequence_objective`.
    """
    _check_kl_coef(kl_coef)
    reference_log_probs, rewards = checks.alike(
        reference_log_probs=reference_log_probs, rewards=rewards
    )
    beta = jnp.asarray(kl_coef, jnp.result_type(rewards, float))
    return _soft_policy(rewards, reference_log_probs, beta)


def log_probs_of(
    agent: Any, agent_state: Any, env: TokenMDP, *, reference: bool = False
) -> jax.Array:
    """[P, V^H] log π(y|x) of an agent's policy, or of its reference, by enumeration.

    Args:
      agent: an agent with `logits(state, obs)`, and `reference_logits` if `reference`.
      agent_state: the agent's state.
      env: TokenMDP.
      reference: whether to take the reference instead of the policy.
    """
    of_state = agent.reference_logits if reference else agent.logits
    obs = sequences.unfinished(env.vocabulary_size, env.horizon, env.num_prompts)
    logits = jax.vmap(jax.vmap(lambda o: of_state(agent_state, o)))(jnp.asarray(obs))
    (logits,) = checks.floating(logits=logits)
    return sequences.sequence_log_probs(jax.nn.log_softmax(logits), env.horizon)


def measure(agent: Any, env: Any, agent_state: Any) -> dict[str, jax.Array]:
    """Computes an agent's exact `SequenceObjective`, for use in `train` and `sweep`:

        rljax.train(agent, env, key, num_updates=9, measure=rljax.rlhf.optimum.measure)

    The agent must have `logits`, `reference_logits` and a `ReferenceState`, as PPOKL,
    RLOO, GRPO and DPO have, and the environment must be a TokenMDP. What is measured is
    the policy after the update, at the agent's β or, if the agent adapts it, at the β
    of the next update. The names are exact_objective, exact_reward, exact_kl,
    exact_optimum, exact_gap and exact_kl_to_optimum.

    Raises:
      TypeError: the agent or the environment is of another kind.
    """
    if not isinstance(env, TokenMDP):
        raise TypeError(
            f"optimum.measure enumerates a TokenMDP, got a {type(env).__name__}."
        )
    if not isinstance(agent_state, ReferenceState):
        raise TypeError(
            "optimum.measure needs an agent with a reference, such as rljax.RLOO, got "
            f"a {type(agent).__name__}."
        )
    found = sequence_objective(
        log_probs_of(agent, agent_state, env),
        log_probs_of(agent, agent_state, env, reference=True),
        env.sequence_rewards(),
        agent_state.kl_coef,
    )
    return {
        "exact_" + name.removeprefix("expected_"): value
        for name, value in found._asdict().items()
    }


def _mean_kl(log_probs: jax.Array, others: jax.Array) -> jax.Array:
    """KL(p‖q) of distributions [P, Y], mean over prompts."""
    probs = jnp.exp(log_probs)
    # Each term is masked before the subtraction: where both probabilities are 0, the
    # difference would be −∞ − (−∞), which is NaN.
    terms = jnp.where(probs > 0, log_probs, 0) - jnp.where(probs > 0, others, 0)
    return jnp.mean(jnp.sum(probs * terms, axis=-1))


def _check_policy(name: str, mdp: Any, policy: Any) -> jax.Array:
    if not isinstance(mdp, MDP):
        raise TypeError(f"mdp must be an MDP, such as env.to_mdp() gives, got {mdp!r}.")
    array = jnp.asarray(policy, mdp.rewards.dtype)
    if array.shape != mdp.rewards.shape:
        raise ValueError(
            f"{name} must be probabilities [S, A] = {list(mdp.rewards.shape)}, got "
            f"shape {list(array.shape)}."
        )
    if not isinstance(array, Tracer):
        concrete = np.asarray(array)
        wrong = (np.abs(concrete.sum(-1) - 1) > 1e-3) | (concrete < 0).any(-1)
        if wrong.any():
            state = int(np.argmax(wrong))
            raise ValueError(
                f"{name}[{state}] must be probabilities that sum to 1, got "
                f"{concrete[state]}."
            )
    return array


def _check_kl_coef(kl_coef: Any, *, finite: bool = False) -> None:
    if isinstance(kl_coef, Tracer):
        return
    array = np.asarray(kl_coef)
    if array.ndim or array.dtype.kind not in "fiu":
        raise TypeError(
            f"kl_coef must be one real number, got {kl_coef!r}. vmap over several."
        )
    if not (array >= 0).all() or (finite and np.isinf(array).any()):
        also = " and finite" if finite else ""
        raise ValueError(f"kl_coef must be 0 or more{also}, got {kl_coef!r}.")
