"""Prediction: the state values of whatever policy made the experience.

Every function takes a table of values [S] and one trajectory, a `Transition` with
leaves [T] such as `rollout.unroll` returns; callers vmap over batches. `obs` and
`next_obs` are the numbers of states. As in `rljax.returns`, a trajectory may hold
several episodes, the value of s_{t+1} is 0 where step t terminated, and where it was
truncated, or is the trajectory's last, V(s_{t+1}) stands for the rewards not seen.

    learned = prediction.td_lambda(
        jnp.zeros(num_states), trajectory, step_size=0.1, discount=1.0, lambda_=0.8
    )
    learned.values  # [S]

`td_lambda` and `n_step_td` learn while an episode goes on, `offline_lambda` at its end,
`monte_carlo` and `batch_td` from all steps at once. TD(0) is `td_lambda` with λ = 0,
Monte Carlo with a constant step size is `offline_lambda` with λ = 1. Values and rewards
of half precision are computed with in float32, and so are the results.
"""

from rljax.tabular.prediction.batch import SampleMeans, batch_td, monte_carlo
from rljax.tabular.prediction.stepwise import (
    Learned,
    n_step_td,
    offline_lambda,
    td_lambda,
)

__all__ = [
    "Learned",
    "SampleMeans",
    "batch_td",
    "monte_carlo",
    "n_step_td",
    "offline_lambda",
    "td_lambda",
]
