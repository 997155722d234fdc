"""The gradient bandit: preferences for actions instead of their values."""

from typing import Any

import jax
import jax.numpy as jnp

from rljax import exploration, struct
from rljax.agents import tabular
from rljax.agents.tabular import TabularAgent, TabularState
from rljax.exploration import Exploration, Softmax
from rljax.types import Transition


@struct.dataclass
class GradientBandit(TabularAgent):
    """Stochastic gradient ascent on a softmax policy's preferences H.

        H(s,b) ← H(s,b) + α (y − V(s)) (1[b = a] − π(b|s)),   π = softmax(H/τ)
        V(s)   ← V(s) + β (y − V(s)),   y = r + γ (1 − terminated) V(s')

    With a single state and a discount of 0 that is the gradient bandit with the mean
    reward as its baseline; with several states it is a tabular actor-critic. `q_values`
    of its state are the preferences. The first y of a state is its own baseline.

    Source: Sutton and Barto (2018), §2.8 and §13.5; Williams (1992).
    """

    exploration: Exploration = Softmax(1.0)
    """π; another temperature τ scales preferences and step size alike."""
    baseline_step_size: float | None = None
    """β in [0, 1]; None: the mean, 1/N(s)."""

    def __post_init__(self):
        super().__post_init__()
        struct.check_reals(
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
        self, state: TabularState, transition: Transition, memory: Any
    ) -> tuple[TabularState, Any, jax.Array]:
        obs, action = transition.obs, transition.action
        next_value = tabular.row(state.baseline, transition.next_obs)
        target = tabular.target(self, transition, next_value)
        visits = jnp.sum(tabular.row(state.counts, obs))
        value = tabular.row(state.baseline, obs)
        value = jnp.where(visits == 1, target, value)
        td_error = target - value
        preferences = exploration.gradient_bandit_update(
            tabular.row(state.q_values, obs),
            action,
            target,
            value,
            self._step_size(state, obs),
            self._policy(self.exploration, state, obs),
        )
        step_size = self.baseline_step_size
        if step_size is None:
            step_size = 1 / visits.astype(state.baseline.dtype)
        value = value + step_size * td_error
        state = state._replace(
            q_values=tabular.set_row(state.q_values, obs, preferences),
            baseline=tabular.set_row(state.baseline, obs, value),
        )
        return state, memory, td_error
