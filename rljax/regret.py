"""Regret of tabular agents in training, from the model: no evaluation noise."""

import functools
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax.core import Tracer

from rljax import planning, struct
from rljax.train import Metrics, TrainState, init_train, train_step
from rljax.types import MDP, Env, check_agent, check_env, check_key


class ExactReturns(NamedTuple):
    """J(π) = Σ_s ρ(s) V^π(s) of the policies that training went through, exact.

    Before the first update and after every `every`-th one, K = num_updates/every + 1.
    """

    num_updates: jax.Array
    """[K] int32: updates done."""
    greedy: jax.Array
    """[K] floating: of the greedy policy."""
    behaviour: jax.Array
    """[K] floating: of the exploring policy, frozen as it stood."""
    optimal: jax.Array
    """[] floating: of the best policy."""

    @property
    def greedy_regret(self) -> jax.Array:
        """[..., K] J(π*) − J(greedy)."""
        return self.optimal[..., None] - self.greedy

    @property
    def behaviour_regret(self) -> jax.Array:
        """[..., K] J(π*) − J(behaviour)."""
        return self.optimal[..., None] - self.behaviour


def train_with_exact_returns(
    agent: Any,
    env: Env,
    key: jax.Array,
    *,
    num_updates: int,
    every: int = 1,
    mdp: MDP | None = None,
    method: Literal["solve", "iterative"] = "solve",
) -> tuple[TrainState, Metrics, ExactReturns]:
    """`train`, with J of the greedy and the behaviour policy from the model, unsampled.

    Each point solves the Bellman equations of two policies inside the compiled scan.
    Time limits are not part of the model: J is that of episodes that end only where
    the MDP does, discounted by the agent's γ. The training itself is the same, number
    by number, as that of `train`.

    Args:
      agent: a tabular agent with `greedy_policy` and `behaviour_policy`.
      env: environment.
      key: random key.
      num_updates: number of updates, a multiple of `every`.
      every: updates between two points of the curve.
      mdp: the model; None: `env.to_mdp()`.
      method: of `planning.policy_evaluation`: "solve" takes S³ operations, so beyond
        some hundred states pass `env.to_mdp(sparse=True)` and "iterative", which is
        exact to γ/(1−γ) · 1e-6.

    Returns:
      The final state, metrics [num_updates], and the curve.

    Raises:
      TypeError, ValueError: something is not what its name says; see the message.
    """
    check_agent(agent)
    check_env(env)
    check_key(key)
    num_updates = struct.check_int("num_updates", num_updates, minimum=0)
    every = struct.check_int("every", every, minimum=1)
    if num_updates % every:
        raise ValueError(
            f"num_updates must be a multiple of every = {every}, got {num_updates}."
        )
    if not hasattr(agent, "greedy_policy"):
        raise TypeError(
            "agent must be a tabular agent such as rljax.QLearning(), got a "
            f"{type(agent).__name__}, which has no table to read a policy from."
        )
    if mdp is None:
        if not hasattr(env, "to_mdp"):
            raise TypeError(
                f"{type(env).__name__} has no to_mdp; pass the model as mdp=…."
            )
        mdp = env.to_mdp()  # pyright: ignore[reportAttributeAccessIssue]
    if not isinstance(mdp, MDP):
        raise TypeError(f"mdp must be an rljax.MDP, got {type(mdp).__name__}.")
    if not isinstance(agent.discount, Tracer) and agent.discount >= 1:
        raise ValueError(
            f"agent.discount must be below 1, got {agent.discount}: without "
            "discounting, a policy that never ends has no return. Use 0.99, say."
        )
    if method == "solve":
        planning.check_solvable(mdp, agent.discount)
    return _train(agent, env, key, mdp, num_updates, every, method)


@functools.partial(jax.jit, static_argnums=(4, 5, 6))
def _train(agent, env, key, mdp, num_updates, every, method):
    def evaluate(agent_state):
        policies = agent.greedy_policy(agent_state), agent.behaviour_policy(agent_state)
        return tuple(
            planning.expected_return(mdp, policy, agent.discount, method=method)
            for policy in policies
        )

    def span(state, _):
        state, metrics = jax.lax.scan(
            lambda state, _: train_step(agent, env, state), state, length=every
        )
        return state, (metrics, evaluate(state.agent_state))

    state = init_train(agent, env, key)
    first = evaluate(state.agent_state)
    num_spans = num_updates // every
    state, (metrics, rest) = jax.lax.scan(span, state, length=num_spans)
    metrics = jax.tree.map(lambda x: x.reshape(num_updates, *x.shape[2:]), metrics)
    greedy, behaviour = jax.tree.map(
        lambda start, points: jnp.concatenate([start[None], points]), first, rest
    )
    if method == "solve":
        best = planning.policy_iteration(mdp, agent.discount)
    else:
        best = planning.value_iteration(mdp, agent.discount)
    curve = ExactReturns(
        num_updates=jnp.arange(num_spans + 1, dtype=jnp.int32) * every,
        greedy=greedy,
        behaviour=behaviour,
        optimal=jnp.sum(mdp.initial * best.values),
    )
    return state, metrics, curve
