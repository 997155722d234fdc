"""Q-learning, and its relatives whose target needs only the successor state."""

from typing import Any

import jax
import jax.numpy as jnp

from rljax import random, struct
from rljax.distributions import greedy
from rljax.tabular.agent import (
    TabularAgent,
    TabularState,
    one_step_return,
    row,
    set_row,
    taken,
    td_update,
)
from rljax.tabular.exploration import Exploration
from rljax.types import Transition


@struct.dataclass
class QLearning(TabularAgent):
    """Off-policy control: the target is greedy, whatever the behaviour.

        Q(s,a) ← Q(s,a) + α [r + γ (1 − terminated) max_a' Q(s',a') − Q(s,a)]

    Source: Watkins and Dayan (1992); Sutton and Barto (2018), §6.5.
    """

    def _learn_one(
        self, state: TabularState, transition: Transition, pending: Any
    ) -> tuple[TabularState, Any, jax.Array]:
        next_value = jnp.max(row(state.q_values, transition.next_obs))
        return _update(self, state, transition, next_value, pending)


@struct.dataclass
class ExpectedSarsa(TabularAgent):
    """The target is the expected next value under a policy π.

        Q(s,a) ← Q(s,a) + α [r + γ (1 − terminated) Σ_a' π(a'|s') Q(s',a') − Q(s,a)]

    where π is that of the exploration rule or of another rule, `target`. With
    `target=EpsilonGreedy(0.0)` this is Q-learning.

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

    @property
    def rules(self) -> tuple[Exploration, ...]:
        """The rule that explores, and that of the target if it is another."""
        return super().rules + (() if self.target is None else (self.target,))

    def _learn_one(
        self, state: TabularState, transition: Transition, pending: Any
    ) -> tuple[TabularState, Any, jax.Array]:
        policy = self._policy(self.rules[-1], state, transition.next_obs)
        next_values = row(state.q_values, transition.next_obs)
        next_value = jnp.sum(policy * next_values)
        return _update(self, state, transition, next_value, pending)


@struct.dataclass
class DoubleQLearning(TabularAgent):
    """Two tables: one chooses the target's action, the other says what it is worth.

    A fair coin picks the table i that learns, j being the other:

        y = r + γ (1 − terminated) Q_j(s', argmax_a' Q_i(s',a'))
        Q_i(s,a) ← Q_i(s,a) + α [y − Q_i(s,a)]

    This removes the upward bias of a maximum over noisy estimates. Actions are chosen
    by the mean of the two tables, which `action_values` returns. The state's `q_values`
    holds the two tables one below the other, [2 S, A].

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
        """The rule's random numbers, and coins: True where Q_1 learns, else Q_0."""
        key_rule, key_coin = jax.random.split(key)
        coin = random.uniform(key_coin, shape) < 0.5
        return super().draw(state, shape, key_rule), coin

    def decide(
        self, state: TabularState, obs: jax.Array, noise: Any, memory: Any = ()
    ) -> tuple[jax.Array, Any, Any]:
        """The action that the exploration rule selects; extras hold the coin."""
        noise, coin = noise
        action, _, memory = super().decide(state, obs, noise, memory)
        return action, {"coin": coin}, memory

    def _learn_one(
        self, state: TabularState, transition: Transition, pending: Any
    ) -> tuple[TabularState, Any, jax.Array]:
        num_states = len(state.q_values) // 2
        learner = transition.extras["coin"].astype(jnp.int32)
        choosing = state.q_values[learner * num_states + transition.next_obs]
        judging = state.q_values[(1 - learner) * num_states + transition.next_obs]
        next_value = taken(judging, greedy(choosing))
        index = learner * num_states + transition.obs
        values, td_error = td_update(
            state.q_values[index],
            transition.action,
            one_step_return(transition, self.discount, next_value),
            self._step_size(state, transition.obs),
        )
        q_values = state.q_values.at[index].set(values)
        return state._replace(q_values=q_values), pending, td_error


def _update(agent, state, transition, next_value, pending):
    values, td_error = td_update(
        row(state.q_values, transition.obs),
        transition.action,
        one_step_return(transition, agent.discount, next_value),
        agent._step_size(state, transition.obs),
    )
    q_values = set_row(state.q_values, transition.obs, values)
    return state._replace(q_values=q_values), pending, td_error
