"""Sarsa: on-policy control with the action that is really taken next."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rljax import struct
from rljax.agents import tabular
from rljax.agents.tabular import TabularAgent, TabularState
from rljax.types import Transition


class SarsaMemory(NamedTuple):
    """The step before, which waits for the action after it."""

    waits: jax.Array
    """[] bool: whether there is one."""
    obs: jax.Array
    """[] int32."""
    action: jax.Array
    """[] int32."""
    reward: jax.Array
    """[] floating."""
    visit: Any
    """[] int32 N(s,a) at that step, for α = 1/N(s,a); else ()."""
    traces: Any
    """[S, A] floating eligibility, or () without λ."""


@struct.dataclass
class Sarsa(TabularAgent):
    """On-policy control, learning about the behaviour itself.

        Q(s,a) ← Q(s,a) + α [r + γ (1 − terminated) Q(s',a') − Q(s,a)]

    with a' the action taken in s', so a step is learned from when the next action is
    known. A truncated episode has no next action: its target is the expected value
    under the behaviour policy. A schedule gives α of the time of the update, one step
    late. With `lambda_` = λ every entry learns from the TD error δ by its accumulating
    trace,

        E ← γλ E,   E(s,a) ← E(s,a) + 1,   Q ← Q + α δ E

    which is 0 again after each episode; the cost is then S·A a step.

    Source: Rummery and Niranjan (1994); Sutton and Barto (2018), §6.4 and §12.7.
    """

    lambda_: float | None = None
    """λ in [0, 1] of the traces; None: one-step targets without traces."""

    def __post_init__(self):
        super().__post_init__()
        struct.check_reals(self, "lambda_", minimum=0.0, maximum=1.0, optional=True)
        if self.lambda_ is not None and self.step_size is None:
            raise ValueError(
                "Sarsa.step_size must be a number or a schedule with lambda_, got "
                "None: 1/N(s,a) of one pair would move every pair that has a trace."
            )

    def _init_memory(self, shape: tuple[int, int]) -> SarsaMemory:
        floating = jnp.result_type(float)
        memory = SarsaMemory(
            waits=jnp.zeros((), bool),
            obs=jnp.zeros((), jnp.int32),
            action=jnp.zeros((), jnp.int32),
            reward=jnp.zeros((), floating),
            visit=() if self.step_size is not None else jnp.ones((), jnp.int32),
            traces=() if self.lambda_ is None else jnp.zeros(shape, floating),
        )
        return jax.tree.map(lambda x: jnp.stack([x] * self.num_envs), memory)

    def _learn_one(
        self, state: TabularState, transition: Transition, memory: SarsaMemory
    ) -> tuple[TabularState, SarsaMemory, jax.Array]:
        visit = ()
        if self.step_size is None:
            counts = tabular.row(state.counts, transition.obs)
            visit = tabular.taken(counts, transition.action)
        learn = self._learn_one_step if self.lambda_ is None else self._learn_by_traces
        q_values, traces, td_error = learn(state, transition, memory, visit)
        done = transition.terminated | transition.truncated
        memory = SarsaMemory(
            waits=~done,
            obs=transition.obs,
            action=transition.action,
            reward=transition.reward.astype(memory.reward.dtype),
            visit=visit,
            traces=traces,
        )
        return state._replace(q_values=q_values), memory, td_error

    # In both of these the step before goes first: its next action was chosen before
    # this one's outcome, and by the values before either is learned from.

    def _learn_one_step(self, state, transition, memory, visit):
        """The table after the step before, if it waits, and this one, if it is done."""
        table, before = state.q_values, memory.obs
        obs, next_obs = transition.obs, transition.next_obs
        done = transition.terminated | transition.truncated
        # All rows are read before any is written: XLA then copies no table.
        row_before, row_now, row_next = (
            tabular.row(table, index) for index in (before, obs, next_obs)
        )
        next_value = tabular.taken(row_now, transition.action)
        row_before, error_before = tabular.td_update(
            row_before,
            memory.action,
            memory.reward + self.discount * next_value,
            jnp.where(memory.waits, self._step_size_at(state, memory.visit), 0),
        )
        row_now = jnp.where(obs == before, row_before, row_now)
        row_next = jnp.where(next_obs == before, row_before, row_next)
        counts = self._counts(state, next_obs)
        policy = self.exploration.probabilities(row_next, counts, state.num_steps)
        row_now, error_now = tabular.td_update(
            row_now,
            transition.action,
            tabular.target(self, transition, jnp.sum(policy * row_next)),
            jnp.where(done, self._step_size_at(state, visit), 0),
        )
        table = tabular.set_row(table, before, row_before)
        table = tabular.set_row(table, obs, row_now)
        error_before = jnp.where(memory.waits, error_before, 0)
        return table, (), jnp.where(done, error_now, error_before)

    def _learn_by_traces(self, state, transition, memory, visit):
        """The same for the whole table by its traces, and the traces."""
        del visit
        decay = self.discount * jnp.asarray(self.lambda_)
        table, traces, step_size = state.q_values, memory.traces, self.step_size
        step_size = struct.at_step(step_size, state.num_steps)
        done = transition.terminated | transition.truncated

        def back_up(table, traces, obs, action, target, is_due):
            visited = traces * decay
            traces = jnp.where(is_due, visited.at[obs, action].add(1), traces)
            td_error = jnp.where(is_due, target - table[obs, action], 0)
            return table + step_size * td_error * traces, traces, td_error

        next_value = table[transition.obs, transition.action]
        target = memory.reward + self.discount * next_value
        table, traces, error_before = back_up(
            table, traces, memory.obs, memory.action, target, memory.waits
        )
        state = state._replace(q_values=table)
        policy = self._policy(self.exploration, state, transition.next_obs)
        expected = jnp.sum(policy * table[transition.next_obs])
        target = tabular.target(self, transition, expected)
        table, traces, error_now = back_up(
            table, traces, transition.obs, transition.action, target, done
        )
        traces = jnp.where(done, 0, traces)
        return table, traces, jnp.where(done, error_now, error_before)

    def _step_size_at(self, state, visit):
        """α, with 1/N at the time of the visit: N may have risen since."""
        if self.step_size is None:
            return 1 / visit.astype(state.q_values.dtype)
        return struct.at_step(self.step_size, state.num_steps)
