"""What the tabular agents share: a table of values, and learning after every step."""

import abc
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from rljax import checks, distributions, rollout, spaces, struct
from rljax.tabular.exploration import (
    EpsilonGreedy,
    Exploration,
    are_unit_means,
    assumes_unit_means,
)
from rljax.types import Agent, EnvLike, RolloutPlan, Transition


class TabularState(NamedTuple):
    """Everything that a tabular agent learns or counts."""

    q_values: jax.Array
    """[S, A] floating."""
    counts: Any
    """[S, A] int32 N(s,a), how often a was taken in s; () where nothing needs it. It
    stops at (2³¹ − 1)/A, so that Σ_a N(s,a) is an int32 too."""
    baseline: Any
    """[S] floating V(s) of `GradientBandit`; () for other agents."""
    num_steps: jax.Array
    """[] int32: steps learned from so far, 2³¹ − 1 at most. Schedules are evaluated at
    this step."""
    pending: Any
    """`Sarsa`: the last step of each environment, leaves [num_envs, …]; else ()."""
    model: Any
    """`DynaQ`: what was last seen of each pair, a `dyna.Model`; else ()."""


@struct.dataclass
class TabularAgent(Agent):
    """A table of action values, an exploration rule, and one update after each step.

        N(s,a) ← N(s,a) + 1
        Q(s,a) ← Q(s,a) + α_t (target − Q(s,a))

    This class is abstract; its subclasses differ in the target. The table is updated
    after every step, so that each action is chosen with all that was learned before it.
    Several environments that step side by side share one table, which learns from
    their transitions one after the other. To train many tables, vmap over keys.
    """

    step_size: float | Any | None = struct.scheduled(default=0.1)
    """α in [0, 1], or a schedule of it over steps; None: α = 1/N(s,a), with which Q is
    the mean of the targets."""
    discount: float = 0.99
    """γ in [0, 1]."""
    exploration: Exploration = EpsilonGreedy(0.1)
    """How actions are chosen in training, from `rljax.exploration`."""
    initial_value: float = 0.0
    """Q(s,a) before training. Above all true values it makes a greedy agent explore."""
    num_envs: int = struct.static(default=1)
    """Environments stepped side by side."""
    rollout_length: int = struct.static(default=1000)
    """Steps of each environment in one training update, one entry of the metrics."""

    def __post_init__(self):
        checks.ints(self, "num_envs", "rollout_length", minimum=1)
        checks.reals(
            self, "step_size", minimum=0.0, maximum=1.0, optional=True, schedule=True
        )
        checks.reals(self, "discount", minimum=0.0, maximum=1.0)
        checks.reals(self, "initial_value")
        rule = self.exploration
        if isinstance(rule, type) or not isinstance(rule, Exploration):
            raise TypeError(
                f"{type(self).__name__}.exploration must be a rule such as "
                f"rljax.exploration.EpsilonGreedy(0.1), got {rule!r}."
            )

    @property
    def rollout_plan(self) -> RolloutPlan:
        """The plan of an agent that is updated after every step."""
        return RolloutPlan(self.num_envs, self.rollout_length, update_every=1)

    def init(self, key: jax.Array, env: EnvLike) -> TabularState:
        """A table filled with `initial_value`; `key` is not needed.

        Raises:
          TypeError: observations or actions are not discrete.
        """
        del key
        checks.scalars(self)
        who = type(self).__name__
        num_actions = spaces.num_actions(env.action_space, who)
        if not isinstance(env.observation_space, spaces.Discrete):
            raise TypeError(
                f"{who} keeps a table over finitely many states, but "
                f"env.observation_space is {env.observation_space}. Use an agent with "
                "a network, such as PPO, or discretise the observation in a wrapper."
            )
        shape = (env.observation_space.n, num_actions)
        counts = jnp.zeros(shape, jnp.int32) if self._needs_counts() else ()
        return TabularState(
            q_values=self._init_table(shape),
            counts=counts,
            baseline=self._init_baseline(shape[0]),
            num_steps=jnp.zeros((), jnp.int32),
            pending=self._init_pending(shape),
            model=self._init_model(shape),
        )

    @property
    def rules(self) -> tuple[Exploration, ...]:
        """The rules whose probabilities or decisions the agent asks for."""
        return (self.exploration,)

    def _init_table(self, shape: tuple[int, int]) -> jax.Array:
        return jnp.full(shape, self.initial_value, jnp.result_type(float))

    def _init_baseline(self, num_states: int) -> Any:
        del num_states
        return ()

    def _init_pending(self, shape: tuple[int, int]) -> Any:
        del shape
        return ()

    def _init_model(self, shape: tuple[int, int]) -> Any:
        del shape
        return ()

    def learned(self, state: TabularState) -> TabularState:
        """The state's `q_values` alone, with () for everything else."""
        return TabularState(state.q_values, (), (), (), (), ())  # pyright: ignore[reportArgumentType]

    def action_values(self, state: TabularState) -> jax.Array:
        """Q, [S, A], the values by which actions are chosen."""
        return state.q_values

    def _row(self, state: TabularState, obs: jax.Array) -> jax.Array:
        """`action_values(state)[obs]`, [A]."""
        return row(state.q_values, obs)

    def draw(self, state: TabularState, shape: tuple[int, ...], key: jax.Array) -> Any:
        """The random numbers that the exploration rule needs, leaves [*shape, …]."""
        num_actions = state.q_values.shape[-1]
        return self.exploration.draw(num_actions, shape, key)

    def decide(
        self, state: TabularState, obs: jax.Array, noise: Any, memory: Any = ()
    ) -> tuple[jax.Array, Any, Any]:
        """The action that the exploration rule selects; no extras, same memory."""
        counts = self._counts(state, obs)
        values = self._row(state, obs)
        action = self.exploration.select(values, counts, state.num_steps, noise)
        return action, (), memory

    def greedy(self, state: TabularState, obs: jax.Array) -> jax.Array:
        """argmax_a Q(obs, a), ties to the lowest action."""
        return distributions.greedy(self._row(state, obs))

    def greedy_policy(self, state: TabularState) -> jax.Array:
        """argmax_a Q(s,a), [S] int32, ties to the lowest action."""
        return distributions.greedy(self.action_values(state))

    def behaviour_policy(self, state: TabularState) -> jax.Array:
        """π(a|s) of the exploration rule at the present table and step, [S, A]."""
        step = state.num_steps
        rule = self.exploration
        tables = (self.action_values(state), state.counts)
        return jax.vmap(lambda q, counts: rule.probabilities(q, counts, step))(*tables)

    def update(
        self, state: TabularState, trajectory: Transition, key: jax.Array
    ) -> tuple[TabularState, dict[str, jax.Array]]:
        """Learns from a trajectory [T, N] in the order of time; `key` is not needed.

        Transitions of the same time are learned from in the order of environments.
        """
        del key
        state, errors = learn_in_order(self._learn, state, trajectory)
        return state, {"abs_td_error": jnp.mean(errors)}

    def _learn(self, state, step):
        """Counts a transition's action and learns from it; also returns |TD error|."""
        transition, pending = step
        if any(map(assumes_unit_means, self.rules)):
            obs = transition.obs
            known = are_unit_means(self._row(state, obs), self._counts(state, obs))
            reward = jnp.where(known, transition.reward, jnp.nan)
            transition = transition._replace(reward=reward)
        if self._needs_counts():
            counts = row(state.counts, transition.obs)
            rises = is_taken(counts, transition.action)
            rises &= counts < checks.LARGEST_INT // len(counts)
            counts += rises.astype(counts.dtype)
            counts = set_row(state.counts, transition.obs, counts)
            state = state._replace(counts=counts)
        state, pending, td_error = self._learn_one(state, transition, pending)
        state = state._replace(num_steps=optax.safe_increment(state.num_steps))
        return state, (pending, jnp.abs(td_error))

    @abc.abstractmethod
    def _learn_one(
        self, state: TabularState, transition: Transition, pending: Any
    ) -> tuple[TabularState, Any, jax.Array]:
        """Learns from one transition []; `state.counts` already include its action."""

    def _needs_counts(self) -> bool:
        return self.step_size is None or self.exploration.uses_counts

    def _counts(self, state: TabularState, obs: jax.Array) -> Any:
        return row(state.counts, obs) if self._needs_counts() else ()

    def _step_size(self, state: TabularState, obs: Any) -> Any:
        """α for Q(obs, ·), [A] or []."""
        if self.step_size is None:
            counts = jnp.maximum(row(state.counts, obs), 1)
            return 1 / counts.astype(state.q_values.dtype)
        step_size = struct.at_step(self.step_size, state.num_steps, 1.0)
        return jnp.asarray(step_size, state.q_values.dtype)

    def _policy(self, rule: Exploration, state: TabularState, obs: Any) -> jax.Array:
        """π(·|obs) of a rule, [A]."""
        counts = self._counts(state, obs)
        return rule.probabilities(self._row(state, obs), counts, state.num_steps)


def learn_in_order(
    learn: Callable[..., Any], state: Any, trajectory: Transition
) -> tuple[Any, jax.Array]:
    """Learns from a trajectory [T, N], one transition after the other.

    Args:
      learn: a function of the state and (transition, pending) that returns the state
        and (pending, |TD error|).
      state: with a field `pending`, leaves [N, …], that is () while it learns.
      trajectory: leaves [T, N, …].

    Returns:
      The state, and the errors, [T, N].
    """
    length, num_envs = trajectory.reward.shape

    def all_envs(state, transition):
        steps = (transition, state.pending)
        state = state._replace(pending=())
        state, (pending, errors) = rollout.loop(learn, state, steps, num_envs)
        return state._replace(pending=pending), errors

    return rollout.loop(all_envs, state, trajectory, length)


def row(table: jax.Array, state: jax.Array) -> jax.Array:
    """table[state]. A bandit's only row has a constant index, which vectorises."""
    return table[0] if len(table) == 1 else table[state]


def set_row(table: jax.Array, state: jax.Array, values: jax.Array) -> jax.Array:
    """The table with table[state] = values."""
    return values[None] if len(table) == 1 else table.at[state].set(values)


def one_step_return(
    transition: Transition, discount: Any, next_value: jax.Array
) -> jax.Array:
    """r + γ (1 − terminated) · next_value."""
    bootstrap = jnp.where(transition.terminated, 0, discount * next_value)
    return transition.reward + bootstrap


def td_update(
    values: jax.Array, action: jax.Array, target: jax.Array, step_size: Any
) -> tuple[jax.Array, jax.Array]:
    """Q(s,·) after Q(s,a) ← Q(s,a) + α (target − Q(s,a)), and the TD error.

    Args:
      values: [A] Q(s,·).
      action: [] int32 a.
      target: [] what Q(s,a) moves towards.
      step_size: α, [], or one for each action, [A].
    """
    # Q(s,a) is read by a masked sum instead of an index, and the change is computed
    # from the error. In this form XLA updates the table in place. In other forms it
    # copied the table in every step: 20 times slower for one seed on a CPU.
    td_error = target - taken(values, action)
    change = jnp.where(is_taken(values, action), step_size * td_error, 0)
    return values + change, td_error


def taken(values: jax.Array, action: jax.Array) -> jax.Array:
    """values[action], read by a masked sum as in `td_update`."""
    is_action = is_taken(values, action)
    return jnp.sum(jnp.where(is_action, values, 0), dtype=values.dtype)


def is_taken(values: jax.Array, action: jax.Array) -> jax.Array:
    """Which of the actions is this one, [A] bool."""
    return jnp.arange(len(values), dtype=action.dtype) == action
