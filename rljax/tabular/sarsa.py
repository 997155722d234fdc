"""Sarsa: on-policy control with the action that is really taken next."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rljax import checks, struct
from rljax.tabular.agent import (
    TabularAgent,
    TabularState,
    one_step_return,
    row,
    set_row,
    taken,
    td_update,
)
from rljax.types import Transition


class PendingStep(NamedTuple):
    """The previous step, which is learned from once the next action is known."""

    waits: jax.Array
    """[] bool: whether there is one; False at the start of an episode."""
    obs: jax.Array
    """[] int32."""
    action: jax.Array
    """[] int32."""
    reward: jax.Array
    """[] floating."""
    visit: Any
    """[] int32 N(s,a) at that step if α = 1/N(s,a), else ()."""
    traces: Any
    """[S, A] floating eligibility traces, or () without λ."""


@struct.dataclass
class Sarsa(TabularAgent):
    """On-policy control: the values learned are those of the behaviour policy.

        Q(s,a) ← Q(s,a) + α [r + γ (1 − terminated) Q(s',a') − Q(s,a)]

    where a' is the action taken in s'. A step is therefore learned from one step late,
    when a' is known, and a schedule gives α at that time. The last step of a truncated
    episode has no a': its target has Σ_a' π(a'|s') Q(s',a') in the place of Q(s',a'),
    π being the behaviour policy. With `lambda_` = λ, all entries learn from the TD
    error δ, each in proportion to its accumulating trace,

        E ← γλ E,   E(s,a) ← E(s,a) + 1,   Q ← Q + α δ E

    and E is reset to 0 after each episode. A step then costs S·A operations.

    Source: Rummery and Niranjan (1994); Sutton and Barto (2018), §6.4 and §12.7.
    """

    lambda_: float | None = None
    """λ in [0, 1] of the traces; None: one-step targets without traces."""

    def __post_init__(self):
        super().__post_init__()
        checks.reals(self, "lambda_", minimum=0.0, maximum=1.0, optional=True)
        if self.lambda_ is not None and self.step_size is None:
            raise ValueError(
                "Sarsa.step_size must be a number or a schedule with lambda_, got "
                "None: 1/N(s,a) of one pair would move every pair that has a trace."
            )

    def _init_pending(self, shape: tuple[int, int]) -> PendingStep:
        floating = jnp.result_type(float)
        pending = PendingStep(
            waits=jnp.zeros((), bool),
            obs=jnp.zeros((), jnp.int32),
            action=jnp.zeros((), jnp.int32),
            reward=jnp.zeros((), floating),
            visit=() if self.step_size is not None else jnp.ones((), jnp.int32),
            traces=() if self.lambda_ is None else jnp.zeros(shape, floating),
        )
        return jax.tree.map(lambda x: jnp.stack([x] * self.num_envs), pending)

    def _learn_one(
        self, state: TabularState, transition: Transition, pending: PendingStep
    ) -> tuple[TabularState, PendingStep, jax.Array]:
        visit = ()
        if self.step_size is None:
            counts = row(state.counts, transition.obs)
            visit = taken(counts, transition.action)
        learn = self._learn_one_step if self.lambda_ is None else self._learn_by_traces
        q_values, traces, td_error = learn(state, transition, pending, visit)
        done = transition.terminated | transition.truncated
        pending = PendingStep(
            waits=~done,
            obs=transition.obs,
            action=transition.action,
            reward=transition.reward.astype(pending.reward.dtype),
            visit=visit,
            traces=traces,
        )
        return state._replace(q_values=q_values), pending, td_error

    # Both functions return (table, traces, TD error). They learn from the previous step
    # first. Its a' is this transition's action, which was chosen before this outcome
    # was known, and by values that neither step had changed yet.

    def _learn_one_step(self, state, transition, pending, visit):
        """Learns from the previous step, if it waits, and this one, if it is done."""
        table, before = state.q_values, pending.obs
        obs, next_obs = transition.obs, transition.next_obs
        done = transition.terminated | transition.truncated
        # All rows are read before any is written, so that XLA need not copy the table.
        row_before, row_now, row_next = (
            row(table, index) for index in (before, obs, next_obs)
        )
        next_value = taken(row_now, transition.action)
        row_before, error_before = td_update(
            row_before,
            pending.action,
            pending.reward + self.discount * next_value,
            jnp.where(pending.waits, self._step_size_at(state, pending.visit), 0),
        )
        row_now = jnp.where(obs == before, row_before, row_now)
        row_next = jnp.where(next_obs == before, row_before, row_next)
        counts = self._counts(state, next_obs)
        policy = self.exploration.probabilities(row_next, counts, state.num_steps)
        row_now, error_now = td_update(
            row_now,
            transition.action,
            one_step_return(transition, self.discount, jnp.sum(policy * row_next)),
            jnp.where(done, self._step_size_at(state, visit), 0),
        )
        table = set_row(table, before, row_before)
        table = set_row(table, obs, row_now)
        error_before = jnp.where(pending.waits, error_before, 0)
        return table, (), jnp.where(done, error_now, error_before)

    def _learn_by_traces(self, state, transition, pending, visit):
        """The same for all entries of the table, in proportion to their traces."""
        del visit
        decay = self.discount * jnp.asarray(self.lambda_)
        table, traces = state.q_values, pending.traces
        step_size = self._step_size(state, transition.obs)
        done = transition.terminated | transition.truncated

        def back_up(table, traces, obs, action, target, is_due):
            visited = traces * decay
            traces = jnp.where(is_due, visited.at[obs, action].add(1), traces)
            td_error = jnp.where(is_due, target - table[obs, action], 0)
            return table + step_size * td_error * traces, traces, td_error

        next_value = table[transition.obs, transition.action]
        target = pending.reward + self.discount * next_value
        table, traces, error_before = back_up(
            table, traces, pending.obs, pending.action, target, pending.waits
        )
        state = state._replace(q_values=table)
        policy = self._policy(self.exploration, state, transition.next_obs)
        expected = jnp.sum(policy * table[transition.next_obs])
        target = one_step_return(transition, self.discount, expected)
        table, traces, error_now = back_up(
            table, traces, transition.obs, transition.action, target, done
        )
        traces = jnp.where(done, 0, traces)
        return table, traces, jnp.where(done, error_now, error_before)

    def _step_size_at(self, state, visit):
        """α; if it is 1/N, with N as it was at the visit, since it may have risen."""
        if self.step_size is None:
            return 1 / visit.astype(state.q_values.dtype)
        return self._step_size(state, visit)
