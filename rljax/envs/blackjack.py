"""Blackjack as the textbook plays it, a hand at a time."""

import functools
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rljax import checks, random, spaces, struct
from rljax.mdp import from_outcomes
from rljax.types import MDP, Env, TimeStep

_STICK, _HIT = 0, 1
_CARDS = np.array([1] * 9 + [4]) / 13
"""Probabilities of an ace and of 2 to 10."""
_HANDS = [(total, False) for total in range(4, 22)]
_HANDS += [(total, True) for total in range(12, 22)]
"""(sum, whether an ace counts as 11 in it); after them comes the natural."""
_NATURAL = len(_HANDS)
_LOST, _DRAWN, _WON = range(10 * (_NATURAL + 1), 10 * (_NATURAL + 1) + 3)
_NUM_STATES = _WON + 1


class _Rules(NamedTuple):
    """What a game goes by, of NumPy."""

    first: np.ndarray
    """[10, 10] int32: the hand of two cards, each less 1."""
    hit: np.ndarray
    """[29, 10] int32: the hand after one more card; 29 where it is above 21."""
    chances: np.ndarray
    """[290, 3]: the probabilities to lose, draw and win for who sticks."""


@struct.dataclass
class Blackjack(Env):
    """Draw cards to a sum above the dealer's, but not above 21.

    Face cards count 10, and an ace 11 where that does not make more than 21 (it is
    usable), else 1. The player sees one of the dealer's two cards. Action 1 hits: it
    draws another card, and a sum above 21 loses. Action 0 sticks: then the dealer draws
    up to a sum of 17 or more, and the higher sum wins, as does any against one above
    21. The reward is 1 for a game won, −1 for one lost, 0 for a draw and before the
    end. Cards come from a deck without end. All of the dealer's play is one draw from
    its exact outcome, so that a step takes one random number.

    State and observation are one number, [] int32 below 293,

        10 · hand + dealer's card − 1

    where the card is 1 for an ace, and the hand is the sum − 4 without a usable ace (0
    to 17), the sum + 6 with one (18 to 27), or 28 for a natural: an ace and a ten at
    once. Three terminal states come after them: 290 lost, 291 drawn, 292 won.

    Raises:
      ValueError: `natural` is none of the three.

    Source: Sutton and Barto (2018), example 5.1; Gymnasium's Blackjack-v1, which is the
    same game. Its observations don't tell a natural from another 21 with an ace.
    """

    natural: Literal["wins", "pays_more", "is_21"] = struct.static(default="wins")
    """What a natural is worth for who sticks: "wins" against all but a natural, the
    book's rule (Gymnasium's sab=True); "pays_more", 1.5 where it wins as a sum of 21
    (natural=True); "is_21", nothing more than that (neither)."""

    def __post_init__(self):
        checks.choice(self, "natural", ("wins", "pays_more", "is_21"))

    @property
    def observation_space(self) -> spaces.Discrete:
        """The hands by the dealer's card, and the three ends."""
        return spaces.Discrete(_NUM_STATES)

    @property
    def action_space(self) -> spaces.Discrete:
        """0 sticks, 1 hits."""
        return spaces.Discrete(2)

    def reset(self, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Deals two cards to the player, and the one of the dealer that is seen."""
        drawn = random.below(key, 13**3)
        ranks = jnp.stack([drawn // 169, drawn // 13 % 13, drawn % 13])
        one, two, dealer = jnp.minimum(ranks, 9)
        state = 10 * jnp.asarray(self._rules.first)[one, two] + dealer
        return state, state

    def draw(self, shape: tuple[int, ...], key: jax.Array) -> jax.Array:
        """Draws a uniform number for each step."""
        return random.uniform(key, shape)

    def advance(
        self, state: jax.Array, action: jax.Array, noise: jax.Array
    ) -> tuple[jax.Array, TimeStep]:
        """Draws a card, or plays the dealer's cards to the end."""
        action = spaces.check_element(self.action_space, action, "Blackjack's action")
        hand, dealer = state // 10, state % 10
        card = jnp.minimum((13 * noise).astype(jnp.int32), 9)
        after = jnp.asarray(self._rules.hit)[hand, card]
        after = jnp.where(after > _NATURAL, _LOST, 10 * after + dealer)
        bounds = np.cumsum(self._rules.chances, axis=1)[:, :2]
        passed = noise >= jnp.asarray(bounds, noise.dtype)[state]
        end = _LOST + jnp.sum(passed, dtype=jnp.int32)
        next_state = jnp.where(action == _HIT, after, end)
        terminated = next_state >= _LOST
        reward = jnp.where(terminated, next_state - _DRAWN, 0).astype(noise.dtype)
        if self.natural == "pays_more":
            paid = (hand == _NATURAL) & (action == _STICK)
            reward = jnp.where(paid, 1.5 * reward, reward)
        return next_state, TimeStep(
            obs=next_state,
            reward=reward,
            terminated=terminated,
            truncated=jnp.zeros_like(terminated),
        )

    def to_mdp(self, *, sparse: bool = False) -> MDP:
        """The exact model.

        Args:
          sparse: whether the transitions are a list of ten outcomes instead of
            [S, A, S].
        """
        rules, dealer = self._rules, np.arange(10)
        hands = rules.hit[:, None, :]
        after = np.where(hands > _NATURAL, _LOST, 10 * hands + dealer[None, :, None])
        next_states = np.tile(np.arange(_NUM_STATES)[:, None, None], (1, 2, 10))
        probabilities = np.tile(np.eye(10)[0], (_NUM_STATES, 2, 1))
        next_states[:_LOST, _HIT] = after.reshape(_LOST, 10)
        probabilities[:_LOST, _HIT] = _CARDS
        next_states[:_LOST, _STICK, :3] = _LOST, _DRAWN, _WON
        probabilities[:_LOST, _STICK, :3] = rules.chances
        rewards = np.sum(probabilities * ((next_states == _WON) * 1.0), -1)
        rewards -= np.sum(probabilities * (next_states == _LOST), -1)
        if self.natural == "pays_more":
            rewards[10 * _NATURAL : _LOST, _STICK] *= 1.5
        first = np.zeros((_NATURAL + 1, 10))
        np.add.at(first, rules.first, np.multiply.outer(_CARDS, _CARDS)[..., None])
        initial = np.zeros(_NUM_STATES)
        initial[:_LOST] = (first * _CARDS).ravel()
        terminal = np.arange(_NUM_STATES) >= _LOST
        return from_outcomes(
            next_states, probabilities, rewards, terminal, initial, sparse=sparse
        )

    @property
    def _rules(self) -> _Rules:
        return _rules(self.natural == "wins")


@functools.cache
def _rules(natural_wins: bool) -> _Rules:
    hit = np.full((_NATURAL + 1, 10), _NATURAL + 1, np.int32)
    first = np.zeros((10, 10), np.int32)
    for i in range(10):
        for hand, (total, ace) in enumerate([*_HANDS, (21, True)]):
            new = _add(total, ace, i + 1)
            if new in _HANDS:
                hit[hand, i] = _HANDS.index(new)
        for j in range(10):
            new = _add(*_add(0, False, i + 1), j + 1)
            first[i, j] = _NATURAL if new[0] == 21 else _HANDS.index(new)
    final = np.array([_dealt(*_add(0, False, i + 1)) for i in range(10)])
    chances = np.zeros((_NATURAL + 1, 10, 3))
    for hand, (total, _) in enumerate([*_HANDS, (21, True)]):
        chances[hand, :, 0] = final[:, total + 1 : 22].sum(1)
        chances[hand, :, 1] = final[:, total]
        chances[hand, :, 2] = final[:, :total].sum(1) + final[:, 22:].sum(1)
    if natural_wins:
        drawn = np.zeros(10)  # the dealer has a natural as well
        drawn[[0, 9]] = _CARDS[[9, 0]]
        chances[_NATURAL] = np.stack([0 * drawn, drawn, 1 - drawn], axis=1)
    return _Rules(first, hit, chances.reshape(_LOST, 3))


def _add(total: int, ace: bool, card: int) -> tuple[int, bool]:
    """A hand (sum, whether an ace counts as 11 in it) with one more card."""
    if card == 1 and not ace:
        total, ace = total + 11, True
    else:
        total += card
    return (total - 10, False) if ace and total > 21 else (total, ace)


@functools.cache
def _dealt(total: int, ace: bool) -> np.ndarray:
    """Probabilities [27] of the sum with which a dealer with this hand ends."""
    if total >= 17:
        return np.eye(27)[total]
    chances = [p * _dealt(*_add(total, ace, i + 1)) for i, p in enumerate(_CARDS)]
    return np.sum(chances, axis=0)
