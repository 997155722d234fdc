"""Blackjack: its chances by enumeration, and Gymnasium's table game by game."""

import functools

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.envs.toy_text import blackjack

import rljax
from rljax import planning, random

RULES = {
    "wins": {"sab": True},
    "pays_more": {"natural": True},
    "is_21": {},
}
CARDS = {card: (4 if card == 10 else 1) / 13 for card in range(1, 11)}
LOST, DRAWN, WON = 290, 291, 292
STICK, HIT = 0, 1


def state_of(cards, dealer):
    """The number of a state, by Gymnasium's own count of a hand's cards."""
    total, ace = blackjack.sum_hand(cards), blackjack.usable_ace(cards)
    if total > 21:
        return LOST
    hand = total + 6 if ace else total - 4
    hand = 28 if blackjack.is_natural(cards) else hand
    return 10 * hand + dealer - 1


HANDS = {}
"""A hand of cards for each state without the dealer's card."""
for one in CARDS:
    for two in CARDS:
        HANDS.setdefault(state_of([one, two], 1) // 10, [one, two])
HANDS[27] = [1, 5, 5]
HANDS[17] = [10, 5, 6]


@functools.cache
def dealers(cards):
    """{(score, whether natural): probability} of a dealer with these cards."""
    if len(cards) > 1 and blackjack.sum_hand(cards) >= 17:
        return {(blackjack.score(cards), blackjack.is_natural(list(cards))): 1.0}
    found = {}
    for card, p in CARDS.items():
        after = tuple(sorted((*cards, card)))
        for end, q in dealers(after).items():
            found[end] = found.get(end, 0) + p * q
    return found


def chances(cards, dealer, natural):
    """Probabilities to lose, draw and win for who sticks, by the rules' words."""
    found = np.zeros(3)
    for (score, is_natural), p in dealers((dealer,)).items():
        result = int(np.sign(blackjack.score(cards) - score))
        if natural == "wins" and blackjack.is_natural(cards) and not is_natural:
            result = 1
        found[1 + result] += p
    return found


@pytest.fixture(scope="module")
def models():
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        games = [rljax.Blackjack(natural) for natural in RULES]
        return {game.natural: game.to_mdp() for game in games}


def test_every_chance_is_that_of_the_enumeration(models):
    assert sorted(HANDS) == list(range(29))
    pairs = [(cards, dealer) for _, cards in sorted(HANDS.items()) for dealer in CARDS]
    hits, starts = np.zeros((290, 293)), np.zeros(293)
    for state, (cards, dealer) in enumerate(pairs):
        for card, p in CARDS.items():
            hits[state, state_of([*cards, card], dealer)] += p
    for one, p in CARDS.items():
        for two, q in CARDS.items():
            for dealer, r in CARDS.items():
                starts[state_of([one, two], dealer)] += p * q * r
    for natural, model in models.items():
        sticks = np.zeros((290, 293))
        sticks[:, 290:] = [chances(*pair, natural) for pair in pairs]
        wanted = np.stack([sticks, hits], axis=1)
        np.testing.assert_allclose(model.transitions[:290], wanted, atol=1e-6)
        pay = wanted[..., WON] - wanted[..., LOST]
        pay[280:, STICK] *= 1.5 if natural == "pays_more" else 1.0
        np.testing.assert_allclose(model.rewards[:290], pay, atol=1e-6)
        assert np.flatnonzero(model.terminal).tolist() == [LOST, DRAWN, WON]
        np.testing.assert_allclose(model.initial, starts, atol=1e-7)
    listed = rljax.Blackjack("pays_more").to_mdp(sparse=True)
    dense = listed.transitions.dense(293)
    np.testing.assert_array_equal(dense, models["pays_more"].transitions)
    np.testing.assert_array_equal(listed.rewards, models["pays_more"].rewards)


@pytest.fixture(scope="module")
def steps():
    """Next states and time steps [K, 580] for K numbers that decide, by the rule."""
    states, actions = (x.ravel() for x in jnp.indices((290, 2), jnp.int32))
    noise = jnp.asarray((np.arange(1300) + 0.5) / 1300, float)

    def over_all(game):
        over_pairs = jax.vmap(game.advance, (0, 0, None))
        state, time_step = jax.vmap(over_pairs, (None, None, 0))(states, actions, noise)
        return state, time_step

    games = [rljax.Blackjack(), rljax.Blackjack("pays_more")]
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        found = jax.jit(lambda: {game.natural: over_all(game) for game in games})()
    return jax.tree.map(np.asarray, found)


def test_steps_have_the_chances_of_the_model(models, steps):
    """Of 1,300 equally spaced numbers, as many as a chance says, but for the ends."""
    for natural, (state, time_step) in steps.items():
        model = models[natural]
        np.testing.assert_array_equal(state, time_step.obs)
        np.testing.assert_array_equal(time_step.terminated, state >= LOST)
        assert not time_step.truncated.any()
        ends = np.isin(state, [LOST, DRAWN, WON])
        np.testing.assert_array_equal(ends, state >= LOST)
        result = np.where(ends, state - DRAWN, 0).astype(float)
        naturals = np.repeat(np.arange(290) >= 280, 2) & (np.arange(580) % 2 == STICK)
        if natural == "pays_more":
            result[:, naturals] *= 1.5
        np.testing.assert_array_equal(time_step.reward, result)
        counts = np.zeros((580, 293))
        np.add.at(counts, (np.arange(580), state), 1)
        wanted = np.asarray(model.transitions)[:290].reshape(580, 293)
        np.testing.assert_allclose(counts / 1300, wanted, atol=1.1 / 1300)


def test_games_begin_with_two_cards_and_the_dealer_s(models, monkeypatch):
    monkeypatch.setattr(random, "below", lambda drawn, number: drawn % number)
    drawn = jnp.arange(2 * 13**3, dtype=jnp.int32)
    state, obs = jax.jit(jax.vmap(rljax.Blackjack().reset))(drawn)
    np.testing.assert_array_equal(state, obs)
    counts = np.bincount(state, minlength=293)
    initial = np.asarray(models["wins"].initial, float)
    np.testing.assert_allclose(counts / (2 * 13**3), initial, atol=1e-7)


def test_the_best_policy_is_the_book_s(models):
    """Figure 5.2: the least sum to stick on, by the dealer's card from the ace to 10.

    The exact values of the game, for the three rules, are on record here.
    """
    soft = [19, 18, 18, 18, 18, 18, 18, 18, 19, 19]
    hard = [17, 13, 13, 12, 12, 12, 17, 17, 17, 17]
    exact = {"wins": -0.04311, "pays_more": -0.02573, "is_21": -0.04656}
    sums = np.arange(12, 22)[:, None]
    for natural, model in models.items():
        rewards, transitions = (
            np.asarray(x, float) for x in (model.rewards, model.transitions)
        )
        values = np.zeros(293)
        for _ in range(15):  # no hand takes more cards
            q_values = rewards + transitions @ values
            values = np.where(model.terminal, 0, q_values.max(1))
        sticks = (q_values[:, STICK] >= q_values[:, HIT])[80:280].reshape(2, 10, 10)
        np.testing.assert_array_equal(sticks, [sums >= hard, sums >= soft])
        assert model.initial @ values == pytest.approx(exact[natural], abs=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("natural", RULES)
def test_planning_finds_the_same(natural):
    model = rljax.Blackjack(natural).to_mdp(sparse=True)
    plan = planning.value_iteration(model, 1.0)
    book = [-0.04311, -0.02573, -0.04656][list(RULES).index(natural)]
    value = planning.initial_value(model, plan.values)
    assert value == pytest.approx(book, abs=1e-5)


def test_an_unknown_rule_is_refused():
    with pytest.raises(ValueError, match="Blackjack.natural must be one of 'wins', "):
        rljax.Blackjack("loses")
    assert rljax.make("Blackjack-v1") == rljax.Blackjack()
    assert gymnasium.spec("Blackjack-v1").kwargs == {"sab": True, "natural": False}


@pytest.mark.slow
@pytest.mark.parametrize("natural", RULES)
def test_gymnasium_s_games_pay_what_the_model_says(natural, record_property):
    """20,000 of its games under a fixed policy: sticking on 17 and on naturals."""
    env = gymnasium.make("Blackjack-v1", **{"sab": False} | RULES[natural]).unwrapped
    env.reset(seed=0)
    returns = []
    for _ in range(20_000):
        env.reset()
        terminated, reward = False, 0.0
        while not terminated:
            hits = blackjack.sum_hand(env.player) < 17
            _, reward, terminated, _, _ = env.step(int(hits))
        returns.append(reward)
    model = rljax.Blackjack(natural).to_mdp()
    sums = np.concatenate([np.arange(4, 22), np.arange(12, 22), [21]])
    policy = np.append(np.repeat((sums < 17).astype(np.int32), 10), [0, 0, 0])
    exact = float(planning.expected_return(model, policy, 1.0))
    error = np.std(returns) / len(returns) ** 0.5
    record_property(
        "evidence",
        f"Blackjack, {natural}: exact {exact:.4f}, Gymnasium {np.mean(returns):.4f} ± "
        f"{error:.4f}",
    )
    assert abs(np.mean(returns) - exact) < 4 * error
