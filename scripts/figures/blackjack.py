"""Chapter 5: blackjack by Monte Carlo, and by planning."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import rljax
from figures import common
from rljax import exploration, parallel, planning, prediction, rollout
from rljax.plotting import figures

STICK, HIT = 0, 1
SUMS = np.arange(12, 22)
"""Of the player; below 12 one always hits."""
SHOWN = slice(80, 280)
"""The states with these sums, without a usable ace and then with one."""
ACES = ("usable ace", "no usable ace")
LOST, WON = 290, 292
STICK_FROM = np.array(
    [[19, 18, 18, 18, 18, 18, 18, 18, 19, 19], [17, 13, 13, 12, 12, 12, 17, 17, 17, 17]]
)
"""The book's optimal policy, with a usable ace and without: the least sum on which to
stick, by the dealer's card from the ace to 10."""
BATCH = 10_000
"""Episodes of a batch; there are 50 of them."""


def _as_policy(sticks: np.ndarray) -> jax.Array:
    """The policy that sticks where `sticks` [2, 10, 10] says, usable ace first, and on
    a natural."""
    actions = np.full(WON + 1, STICK)
    actions[: SHOWN.start] = HIT
    actions[SHOWN] = np.where(sticks[::-1].ravel(), STICK, HIT)
    return jnp.asarray(actions, jnp.int32)


def _stick_on_20() -> jax.Array:
    """The policy of example 5.1."""
    return _as_policy(np.broadcast_to(SUMS[:, None] >= 20, (2, 10, 10)))


def _estimates(policy: jax.Array, num_runs: int) -> Any:
    """First-visit means and counts [R, 50, 200], after each batch of 10,000 games."""
    env, length = rljax.Blackjack(), int(1.9 * BATCH)
    agent = rljax.QLearning(exploration=exploration.EpsilonGreedy(0.0))

    def batch(so_far, key):
        key_init, key_start, key = rljax.random.split(key, 3)
        state = agent.init(key_init, env)
        # A table whose greedy policy is this one.
        state = state._replace(q_values=jax.nn.one_hot(policy, 2))
        start = rollout.start(env, key_start)
        played = rollout.unroll(agent, state, env, start, key, length=length)[1]
        ended = jnp.cumsum(played.terminated)
        later = ended - played.terminated >= BATCH
        played = played._replace(  # at the end, from which nothing is learned
            obs=jnp.where(later, LOST, played.obs),
            reward=jnp.where(later, 0, played.reward),
            terminated=played.terminated | later,
        )
        so_far = prediction.monte_carlo(
            so_far.values, so_far.counts, played, discount=1.0
        )
        return so_far, (*so_far, ended[-1])

    def one_run(key):
        none = jnp.zeros(len(policy)), jnp.zeros(len(policy), jnp.int32)
        start = prediction.SampleMeans(*none)
        return jax.lax.scan(batch, start, rljax.random.split(key, 50))[1]

    keys = jax.random.split(jax.random.key(0), num_runs)
    values, counts, ended = parallel.map_seeds(one_run, batch_size=8)(keys)
    if int(ended.min()) < BATCH:
        raise ValueError(f"{length} steps are too few for {BATCH} episodes.")
    return np.asarray(values)[:, :, SHOWN], np.asarray(counts)[:, :, SHOWN]


def _panels(values: Any) -> np.ndarray:
    """Numbers [200] as [2, 10, 10]: usable ace first, by sum and dealer's card."""
    return np.asarray(values).reshape(2, 10, 10)[::-1]


def _maps(columns: dict[str, np.ndarray]) -> Any:
    """Two maps in each column, of its numbers [2, 10, 10] from −1 to 1."""
    picture = figures.new(3.1 * len(columns) + 0.6, 5.6)
    all_axes = picture.subplots(
        2, len(columns), sharex=True, sharey=True, squeeze=False
    )
    look: Any = {"vmin": -1, "vmax": 1, "cmap": "RdBu", "origin": "lower"}
    for column, (title, numbers) in enumerate(columns.items()):
        for row, axes in enumerate(all_axes[:, column]):
            axes.imshow(numbers[row], extent=(0.5, 10.5, 11.5, 21.5), **look)
            axes.set_title(f"{title}, {ACES[row]}", fontsize=10)
    for axes in all_axes[1]:
        axes.set(xlabel="dealer shows", xticks=range(1, 11))
        axes.set_xticklabels(["A", *range(2, 11)])
    for axes in all_axes[:, 0]:
        axes.set(ylabel="player's sum", yticks=range(12, 22))
    image = all_axes[0, 0].images[0]
    picture.colorbar(image, ax=all_axes, label="value", shrink=0.7)
    return picture


def figure_5_1(*, quick: bool = False) -> common.Drawn:
    """Values of sticking on 20 and 21, after 10,000 and 500,000 games."""
    game: Any = rljax.Blackjack().to_mdp()
    policy = _stick_on_20()
    exact = np.asarray(planning.policy_evaluation(game, policy, 1.0).values)[SHOWN]
    # The return is −1, 0 or 1, so that its square says whether the game is decided.
    decided = jnp.sum(game.transitions[..., jnp.array([LOST, WON])], axis=-1)
    squared = dataclasses.replace(game, rewards=decided)
    squares = np.asarray(planning.policy_evaluation(squared, policy, 1.0).values)[SHOWN]
    values, counts = _estimates(policy, 8 if quick else 32)
    errors = values - exact
    rms = np.sqrt((errors.reshape(*errors.shape[:2], 2, 100) ** 2).mean(3))
    shown = {
        "10,000 games": _panels(values[0, 0]),
        "500,000 games": _panels(values[0, -1]),
        "exact": _panels(exact),
    }
    relative = counts[:, -1] * errors[:, -1] ** 2 / (squares - exact**2)
    panels = {
        ace: [common.grid(name, maps[row]) for name, maps in shown.items()]
        for row, ace in enumerate(ACES)
    }
    return common.Drawn(panels, _statements_5_1(relative, rms), _maps(shown))


def _statements_5_1(relative: np.ndarray, rms: np.ndarray) -> list[common.Statement]:
    """Of squared errors as multiples of their variance [N, 200], and of root mean
    squares [N, 2, 2] by number of games and by ace."""
    return [
        common.covers(
            "After 500,000 games, N(s) (V(s) − exact)² / Var[G | s] is 1 on average",
            relative.mean(1),
            1.0,
        ),
        common.covers(
            "Without a usable ace, 50 times the games make the error √50 times smaller",
            rms[:, 0, 0] / rms[:, -1, 0],
            50**0.5,
        ),
        common.above(
            "After 10,000 games, values with a usable ace are farther off",
            rms[:, 0, 1] - rms[:, 0, 0],
        ),
        common.below(
            "After 500,000 games, the error with a usable ace is less than 0.05",
            rms[:, -1, 1],
            0.05,
        ),
    ]


def figure_5_2(*, quick: bool = False) -> common.Drawn:
    """The optimal policy and values of blackjack, by planning."""
    del quick  # nothing is drawn at random
    game = rljax.Blackjack().to_mdp()
    plan = planning.value_iteration(game, 1.0)
    sticks = _panels(plan.policy[SHOWN]) == STICK
    book = SUMS[:, None] >= STICK_FROM[:, None]
    values = _panels(plan.values[SHOWN])
    shown = {"policy": np.where(sticks, 0.6, -0.6), "value": values}
    statements = [
        common.equal("It sticks and hits where the book says", sticks, book, 0.0),
        common.equal(
            "The book's policy, evaluated by itself, has the optimal values",
            planning.policy_evaluation(game, _as_policy(book), 1.0).values,
            plan.values,
            1e-5,
        ),
    ]
    panels = {
        ace: [
            common.grid("sticks", sticks[row]),
            common.grid("value", values[row]),
        ]
        for row, ace in enumerate(ACES)
    }
    picture = _maps(shown)
    for axes, low in zip(picture.axes[:4:2], (14.5, 13.5), strict=True):
        axes.text(8, 20, "stick", ha="center", va="center")
        axes.text(8, low, "hit", ha="center", va="center")
    return common.Drawn(panels, statements, picture)


FIGURES = [
    common.Figure("5.1", "blackjack by Monte Carlo", figure_5_1),
    common.Figure("5.2", "blackjack's optimal policy", figure_5_2),
]
