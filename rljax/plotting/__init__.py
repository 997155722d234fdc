"""Pictures of what was learned, one line each. Needs the extra `plot`.

`learning_curve`, `sweep_scores`, `sensitivity`, `gridworld`, `exact_regret` and
`bandit_regret` draw into the Matplotlib axes `ax`, or into a figure of their own. They
return the figure, which shows itself as the last line of a notebook's cell; none of
them shows or keeps anything. The functions `save_…` write the commands' pictures.
`animate` makes a movie of an episode.

rljax.plotting.learning_curve({"ppo": ppo_metrics, "reinforce": other_metrics})
"""

from rljax.plotting.alignment import Alignment, save_alignment
from rljax.plotting.bandits import bandit_regret, save_bandit_curves
from rljax.plotting.curves import learning_curve, save_learning_curve
from rljax.plotting.grids import gridworld, save_gridworld
from rljax.plotting.movies import Movie, animate
from rljax.plotting.regrets import exact_regret
from rljax.plotting.sensitivities import sensitivity
from rljax.plotting.sweeps import save_sweep, sweep_scores

__all__ = [
    "Alignment",
    "Movie",
    "animate",
    "bandit_regret",
    "exact_regret",
    "gridworld",
    "learning_curve",
    "save_alignment",
    "save_bandit_curves",
    "save_gridworld",
    "save_learning_curve",
    "save_sweep",
    "sensitivity",
    "sweep_scores",
]
