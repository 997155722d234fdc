"""Preferences: how they are drawn, and what a reward model makes of them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import rljax
from rljax.rlhf import networks as causal
from rljax.rlhf import preferences, rewards, sequences

V, H, P = 3, 2, 2
REWARD = rewards.TableReward(
    jnp.asarray(np.random.default_rng(0).normal(size=(P, V**H))), V
)
ENV = rljax.TokenMDP(REWARD, V, H, P)


def reference(seed=1):
    policy = np.random.default_rng(seed).dirichlet(np.ones(V), (P, 4))
    return sequences.sequence_log_probs(jnp.log(policy), H)


def test_pairs_come_from_the_policy_and_odds_from_the_reward():
    log_probs = reference()
    count = 40_000
    pairs = preferences.sample_preferences(
        ENV, log_probs, jax.random.key(0), num_pairs=count
    )
    chosen, rejected = (
        np.asarray(sequences.code(y, V)) for y in (pairs.chosen, pairs.rejected)
    )
    prompts = np.asarray(pairs.prompts)
    probs, table = np.exp(np.asarray(log_probs, float)), np.asarray(REWARD.table)
    # P(y⁺, y⁻ | x) = π(y⁺) π(y⁻) · 2 σ(r⁺ − r⁻): both orders of a pair end so.
    expected, seen = [], []
    for x in range(P):
        odds = 1 / (1 + np.exp(table[x][None] - table[x][:, None]))
        expected.append(probs[x][:, None] * probs[x][None] * 2 * odds / P)
        counts = np.zeros((9, 9))
        np.add.at(counts, (chosen[prompts == x], rejected[prompts == x]), 1)
        seen.append(counts)
    expected = np.ravel(expected) * count
    assert np.isclose(expected.sum(), count)
    many = expected >= 5
    rest = [np.ravel(seen)[~many].sum()], [expected[~many].sum()]
    observed = np.concatenate([np.ravel(seen)[many], rest[0]])
    expected = np.concatenate([expected[many], rest[1]])
    p = stats.chisquare(observed, expected * observed.sum() / expected.sum()).pvalue
    assert p > 0.001


@pytest.mark.slow
def test_a_reward_model_finds_the_rewards_up_to_a_constant():
    pairs = preferences.sample_preferences(
        ENV, reference(), jax.random.key(2), num_pairs=5_000
    )
    network = causal.MLP(V, H, P, outputs=1, hidden_sizes=(32,))
    model, losses = preferences.fit_reward_model(
        network, pairs, jax.random.key(3), learning_rate=5e-2, num_steps=200
    )
    np.testing.assert_allclose(losses[0], np.log(2), atol=1e-2)
    found = rljax.TokenMDP(model, V, H, P).sequence_rewards()
    weights = jnp.exp(reference())
    centred = [
        x - jnp.sum(weights * x, axis=1, keepdims=True) for x in (found, REWARD.table)
    ]
    error = jnp.sum(weights * jnp.square(centred[0] - centred[1]))
    # 2,500 pairs a prompt leave open 9 numbers, each with a variance of some
    # 1/(2,500 · 2w · ¼), w its weight; Σ w · that is 0.007, and luck may double it.
    assert error / P < 0.015
    # The likelihood is that of the true rewards, or better: it is a maximum.
    r = [
        REWARD.table[pairs.prompts, sequences.code(y, V)]
        for y in (pairs.chosen, pairs.rejected)
    ]
    true_loss = rljax.rlhf.losses.bradley_terry_loss(*r)
    assert losses[-1] < true_loss + 1e-4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prompts": jnp.array([2])}, r"prompts must be integers in \[0, 2\), got"),
        ({"chosen": jnp.array([[0, 3]])}, r"chosen must be integers in \[0, 3\)"),
        ({"rejected": jnp.array([[0.0, 1.0]])}, "rejected must be integers"),
        ({"rejected": jnp.array([[0, 1, 2]])}, r"take prompts \[M\], chosen \[M, H\]"),
        ({"prompts": jnp.int32(0)}, r"take prompts \[M\], chosen \[M, H\]"),
        ({"chosen": jnp.int32(0)}, r"take prompts \[M\], chosen \[M, H\]"),
        (
            dict.fromkeys(("chosen", "rejected"), np.array([0])),
            r"got shapes \(1,\), \(",
        ),
        (
            dict.fromkeys(("chosen", "rejected"), np.array([[[0]]])),
            r"rejected \[M, H\]",
        ),
        ({"vocabulary_size": 1}, "vocabulary_size must be at least 2"),
    ],
)
def test_bad_pairs_are_refused(change, message):
    good = {
        "prompts": jnp.array([1]),
        "chosen": jnp.array([[0, 1]]),
        "rejected": jnp.array([[2, 2]]),
        "vocabulary_size": V,
        "num_prompts": P,
    }
    preferences.Preferences(**good)
    with pytest.raises(ValueError, match=message):
        preferences.Preferences(**(good | change))


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="num_pairs must be at least 1, got 0"):
        preferences.sample_preferences(ENV, reference(), jax.random.key(0), num_pairs=0)
    with pytest.raises(ValueError, match=r"log_probs must be \[P, V\^H\] = \[2, 9\]"):
        preferences.sample_preferences(
            ENV, reference()[0], jax.random.key(0), num_pairs=5
        )
    pairs = preferences.sample_preferences(
        ENV, reference(), jax.random.key(0), num_pairs=5
    )
    wrong = (
        causal.Table(V, H, P, outputs=1),
        causal.MLP(V, H, P),
        causal.MLP(V, H, outputs=1),
    )
    for network in wrong:
        with pytest.raises(
            ValueError, match="must be a causal network, no tab"
        ) as said:
            preferences.fit_reward_model(network, pairs, jax.random.key(0))
        for wanted in (*pairs.sizes._asdict().items(), ("outputs", 1)):
            assert "{!r}: {}".format(*wanted) in str(said.value)
    good = causal.MLP(V, H, P, outputs=1)
    with pytest.raises(ValueError, match="learning_rate must be finite and at least 0"):
        preferences.fit_reward_model(
            good, pairs, jax.random.key(0), learning_rate=float("nan")
        )
    with pytest.raises(TypeError, match="preferences must be Preferences, got 3"):
        preferences.fit_reward_model(good, 3, jax.random.key(0))
    with pytest.raises(ValueError, match="sum to 1 for each prompt, they sum to"):
        preferences.sample_preferences(
            ENV, reference() + 1, jax.random.key(0), num_pairs=5
        )
    with pytest.raises(TypeError, match="env must be a TokenMDP, got a CartPole"):
        preferences.sample_preferences(
            rljax.CartPole(), reference(), jax.random.key(0), num_pairs=5
        )
    for call in (
        lambda key: preferences.sample_preferences(ENV, reference(), key, num_pairs=5),
        lambda key: preferences.fit_reward_model(good, pairs, key),
    ):
        with pytest.raises(TypeError, match="key must be a .*key"):
            call(3)
        with pytest.raises(ValueError, match=r"key must be a single key, got .*\(2,\)"):
            call(jax.random.split(jax.random.key(0)))
    empty = [jnp.zeros((0,), int), *[jnp.zeros((0, 2), int)] * 2]
    with pytest.raises(ValueError, match="at least one pair"):
        preferences.Preferences(*empty, V)


@pytest.mark.slow
def test_sequences_of_probability_0_are_never_drawn():
    env = rljax.TokenMDP(lambda prompt, tokens: 0.0 * tokens[0], 8, 4)
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(1, 8**4)).astype(np.float32)
    logits[rng.random(logits.shape) < 0.5] = -np.inf
    log_probs = jax.nn.log_softmax(jnp.asarray(logits))
    # With this key two were, where XLA's sum in blocks rises by a rounding.
    pairs = preferences.sample_preferences(
        env, log_probs, jax.random.key(11), num_pairs=100_000
    )
    for tokens in (pairs.chosen, pairs.rejected):
        assert np.isfinite(logits[0, sequences.code(tokens, 8)]).all()
