"""Regret of tabular agents in training, computed from the model without noise."""

import functools
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from rljax import checks, contract, display
from rljax.agents.base import PolicyAgent
from rljax.envs import LQR
from rljax.envs.wrappers import unlimited
from rljax.tabular import planning
from rljax.tabular.agent import TabularAgent
from rljax.tabular.planning import evaluation, undiscounted
from rljax.training import Metrics, TrainState, init_train, train_steps
from rljax.types import MDP, Env, EnvLike


class ExactReturns(NamedTuple):
    """Exact J(π) = Σ_s ρ(s) V^π(s) of the policies that training went through.

    ρ is the distribution of initial states. There is a point before the first update
    and one after every `every`-th update, K = num_updates/every + 1 in all.
    """

    num_updates: jax.Array
    """[K] int32: number of updates done."""
    greedy: jax.Array
    """[K] floating: J of the greedy policy."""
    behaviour: jax.Array
    """[K] floating: J of the exploring policy, held fixed as it was then."""
    optimal: jax.Array
    """[] floating: J of the best policy."""

    _also = ("greedy_regret", "behaviour_regret")
    __repr__ = display.text
    _repr_html_ = display.html

    @property
    def greedy_regret(self) -> jax.Array:
        """[..., K] J(π*) − J(greedy)."""
        return self.optimal[..., None] - self.greedy

    @property
    def behaviour_regret(self) -> jax.Array:
        """[..., K] J(π*) − J(behaviour)."""
        return self.optimal[..., None] - self.behaviour


def train_with_exact_returns(
    agent: TabularAgent,
    env: EnvLike,
    key: jax.Array,
    *,
    num_updates: int,
    every: int = 1,
    mdp: MDP | None = None,
    method: Literal["solve", "iterative"] = "solve",
) -> tuple[TrainState, Metrics, ExactReturns]:
    """`train`, with the exact J of the greedy and of the behaviour policy.

    For each point of the curve, the Bellman equations of both policies are solved
    inside the compiled scan. Time limits are not part of the model: J is the return,
    discounted by the agent's γ, of episodes that end only in terminal states of the
    MDP. At γ = 1, J of a policy that never ends may be −∞, which makes its regret ∞.
    The training itself is the same as that of `train`.

    Args:
      agent: a tabular agent.
      env: environment.
      key: random key.
      num_updates: number of updates, a multiple of `every`.
      every: updates between two points of the curve.
      mdp: the model; None: `env.to_mdp()`.
      method: that of `planning.policy_evaluation`. "solve" takes S³ operations. Beyond
        some hundred states, pass mdp=env.to_mdp(sparse=True) and "iterative", whose
        error is at most γ/(1−γ) · 1e-6.

    Returns:
      The final state, metrics [num_updates], and the curve.

    Raises:
      TypeError, ValueError: an argument is wrong; the message names it.
    """
    contract.require(agent, env, key)
    num_updates = checks.integer("num_updates", num_updates, minimum=0)
    every = checks.integer("every", every, minimum=1)
    if num_updates % every:
        raise ValueError(
            f"num_updates must be a multiple of every = {every}, got {num_updates}."
        )
    _require_table(agent)
    mdp = _model(env) if mdp is None else mdp
    if not isinstance(mdp, MDP):
        raise TypeError(f"mdp must be an rljax.MDP, got {type(mdp).__name__}.")
    if method == "solve":
        planning.check_solvable(mdp)
    below_one = not undiscounted.possible(mdp, agent.discount)
    state, metrics, (greedy, behaviour) = _train(
        agent, env, key, mdp, num_updates, every, method, below_one
    )
    if method == "solve":
        best = planning.policy_iteration(mdp, agent.discount)
    else:
        best = planning.value_iteration(mdp, agent.discount)
    curve = ExactReturns(
        num_updates=jnp.arange(num_updates // every + 1, dtype=jnp.int32) * every,
        greedy=greedy,
        behaviour=behaviour,
        optimal=planning.initial_value(mdp, best.values),
    )
    return state, metrics, curve


def measure(agent: Any, env: Any, agent_state: Any) -> dict[str, jax.Array]:
    """Exact returns of a tabular agent in training, for `train` and `sweep`:

        rljax.train(agent, env, key, num_updates=40, measure=rljax.regret.measure)

    The results are named greedy_return, behaviour_return and greedy_regret, which is
    J(π*) − J(greedy). Each call evaluates two policies and runs policy iteration, so
    the model should be small. At a discount of 1 they may be infinite, or NaN if both
    returns of a difference are: see `planning.policy_evaluation`.

    Raises:
      TypeError: the agent has no table, or the environment has no exact model.
      ValueError: the model has too many states; see `planning.check_solvable`.
    """
    _require_table(agent)
    mdp = _model(env)
    greedy, behaviour = _returns(agent, agent_state, mdp, "solve")
    best = planning.policy_iteration(mdp, agent.discount)
    return {
        "greedy_return": greedy,
        "behaviour_return": behaviour,
        "greedy_regret": planning.initial_value(mdp, best.values) - greedy,
    }


def measure_linear(agent: Any, env: Any, agent_state: Any) -> dict[str, jax.Array]:
    """Exact returns on an `LQR` of an agent with a linear policy, in training:

        agent = rljax.PPO(hidden_sizes=())
        rljax.train(agent, env, key, num_updates=40, measure=regret.measure_linear)

    The results are named as those of `measure`: greedy_return is that of the mean,
    behaviour_return that of the policy with its noise, and greedy_regret is
    J(π*) − J(greedy). All are discounted by the agent's γ, and time limits are no part
    of them, as the agent looks beyond those too. The gain is read from the means at
    s = 0 and at the unit vectors, which says all of a policy that is linear.

    Raises:
      TypeError: the agent has hidden layers, an `encoder` or `normalize_observations`
        (which clips), or no policy network; or the environment is no `LQR`. A `network`
        that you pass is taken to be linear.
    """
    _require_linear(agent)
    system: Any = unlimited(env)
    checks.instance("env", system, LQR, 'rljax.make("LQR-DoubleIntegrator")')
    (num_states,) = system.observation_space.shape
    points = jnp.concatenate([jnp.zeros((1, num_states)), jnp.eye(num_states)])
    policy = jax.vmap(lambda obs: agent.policy(agent_state, obs))(points)
    bias, discount = policy.mean[0], agent.discount
    gain, scale = (bias[None, :] - policy.mean[1:]).T, jnp.exp(policy.log_scale[0])
    exact_return = functools.partial(
        planning.linear_return, system, gain, discount, bias=bias
    )
    greedy = exact_return(noise_scale=jnp.zeros_like(scale))
    return {
        "greedy_return": greedy,
        "behaviour_return": exact_return(noise_scale=scale),
        "greedy_regret": planning.riccati(system, discount).expected_return - greedy,
    }


def _require_table(agent: Any) -> None:
    if not isinstance(agent, TabularAgent):
        raise TypeError(
            "agent must be a tabular agent such as rljax.QLearning(), got a "
            f"{type(agent).__name__}, which has no table to read a policy from."
        )


def _require_linear(agent: Any) -> None:
    if not isinstance(agent, PolicyAgent):
        raise TypeError(
            "agent must have a linear policy, as rljax.PPO(hidden_sizes=()) has, got "
            f"{agent!r}."
        )
    bent = []
    if agent.network is None and agent.hidden_sizes:
        bent.append(f"hidden_sizes={agent.hidden_sizes}")
    if agent.encoder is not None:
        bent.append(f"encoder={agent.encoder!r}")
    if agent.normalize_observations:
        bent.append("normalize_observations=True")
    if bent:
        raise TypeError(
            "agent must have a linear policy, as rljax.PPO(hidden_sizes=()) has, got a "
            f"{type(agent).__name__} with {', '.join(bent)}. Leave that out."
        )


def _model(env: Any) -> MDP:
    if not isinstance(env, Env):
        raise TypeError(f"{type(env).__name__} has no to_mdp; pass the model as mdp=….")
    return env.to_mdp()


def _returns(agent, agent_state, mdp, method, below_one=False):
    """J of the greedy and of the behaviour policy."""
    policies = agent.greedy_policy(agent_state), agent.behaviour_policy(agent_state)
    plans = (
        evaluation.evaluate(mdp, policy, agent.discount, method, below_one=below_one)
        for policy in policies
    )
    return tuple(planning.initial_value(mdp, plan.values) for plan in plans)


@functools.partial(jax.jit, static_argnums=(4, 5, 6, 7))
def _train(agent, env, key, mdp, num_updates, every, method, below_one):
    def returns(state):
        return _returns(agent, state.agent_state, mdp, method, below_one)

    def span(state, _):
        state, metrics = train_steps(agent, env, state, num_updates=every)
        return state, (metrics, returns(state))

    state = init_train(agent, env, key)
    first = returns(state)
    state, (metrics, rest) = jax.lax.scan(span, state, length=num_updates // every)
    metrics = jax.tree.map(lambda x: x.reshape(num_updates, *x.shape[2:]), metrics)
    curves = jax.tree.map(
        lambda start, points: jnp.concatenate([start[None], points]), first, rest
    )
    return state, metrics, curves
