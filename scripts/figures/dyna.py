"""Chapter 8: planning with a learned model, in mazes that stay and that change."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import rljax
from figures import common, control
from rljax import parallel, planning

MAZE = (
    ".......#G",
    "..#....#.",
    "A.#....#.",
    "..#......",
    ".....#...",
    ".........",
)
SHORTEST = 14
"""Steps of its shortest way: no two episodes end in so many."""

_ABOVE, _BELOW = ("........G", ".........", "........."), (".........", "...A.....")
RIGHT = (*_ABOVE, "########.", *_BELOW)
LEFT = (*_ABOVE, ".########", *_BELOW)
BOTH = (*_ABOVE, ".#######.", *_BELOW)
"""Mazes whose wall has a gap to the right, to the left, and on both sides."""
SPAN = 20
"""Steps between two points of a curve of gathered rewards."""


def _model(layout: tuple[str, ...], **settings: float) -> rljax.MDP:
    """The model of a maze in which the goal alone is rewarded, with 1."""
    settings = {"step_reward": 0.0} | settings
    return rljax.GridWorld(layout, **settings).to_mdp(sparse=True)


def _counting(layout: tuple[str, ...]) -> rljax.MDP:
    """The model of a maze that takes 1 for each step."""
    return _model(layout, step_reward=-1.0, goal_reward=-1.0)


def _shortest(layout: tuple[str, ...]) -> float:
    """Steps of the shortest way, planned."""
    mdp = _counting(layout)
    plan = planning.policy_iteration(mdp, 1.0)
    return -float(planning.initial_value(mdp, plan.values))


# Figure 8.2: a maze that stays.


def _lengths(num_planning_steps: int, num_seeds: int, num_updates: int) -> np.ndarray:
    """Steps of the first 50 episodes, [N, 50]."""
    env = rljax.GridWorld(MAZE, step_reward=0.0)
    agent = rljax.DynaQ(
        num_planning_steps=num_planning_steps, discount=0.95, rollout_length=SHORTEST
    )

    def run(key):
        _, metrics = rljax.train(agent, env, key, num_updates=num_updates)
        return control.first_episodes(metrics, 50)[1]

    runs = parallel.map_seeds(run, batch_size=128)
    return control.on_host(runs(control.keys(num_seeds)))


def figure_8_2(*, quick: bool = False) -> common.Drawn:
    """Steps per episode in the maze with 0, 5 and 50 planning steps."""
    num_seeds = 120 if quick else 1000
    num_updates = {0: 1000, 5: 600, 50: 600}
    lengths = {n: _lengths(n, num_seeds, num_updates[n]) for n in num_updates}
    curves = [
        common.mean_curve(f"{n} planning steps", np.arange(2, 51), taken[:, 1:])
        for n, taken in lengths.items()
    ]
    panels = {"Dyna maze": curves}
    picture = common.plot(panels, "episode", "steps", xlim=(0, 51), ylim=(0, 800))
    return common.Drawn(panels, _statements_8_2(*lengths.values()), picture)


def _statements_8_2(
    none: np.ndarray, few: np.ndarray, many: np.ndarray
) -> list[common.Statement]:
    """Of the steps [N, 50] with 0, 5 and 50 planning steps."""
    mdp = _counting(MAZE)
    uniform = jnp.full((mdp.num_states, mdp.num_actions), 0.25)
    walk = planning.policy_evaluation(mdp, uniform, 1.0).values
    random_walk = -float(planning.initial_value(mdp, walk))
    return [
        common.equal("The shortest way has 14 steps", _shortest(MAZE), 14, 0.0),
        common.covers(
            f"The first episode is a random walk, of {random_walk:.1f} steps by the "
            "model",
            many[:, 0],
            random_walk,
        ),
        common.below(
            "50 planning steps: fewer than 20 steps in episodes 4 and 5",
            many[:, 3:5].mean(1),
            20,
        ),
        common.below(
            "5 planning steps: fewer than 20 steps in episodes 7 and 8",
            few[:, 6:8].mean(1),
            20,
        ),
        common.above(
            "Without planning: more than 30 steps in episodes 15 to 20",
            none[:, 14:20].mean(1),
            30,
        ),
        common.below(
            "Without planning: fewer than 20 steps in episodes 31 to 50",
            none[:, 30:].mean(1),
            20,
        ),
        common.above("50 beat 5 in episode 2", (few - many)[:, 1]),
        common.above("5 beat 0 in episode 2", (none - few)[:, 1]),
    ]


# Figures 8.4 and 8.5: mazes that change.


def _gathered(layouts: Sequence[tuple[str, ...]], num_seeds: int) -> list[np.ndarray]:
    """Rewards [N, T / SPAN] that Dyna-Q and Dyna-Q+ have gathered since the start.

    Each layout is the maze of 1000 steps; agents go on from one to the next as they
    stand, and who stands where a wall comes is sent to the start. As data, all models
    share one compiled program.
    """
    models = [rljax.FiniteMDP(_model(layout)) for layout in layouts]
    mazes: Any = jax.tree.map(lambda *x: jnp.stack(x), *models)

    def run(bonus, key):
        agent = rljax.DynaQ(
            num_planning_steps=10,
            bonus=bonus,
            step_size=1.0,
            discount=0.95,
            rollout_length=SPAN,
        )

        def train(state, maze):
            return rljax.train_steps(agent, maze, state, num_updates=1000 // SPAN)

        state = rljax.init_train(agent, jax.tree.map(lambda x: x[0], mazes), key)
        _, metrics = jax.lax.scan(train, state, mazes)
        return jnp.cumsum(metrics.episode_return_sum.ravel())

    runs, keys = parallel.map_seeds(run, batch_size=128), control.keys(num_seeds)
    return [control.on_host(runs(jnp.full(num_seeds, k), keys)) for k in (0.0, 1e-3)]


def _draw(plain: np.ndarray, plus: np.ndarray, title: str, change: int) -> Any:
    """The panel of both curves, and its picture with the change of the maze."""
    number = plain.shape[1]
    shown = np.arange(number // 150 - 1, number, number // 150)
    steps = (shown + 1) * SPAN
    curves = [
        common.mean_curve("Dyna-Q", steps, plain[:, shown]),
        common.mean_curve("Dyna-Q+", steps, plus[:, shown]),
    ]
    panels = {title: curves}
    picture = common.plot(panels, "steps", "rewards gathered", xlim=(0, number * SPAN))
    axes = picture.axes[0]
    axes.axvline(change, color="black", lw=0.8, ls=":", label="the maze changes")
    axes.legend(fontsize=8)
    return panels, picture


def figure_8_4(*, quick: bool = False) -> common.Drawn:
    """The blocking maze: after 1000 steps the gap moves from the right to the left.

    The book gives no settings: here 10 planning steps, α = 1, γ = 0.95, ε = 0.1, and
    κ = 0.001 for Dyna-Q+.
    """
    plain, plus = _gathered((RIGHT, LEFT, LEFT), 100 if quick else 1000)
    panels, picture = _draw(plain, plus, "blocking maze", 1000)
    before, after = 1000 // SPAN - 1, 1300 // SPAN - 1
    old, new = _shortest(RIGHT), _shortest(LEFT)
    statements = [
        common.equal(
            "The shortest ways have 10 and then 16 steps", [old, new], [10, 16], 0.0
        ),
        common.above(
            "Dyna-Q+ has gathered more after 1000 steps",
            (plus - plain)[:, before],
        ),
        common.above(
            "Dyna-Q gathers less in 300 steps after the change than in 300 before",
            2 * plain[:, before] - plain[:, before - 300 // SPAN] - plain[:, after],
        ),
        common.above(
            "Dyna-Q+ too",
            2 * plus[:, before] - plus[:, before - 300 // SPAN] - plus[:, after],
        ),
        common.above(
            "Dyna-Q+ gathers more in the 2000 steps after the change",
            (plus - plain)[:, -1] - (plus - plain)[:, before],
        ),
    ]
    return common.Drawn(panels, statements, picture)


def figure_8_5(*, quick: bool = False) -> common.Drawn:
    """The shortcut maze: after 3000 steps a second gap opens, on a shorter way.

    Settings as in figure 8.4. On the old way no 1000 steps can gather more than 1000
    over its length, so more than that means the shortcut.
    """
    mazes = (LEFT,) * 3 + (BOTH,) * 3
    plain, plus = _gathered(mazes, 200 if quick else 1000)
    panels, picture = _draw(plain, plus, "shortcut maze", 3000)
    old, new = _shortest(LEFT), _shortest(BOTH)
    late = -1000 // SPAN - 1
    most = 1000 / old
    statements = [
        common.equal(
            "The shortest ways have 16 and then 10 steps", [old, new], [16, 10], 0.0
        ),
        common.above(
            f"Dyna-Q+ finds the shortcut: it gathers more than {most:g} in steps 5001 "
            "to 6000",
            plus[:, -1] - plus[:, late],
            most,
        ),
        common.below(
            f"Dyna-Q does not: it gathers less than {most:g} there",
            plain[:, -1] - plain[:, late],
            most,
        ),
        common.below(
            "Dyna-Q uses the shortcut there in less than 10 % of runs",
            plain[:, -1] - plain[:, late] > most,
            0.1,
        ),
        common.above("Dyna-Q+ has gathered more at the end", (plus - plain)[:, -1]),
    ]
    return common.Drawn(panels, statements, picture)


FIGURES = [
    common.Figure("8.2", "Planning in the Dyna maze", figure_8_2),
    common.Figure("8.4", "The blocking maze", figure_8_4),
    common.Figure("8.5", "The shortcut maze", figure_8_5),
]
