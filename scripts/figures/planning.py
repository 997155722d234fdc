"""Planning in chapter 4: Jack's car rental by policies, the gambler's by values."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

import rljax
from figures import common
from rljax import planning
from rljax.plotting import figures

# Jack's car rental.

MOVED = (0, 1, -1, 2, -2, 3, -3, 4, -4, 5, -5)
"""Cars moved from the first place to the second; ties go to fewer."""


def _day(requests: float, returns: float) -> tuple[np.ndarray, np.ndarray]:
    """Of one place: P(cars in the evening | in the morning) [26, 21], and rentals [26].

    In the morning there may be up to 25, when five were brought; those beyond 20 leave
    in the evening. Cars that come back can be rented the next day.
    """
    morning, number = np.arange(26)[:, None], np.arange(60)
    asked, back = (stats.poisson.pmf(number, mean) for mean in (requests, returns))
    rented = np.minimum(morning, number)
    evening = np.minimum((morning - rented)[..., None] + number, 20)
    ends = evening[..., None] == np.arange(21)
    return np.einsum("nkje,k,j->ne", ends, asked, back), rented @ asked


def _car_rental() -> tuple[rljax.MDP, np.ndarray]:
    """Example 4.2, and the cars that each action moves, [441, 11].

    An action that would move more cars than there are moves them all.
    """
    first, second = (cars.reshape(-1, 1) for cars in np.indices((21, 21)))
    moved = np.clip(MOVED, -second, first)
    (chances, rented), (chances_2, rented_2) = _day(3, 3), _day(4, 2)
    first, second = first - moved, second + moved
    joint = chances[first][..., None] * chances_2[second][..., None, :]
    rewards = 10 * (rented[first] + rented_2[second]) - 2 * np.abs(moved)
    never, start = np.zeros(441, bool), np.full(441, 1 / 441)
    arrays: Any = (joint.reshape(441, 11, 441), rewards, never, start)
    return rljax.MDP(*arrays), moved


def figure_4_2(*, quick: bool = False) -> common.Drawn:
    """Jack's car rental: policy iteration from no moves at all."""
    del quick
    mdp, moved = _car_rental()
    states = np.arange(441)
    actions: Any = np.zeros(441, np.int32)
    policies, values = [], []
    while not policies or (moved[states, actions] != policies[-1]).any():
        policies.append(moved[states, actions])
        plan = planning.policy_evaluation(mdp, actions, 0.9)
        values.append(np.asarray(plan.values))
        actions = np.asarray(plan.policy)
    chain = np.asarray(mdp.transitions, float)[states, actions]
    rewards = np.asarray(mdp.rewards, float)[states, actions]
    solved = np.linalg.solve(np.eye(441) - 0.9 * chain, rewards)
    swept = planning.value_iteration(mdp, 0.9)
    changes = np.diff(values, axis=0)
    statements = [
        common.equal("π₄ is stable: four improvements", len(policies) - 1, 4, 0),
        common.equal(
            "value iteration finds the same policy",
            moved[states, np.asarray(swept.policy)],
            policies[-1],
            0,
        ),
        common.equal(
            "no state loses by an improvement", np.minimum(changes, 0), 0, 1e-3
        ),
        common.equal("π₄'s values are NumPy's, in float64", values[-1], solved, 5e-3),
    ]
    panels = {
        "cars moved": [common.grid(f"π{k}", x) for k, x in enumerate(policies)],
        "values": [common.grid(f"π{len(policies) - 1}", values[-1])],
    }
    return common.Drawn(panels, statements, _draw_rental(policies, values[-1]))


def _draw_rental(policies: list[np.ndarray], values: np.ndarray) -> Any:
    """Maps [21, 21] of the cars moved by each policy, and of the last one's values."""
    picture = figures.new(9.6, 6)
    *maps, last = picture.subplots(2, 3, sharex=True, sharey=True).ravel()
    for k, (axes, policy) in enumerate(zip(maps, policies, strict=True)):
        cars = policy.reshape(21, 21)
        axes.imshow(cars, origin="lower", cmap="RdBu", vmin=-8, vmax=8)
        axes.set_title(f"cars moved from the first place by π{k}", fontsize=10)
        for number in np.unique(cars):
            # In the cell of this number that is nearest to the middle of them all.
            cells = np.argwhere(cars == number)
            distances = np.abs(cells - cells.mean(0)).sum(1)
            row, column = cells[distances.argmin()]
            text = f"{number}".replace("-", "−")
            axes.text(column, row, text, ha="center", va="center", fontsize=8)
    image = last.imshow(values.reshape(21, 21), origin="lower", cmap="Blues")
    last.set_title(f"values of π{len(policies) - 1}", fontsize=10)
    picture.colorbar(image, ax=last, shrink=0.85)
    for axes in (*maps, last):
        axes.set(xticks=range(0, 21, 5), yticks=range(0, 21, 5))
    picture.supxlabel("cars at the second place", fontsize=10)
    picture.supylabel("cars at the first place", fontsize=10)
    return picture


# The gambler's problem.


def _sweeps(mdp: rljax.MDP, num_sweeps: int) -> np.ndarray:
    """The values after 1, 2, … sweeps of value iteration in place, [K, S]."""

    def update(state, values):
        q_values = planning.q_values(mdp, values, 1.0)
        return values.at[state].set(q_values[state].max())

    def sweep(values, _):
        values = jax.lax.fori_loop(0, mdp.num_states, update, values)
        return values, values

    start = jnp.zeros(mdp.num_states)
    return np.asarray(jax.lax.scan(sweep, start, length=num_sweeps)[1])


def _bold_play(heads: float) -> np.ndarray:
    """The chance of who always stakes all there is or is needed, [101], float64.

    V(s) = p V(2s) up to 50, and p + (1 − p) V(2s − 100) from there on. If p is less
    than one half, nothing is better.

    Source: Dubins and Savage (1965), "How to Gamble If You Must", §5.
    """
    matrix, constant = np.eye(101), np.zeros(101)
    constant[100] = 1.0
    for capital in range(1, 100):
        stake = min(capital, 100 - capital)
        matrix[capital, capital + stake] -= heads
        matrix[capital, capital - stake] -= 1 - heads
    return np.linalg.solve(matrix, constant)


def _smallest_stakes(values: np.ndarray, heads: float) -> list[int]:
    """The least stake that attains values [101], with a capital of 1 to 99."""
    least = []
    for capital in range(1, 100):
        stakes = np.arange(1, min(capital, 100 - capital) + 1)
        won, lost = values[capital + stakes], values[capital - stakes]
        chances = heads * won + (1 - heads) * lost
        least.append(int(stakes[chances > chances.max() - 1e-10][0]))
    return least


def figure_4_3(*, quick: bool = False) -> common.Drawn:
    """The gambler's problem with p = 0.4: value iteration, and the smallest stakes."""
    del quick
    mdp = rljax.Gambler(heads=0.4).to_mdp(sparse=True)
    capital = np.arange(1, 100)
    swept, plan = _sweeps(mdp, 32)[:, capital], planning.value_iteration(mdp, 1.0, 1e-7)
    q_values = np.asarray(plan.q_values)
    # The least gap to an action that is not best is 2e-4.
    actions = (q_values > q_values.max(1, keepdims=True) - 1e-5).argmax(1)
    stakes, final = actions[capital] + 1, plan.values[capital]
    attained = planning.policy_evaluation(mdp, actions, 1.0).values[capital]
    bold = _bold_play(0.4)
    least = _smallest_stakes(bold, 0.4)
    chances = bold[capital]
    statements = [
        common.equal("the final chances are those of bold play", final, chances, 1e-6),
        common.equal("so are those of sweep 32", swept[-1], chances, 1e-6),
        common.equal("and those of the smallest stakes", attained, chances, 1e-6),
        common.equal("stakes: the least that attain bold play's", stakes, least, 0),
        common.equal("50 stakes all, 51 stakes 1", stakes[[49, 50]], [50, 1], 0),
    ]
    shown = {f"sweep {k}": swept[k - 1] for k in (1, 2, 3, 32)} | {"final": final}
    curves = [common.exact_curve(name, capital, y) for name, y in shown.items()]
    panels = {
        "chance to win": curves,
        "smallest best stake": [common.exact_curve("stake", capital, stakes)],
    }
    picture = common.plot(panels, "capital", "")
    picture.axes[1].lines[0].set_drawstyle("steps-mid")
    picture.axes[1].get_legend().remove()
    return common.Drawn(panels, statements, picture)


FIGURES = [
    common.Figure("4.2", "Jack's car rental", figure_4_2),
    common.Figure("4.3", "the gambler's problem", figure_4_3),
]
