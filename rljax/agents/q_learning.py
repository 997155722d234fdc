"""Q-learning, and its relatives whose target needs only the successor state."""

from typing import Any

import jax
import jax.numpy as jnp

from rljax import exploration, random, struct
from rljax.agents import tabular
from rljax.agents.tabular import TabularAgent, TabularState
from rljax.exploration import Exploration
from rljax.types import Transition


@struct.dataclass
class QLearning(TabularAgent):
    """Off-policy control: the target is greedy, whatever the behaviour.

        Q(s,a) ← Q(s,a) + α [r + γ (1 − terminated) max_a' Q(s',a') − Q(s,a)]

    Source: Watkins and Dayan (1992); Sutton and Barto (2018), §6.5.
    """

    def _learn_one(
        self, state: TabularState, transition: Transition, memory: Any
    ) -> tuple[TabularState, Any, jax.Array]:
        next_value = jnp.max(tabular.row(state.q_values, transition.next_obs))
        return _update(self, state, transition, next_value, memory)


@struct.dataclass
class ExpectedSarsa(TabularAgent):
    """The target is the mean over the next action of a policy.

        Q(s,a) ← Q(s,a) + α [r + γ (1 − terminated) Σ_a' π(a'|s') Q(s',a') − Q(s,a)]

    with π the behaviour, or any other rule: `target=EpsilonGreedy(0.0)` is Q-learning.

    Source: van Seijen et al. (2009); Sutton and Barto (2018), §6.6.
    """

    target: Exploration | None = None
    """The rule whose policy is evaluated; None: `exploration`."""

    def __post_init__(self):
        super().__post_init__()
        rule = self.target
        if rule is None:
            return
        if isinstance(rule, type) or not isinstance(rule, Exploration):
            raise TypeError(
                "ExpectedSarsa.target must be a rule such as "
                f"rljax.exploration.EpsilonGreedy(0.0), or None, got {rule!r}."
            )
        if rule.uses_counts and not self._needs_counts():
            raise ValueError(
                f"ExpectedSarsa.target = {rule!r} needs counts, which the agent only "
                "keeps for an exploration rule that uses them, or for step_size=None."
            )

    def _learn_one(
        self, state: TabularState, transition: Transition, memory: Any
    ) -> tuple[TabularState, Any, jax.Array]:
        rule = self.exploration if self.target is None else self.target
        policy = self._policy(rule, state, transition.next_obs)
        next_values = tabular.row(state.q_values, transition.next_obs)
        next_value = jnp.sum(policy * next_values)
        return _update(self, state, transition, next_value, memory)


@struct.dataclass
class DoubleQLearning(TabularAgent):
    """Two tables: one chooses the target's action, the other says what it is worth.

    A fair coin picks the table i that learns, j being the other:

        y = r + γ (1 − terminated) Q_j(s', argmax_a' Q_i(s',a'))
        Q_i(s,a) ← Q_i(s,a) + α [y − Q_i(s,a)]

    which takes away the bias of a maximum over noisy estimates. Actions are chosen by
    the mean of the two. `q_values` of its state are the tables one below the other,
    [2 S, A]; `action_values` is their mean.

    Source: van Hasselt (2010); Sutton and Barto (2018), §6.7.
    """

    def __post_init__(self):
        super().__post_init__()
        if self.step_size is None:
            raise ValueError(
                "DoubleQLearning.step_size must be a number or a schedule, got None: "
                "N(s,a) counts the visits of both tables, so 1/N makes neither a mean."
            )

    def _init_table(self, shape: tuple[int, int]) -> jax.Array:
        return super()._init_table((2 * shape[0], shape[1]))

    def action_values(self, state: TabularState) -> jax.Array:
        """(Q_0 + Q_1) / 2, [S, A]."""
        first, second = jnp.split(state.q_values, 2)
        return (first + second) / 2

    def _row(self, state: TabularState, obs: jax.Array) -> jax.Array:
        num_states = len(state.q_values) // 2
        return (state.q_values[obs] + state.q_values[num_states + obs]) / 2

    def draw(self, state: TabularState, shape: tuple[int, ...], key: jax.Array) -> Any:
        """The random words of decisions, and the coin."""
        key_rule, key_coin = jax.random.split(key)
        coin = random.uniform(key_coin, shape) < 0.5
        return super().draw(state, shape, key_rule), coin

    def decide(
        self, state: TabularState, obs: jax.Array, noise: Any
    ) -> tuple[jax.Array, Any]:
        """`act` with noise drawn before; extras hold the coin."""
        noise, coin = noise
        action, _ = super().decide(state, obs, noise)
        return action, {"coin": coin}

    def _learn_one(
        self, state: TabularState, transition: Transition, memory: Any
    ) -> tuple[TabularState, Any, jax.Array]:
        num_states = len(state.q_values) // 2
        learner = transition.extras["coin"].astype(jnp.int32)
        choosing = state.q_values[learner * num_states + transition.next_obs]
        judging = state.q_values[(1 - learner) * num_states + transition.next_obs]
        next_value = tabular.taken(judging, exploration.greedy(choosing))
        index = learner * num_states + transition.obs
        values, td_error = tabular.td_update(
            state.q_values[index],
            transition.action,
            tabular.target(self, transition, next_value),
            self._step_size(state, transition.obs),
        )
        q_values = state.q_values.at[index].set(values)
        return state._replace(q_values=q_values), memory, td_error


def _update(agent, state, transition, next_value, memory):
    values, td_error = tabular.td_update(
        tabular.row(state.q_values, transition.obs),
        transition.action,
        tabular.target(agent, transition, next_value),
        agent._step_size(state, transition.obs),
    )
    q_values = tabular.set_row(state.q_values, transition.obs, values)
    return state._replace(q_values=q_values), memory, td_error
