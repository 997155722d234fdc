"""Dyna: a table that learns from steps taken, and from steps that a model recalls."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from rljax import checks, random, struct
from rljax.tabular.agent import TabularState, is_taken, row, set_row, taken
from rljax.tabular.exploration.rules import nth
from rljax.tabular.q_learning import QLearning
from rljax.types import Transition


class Model(NamedTuple):
    """What was last seen of each pair of a state and an action."""

    next_obs: jax.Array
    """[S, A] int32; of a pair that was never taken, the state itself."""
    reward: jax.Array
    """[S, A] floating; of a pair that was never taken, 0."""
    terminated: jax.Array
    """[S, A] bool."""
    last_taken: jax.Array
    """[S, A] int32: the number of the step that last took the pair, from 1; 0: none."""
    visited: jax.Array
    """[S] int32: the states in which an action was taken, in the order of their first
    visits, and then 0."""
    num_visited: jax.Array
    """[] int32: how many these are."""


@struct.dataclass
class DynaQ(QLearning):
    """Q-learning from each step, and then from n steps that a model recalls.

    After step t, which led from (s,a) to r and s', Q-learning's update is followed by

        M(s,a) ← (r, s', terminated),   T(s,a) ← t

    and n times, for a random state s among those seen so far and a random action a
    among those taken there, by

        (r, s', terminated) ← M(s,a)
        y = r + κ √(t − T(s,a)) + γ (1 − terminated) max_a' Q(s',a')
        Q(s,a) ← Q(s,a) + α [y − Q(s,a)]

    The model is that of a deterministic environment, as it holds the last outcome of a
    pair alone. A step that was truncated is not terminated in it either.

    With κ = 0 this is Dyna-Q. With κ > 0 it is Dyna-Q+, which is drawn to what it has
    not tried for long. There a is any action, and for one that was never taken in s the
    model says that it leads back to s with reward 0; T(s,a) is 0. Several environments
    share the model, and t counts the steps of all of them.

    Source: Sutton (1990), "Integrated Architectures for Learning, Planning, and
    Reacting"; Sutton and Barto (2018), §8.2 and §8.3.
    """

    num_planning_steps: int = struct.static(default=5)
    """n, updates from the model after each step; 0: Q-learning."""
    bonus: float = 0.0
    """κ, 0 or more, in units of reward."""

    def __post_init__(self):
        super().__post_init__()
        checks.ints(self, "num_planning_steps", minimum=0)
        checks.reals(self, "bonus", minimum=0.0)
        if self.step_size is None:
            raise ValueError(
                "DynaQ.step_size must be a number or a schedule, got None: N(s,a) does "
                "not count what the model recalls, so 1/N would not make Q a mean."
            )

    def _init_model(self, shape: tuple[int, int]) -> Model:
        states = jnp.arange(shape[0], dtype=jnp.int32)
        return Model(
            next_obs=jnp.broadcast_to(states[:, None], shape),
            reward=jnp.zeros(shape, jnp.result_type(float)),
            terminated=jnp.zeros(shape, bool),
            last_taken=jnp.zeros(shape, jnp.int32),
            visited=jnp.zeros_like(states),
            num_visited=jnp.zeros((), jnp.int32),
        )

    def draw(self, state: TabularState, shape: tuple[int, ...], key: jax.Array) -> Any:
        """The rule's random numbers, and two of each planning step, [*shape, n, 2]."""
        key_rule, key_plan = jax.random.split(key)
        words = random.uniform(key_plan, (*shape, self.num_planning_steps, 2))
        return super().draw(state, shape, key_rule), words

    def decide(
        self, state: TabularState, obs: jax.Array, noise: Any, memory: Any = ()
    ) -> tuple[jax.Array, Any, Any]:
        """The action that the rule selects; extras hold the words of planning."""
        noise, words = noise
        action, _, memory = super().decide(state, obs, noise, memory)
        return action, {"planning": words}, memory

    def _learn_one(
        self, state: TabularState, transition: Transition, pending: Any
    ) -> tuple[TabularState, Any, jax.Array]:
        state, pending, td_error = super()._learn_one(state, transition, pending)
        now = jnp.asarray(optax.safe_increment(state.num_steps))
        model = _remember(state.model, transition, now)

        def plan(q_values, words):
            recalled = self._recall(model, now, words)
            planned = state._replace(q_values=q_values)
            planned, _, _ = super(DynaQ, self)._learn_one(planned, recalled, pending)
            return planned.q_values, None

        words = transition.extras["planning"]
        q_values, _ = jax.lax.scan(plan, state.q_values, words)
        return state._replace(q_values=q_values, model=model), pending, td_error

    def _recall(self, model: Model, now: jax.Array, words: jax.Array) -> Transition:
        """A step that the model recalls, with its bonus; words [2] choose which."""
        obs = row(model.visited, nth(words[0], model.num_visited))
        last_taken = row(model.last_taken, obs)
        allowed = (last_taken > 0) | (jnp.asarray(self.bonus) > 0)
        number = jnp.cumsum(allowed, dtype=jnp.int32)
        rank = nth(words[1], number[-1])
        action = jnp.sum(number <= rank, dtype=jnp.int32)
        waited = (now - taken(last_taken, action)).astype(model.reward.dtype)
        reward = taken(row(model.reward, obs), action) + self.bonus * jnp.sqrt(waited)
        is_action = is_taken(last_taken, action)
        terminated = jnp.any(is_action & row(model.terminated, obs))
        return Transition(
            obs=obs,
            action=action,
            reward=reward,
            terminated=terminated,
            truncated=jnp.zeros_like(terminated),
            next_obs=taken(row(model.next_obs, obs), action),
            extras=(),
        )


def _remember(model: Model, transition: Transition, now: jax.Array) -> Model:
    """The model after step number `now`."""
    obs = transition.obs
    last_taken = row(model.last_taken, obs)
    is_action = is_taken(last_taken, transition.action)
    is_new = jnp.all(last_taken == 0)
    # Of a state that is not new nothing is written: the index is out of bounds.
    place = jnp.where(is_new, model.num_visited, len(model.visited))

    def put(table, value):
        value = jnp.asarray(value, table.dtype)
        return set_row(table, obs, jnp.where(is_action, value, row(table, obs)))

    return Model(
        next_obs=put(model.next_obs, transition.next_obs),
        reward=put(model.reward, transition.reward),
        terminated=put(model.terminated, transition.terminated),
        last_taken=put(model.last_taken, now),
        visited=model.visited.at[place].set(obs, mode="drop"),
        num_visited=model.num_visited + is_new.astype(jnp.int32),
    )
