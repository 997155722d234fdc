"""The gradient bandit: preferences for actions instead of their values."""

from typing import Any

import jax
import jax.numpy as jnp

from rljax import checks, struct
from rljax.tabular import exploration
from rljax.tabular.agent import (
    TabularAgent,
    TabularState,
    one_step_return,
    row,
    set_row,
)
from rljax.tabular.exploration import Exploration, Softmax
from rljax.types import Transition


@struct.dataclass
class GradientBandit(TabularAgent):
    """Stochastic gradient ascent in the preferences H of a softmax policy.

        H(s,b) ← H(s,b) + α (y − V(s)) (1[b = a] − π(b|s)),   π = softmax(H/τ)
        V(s)   ← V(s) + β (y − V(s)),   y = r + γ (1 − terminated) V(s')

    With a single state and a discount of 0 this is the gradient bandit with the mean
    reward as its baseline; with several states it is a tabular actor-critic. The
    state's `q_values` holds H, and its `baseline` holds V. At the first visit to s, y
    itself is taken for V(s), so that H does not change. With β = 0 there is no
    baseline: V stays 0, at the first visit too, and H follows the rewards as they are.

    Source: Sutton and Barto (2018), §2.8 and §13.5; Williams (1992).
    """

    exploration: Exploration = Softmax(1.0)
    """π. A temperature τ acts like τ = 1 with preferences H/τ and step size α/τ."""
    baseline_step_size: float | None = None
    """β in [0, 1]; None: 1/N(s), so that V(s) is the mean of y; 0: no baseline."""

    def __post_init__(self):
        super().__post_init__()
        checks.reals(
            self, "baseline_step_size", minimum=0.0, maximum=1.0, optional=True
        )
        if not isinstance(self.exploration, Softmax):
            raise TypeError(
                "GradientBandit.exploration must be exploration.Softmax, whose "
                f"gradient the rule follows, got {self.exploration!r}."
            )
        if self.step_size is None:
            raise TypeError(
                "GradientBandit.step_size must be a number or a schedule, got None: "
                "preferences are no means. baseline_step_size=None is the mean reward."
            )

    def _needs_counts(self) -> bool:
        return True

    def _init_baseline(self, num_states: int) -> jax.Array:
        return jnp.zeros(num_states, jnp.result_type(float))

    def _learn_one(
        self, state: TabularState, transition: Transition, pending: Any
    ) -> tuple[TabularState, Any, jax.Array]:
        obs, action = transition.obs, transition.action
        next_value = row(state.baseline, transition.next_obs)
        target = one_step_return(transition, self.discount, next_value)
        visits = jnp.sum(row(state.counts, obs), dtype=state.baseline.dtype)
        value = row(state.baseline, obs)
        step_size = self.baseline_step_size
        starts = visits == 1
        if step_size is not None:
            starts &= jnp.asarray(step_size) > 0
        value = jnp.where(starts, target, value)
        td_error = target - value
        preferences = exploration.gradient_bandit_update(
            row(state.q_values, obs),
            action,
            target,
            value,
            self._step_size(state, obs),
            self._policy(self.exploration, state, obs),
        )
        step_size = 1 / visits if step_size is None else step_size
        value = value + step_size * td_error
        state = state._replace(
            q_values=set_row(state.q_values, obs, preferences),
            baseline=set_row(state.baseline, obs, value),
        )
        return state, pending, td_error
