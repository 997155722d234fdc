"""Chapter 5: blackjack by Monte Carlo, and by planning."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import rljax
from figures import common
from rljax import exploration, parallel, planning, prediction, rollout
from rljax.plotting import figures
from rljax.types import SparseTransitions

CARDS = np.array([1] * 9 + [4]) / 13
"""Probabilities of the cards 1 (an ace) to 10, from a deck without end."""
STICK, HIT = 0, 1
SUMS = np.arange(12, 22)
"""Of the player; below 12 one always hits."""
HANDS = [(ace, total) for ace in (False, True) for total in SUMS.tolist()]
"""A usable ace or none, and the player's sum."""
ACES = ("usable ace", "no usable ace")
OUTCOMES = (-1, 0, 1)
NUM_STATES = 10 * len(HANDS) + len(OUTCOMES) + 1
"""Hands by the dealer's card; then lost, drawn and won; then the end."""
LOST, DRAWN, WON, END = range(NUM_STATES - 4, NUM_STATES)
STICK_FROM = np.array(
    [[19, 18, 18, 18, 18, 18, 18, 18, 19, 19], [17, 13, 13, 12, 12, 12, 17, 17, 17, 17]]
)
"""The book's optimal policy, with a usable ace and without: the least sum on which to
stick, by the dealer's card from the ace to 10."""
BATCH = 10_000
"""Episodes of a batch; there are 50 of them."""


def _add(total: int, ace: bool, card: int) -> tuple[int, bool]:
    """A hand (sum, whether an ace counts as 11 in it) with one more card."""
    total, ace = (total + 11, True) if card == 1 and not ace else (total + card, ace)
    return (total - 10, False) if ace and total > 21 else (total, ace)


def _drawn(total: int, ace: bool) -> list[tuple[float, tuple[int, bool]]]:
    return [(p, _add(total, ace, i + 1)) for i, p in enumerate(CARDS)]


@functools.cache
def _dealt(total: int, ace: bool, stop: int) -> np.ndarray:
    """Probabilities [2, 27] of (ace, sum) for who hits below `stop`."""
    if total < stop:
        return sum(p * _dealt(*hand, stop) for p, hand in _drawn(total, ace))  # pyright: ignore[reportReturnType]
    one = np.zeros((2, 27))
    one[int(ace), total] = 1
    return one


def _against_dealer(total: int, card: int) -> np.ndarray:
    """Probabilities to lose, draw and win for who sticks, [3].

    A dealer's natural, 21 with two cards, beats all but a natural.
    """
    final, natural = np.zeros(27), 0.0
    for p, hand in _drawn(*_add(0, False, card)):
        if hand[0] == 21:
            natural += p
        else:
            final += p * _dealt(*hand, 17).sum(0)
    won = final[:total].sum() + final[22:].sum()
    return np.array([natural + final[total + 1 : 22].sum(), final[total], won])


def blackjack() -> rljax.MDP:
    """The game of example 5.1, in which the actions are to stick and to hit.

    The reward comes one step after the game is decided, as rewards of a model are
    means over the states that may follow.
    """
    next_states = np.full((NUM_STATES, 2, 10), END)
    probabilities = np.tile(np.eye(10)[0], (NUM_STATES, 2, 1))
    for i, (ace, total) in enumerate(HANDS):
        for card in range(1, 11):
            state = 10 * i + card - 1
            next_states[state, STICK, :3] = LOST, DRAWN, WON
            probabilities[state, STICK, :3] = _against_dealer(total, card)
            probabilities[state, HIT] = CARDS
            for k, (_, (new, soft)) in enumerate(_drawn(total, ace)):
                index = LOST if new > 21 else 10 * HANDS.index((soft, new)) + card - 1
                next_states[state, HIT, k] = index
    rewards = np.zeros((NUM_STATES, 2))
    rewards[[LOST, DRAWN, WON]] = np.array(OUTCOMES)[:, None]
    return rljax.MDP(
        SparseTransitions(jnp.asarray(next_states), jnp.asarray(probabilities)),
        jnp.asarray(rewards),
        terminal=jnp.arange(NUM_STATES) == END,
        initial=jnp.asarray(_first_hands()),
    )


def _first_hands() -> np.ndarray:
    """Where games start, [S]: a natural is won, or drawn with a dealer's natural."""
    initial, hands = np.zeros(NUM_STATES), np.zeros((2, 27))
    natural = 2 * CARDS[0] * CARDS[9]
    for p, first in enumerate(CARDS):
        for q, hand in _drawn(*_add(0, False, p + 1)):
            if hand[0] != 21:
                hands += first * q * _dealt(*hand, 12)
    initial[: 10 * len(HANDS)] = (hands[:, 12:22, None] * CARDS).ravel()
    initial[[DRAWN, WON]] = natural * natural, natural * (1 - natural)
    return initial


def _as_policy(sticks: np.ndarray) -> jax.Array:
    """The policy [S] that sticks where `sticks` [2, 10, 10] says, usable ace first."""
    actions = np.full(NUM_STATES, STICK)
    actions[:200] = np.where(sticks[::-1].ravel(), STICK, HIT)
    return jnp.asarray(actions, jnp.int32)


def _stick_on_20() -> jax.Array:
    """The policy of example 5.1."""
    return _as_policy(np.broadcast_to(SUMS[:, None] >= 20, (2, 10, 10)))


def _estimates(game: rljax.MDP, policy: jax.Array, num_runs: int) -> Any:
    """First-visit means and counts [R, 50, S], after each batch of 10,000 episodes."""
    env, length = rljax.FiniteMDP(game), int(2.6 * BATCH)
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
            obs=jnp.where(later, END, played.obs),
            reward=jnp.where(later, 0, played.reward),
            terminated=played.terminated | later,
        )
        so_far = prediction.monte_carlo(
            so_far.values, so_far.counts, played, discount=1.0
        )
        return so_far, (*so_far, ended[-1])

    def one_run(key):
        none = jnp.zeros(NUM_STATES), jnp.zeros(NUM_STATES, jnp.int32)
        start = prediction.SampleMeans(*none)
        return jax.lax.scan(batch, start, rljax.random.split(key, 50))[1]

    keys = jax.random.split(jax.random.key(0), num_runs)
    values, counts, ended = parallel.map_seeds(one_run, batch_size=8)(keys)
    if int(ended.min()) < BATCH:
        raise ValueError(f"{length} steps are too few for {BATCH} episodes.")
    return np.asarray(values)[:, :, :200], np.asarray(counts)[:, :, :200]


def _panels(values: Any) -> np.ndarray:
    """Numbers of the hands [200] as [2, 10, 10]: usable ace first, by sum and card."""
    return np.asarray(values)[:200].reshape(2, 10, 10)[::-1]


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
    game, policy = blackjack(), _stick_on_20()
    exact = planning.policy_evaluation(game, policy, 1.0).values
    squared = dataclasses.replace(game, rewards=game.rewards**2)
    variances = planning.policy_evaluation(squared, policy, 1.0).values - exact**2
    values, counts = _estimates(game, policy, 8 if quick else 32)
    errors = values - np.asarray(exact)[:200]
    rms = np.sqrt((errors.reshape(*errors.shape[:2], 2, 100) ** 2).mean(3))
    shown = {
        "10,000 games": _panels(values[0, 0]),
        "500,000 games": _panels(values[0, -1]),
        "exact": _panels(exact),
    }
    relative = counts[:, -1] * errors[:, -1] ** 2 / np.asarray(variances)[:200]
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
    game = blackjack()
    plan = planning.value_iteration(game, 1.0)
    sticks = _panels(plan.policy) == STICK
    book = SUMS[:, None] >= STICK_FROM[:, None]
    shown = {"policy": np.where(sticks, 0.6, -0.6), "value": _panels(plan.values)}
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
            common.grid("value", shown["value"][row]),
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
