"""Built-in rewards of sequences, worked by hand."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rljax
from rljax import testing
from rljax.rlhf import networks as causal
from rljax.rlhf import rewards

V, H, P = 3, 3, 2


def test_targets_pay_for_each_token_that_is_right():
    reward = rewards.TargetReward(jnp.array([[0, 1, 2], [2, 2, 2]]))
    assert reward(jnp.int32(0), jnp.array([0, 1, 2])) == 1
    np.testing.assert_allclose(reward(jnp.int32(1), jnp.array([0, 1, 2])), 1 / 3)
    assert reward(jnp.int32(1), jnp.array([0, 1, 0])) == 0


def test_bigrams_pay_for_the_first_token_and_for_neighbours():
    reward = rewards.BigramReward(
        first=jnp.array([[1.0, 2.0, 3.0], [10.0, 20.0, 30.0]]),
        pairs=jnp.arange(9.0).reshape(3, 3) / 10,
    )
    # a[1, 2] + b[2, 0] + b[0, 1] = 30 + 0.6 + 0.1
    np.testing.assert_allclose(reward(jnp.int32(1), jnp.array([2, 0, 1])), 30.7)


@pytest.mark.parametrize("kind", [rewards.BigramReward, rewards.TableReward])
def test_random_rewards_are_of_one_scale(kind):
    def values(key):
        return rljax.TokenMDP(kind.random(8, 4, key), 8, 4).sequence_rewards()

    found = jax.vmap(values)(jax.random.split(jax.random.key(0), 200))
    assert found.shape == (200, 1, 4096)
    np.testing.assert_allclose(found.mean(), 0, atol=0.05)
    np.testing.assert_allclose(found.var(), 1, atol=0.1)


@pytest.mark.parametrize("horizon", [1, 9])
def test_scores_of_bigrams_are_smaller_the_longer_the_sequences(horizon):
    key = jax.random.key(0)
    reward = rewards.BigramReward.random(50, horizon, key, num_prompts=50)
    assert reward.first.shape == reward.pairs.shape == (50, 50)
    for scores in (reward.first, reward.pairs):
        # Of 2,500: deviations of 0.02 and 0.014 from the mean and the deviation.
        np.testing.assert_allclose(scores.mean() * horizon**0.5, 0, atol=0.1)
        np.testing.assert_allclose(scores.std() * horizon**0.5, 1, atol=0.07)
    both = np.corrcoef(np.ravel(reward.first), np.ravel(reward.pairs))
    assert abs(both[0, 1]) < 0.1


@pytest.mark.slow
def test_all_rewards_at_once_are_those_of_the_steps():
    model = causal.MLP(V, H, P, outputs=1)
    params = model.init(jax.random.key(0), jnp.zeros((), jnp.int32))
    for reward in (
        rewards.TargetReward(jnp.array([[0, 1, 2], [2, 2, 2]])),
        rewards.BigramReward.random(V, H, jax.random.key(1), num_prompts=P),
        rewards.TableReward.random(V, H, jax.random.key(1), num_prompts=P),
        rewards.RewardModel(params, model),
    ):
        env = rljax.TokenMDP(reward, V, H, P)
        at_once = env.sequence_rewards()
        for i, text in enumerate(itertools.product(range(V), repeat=H)):
            if i % 4:
                continue
            one = reward(jnp.int32(1), jnp.array(text))
            np.testing.assert_allclose(at_once[1, i], one, rtol=1e-5, atol=1e-7)


@pytest.mark.slow
def test_a_learned_reward_makes_an_environment():
    model = causal.MLP(V, H, P, outputs=1)
    params = model.init(jax.random.key(0), jnp.zeros((), jnp.int32))
    env = rljax.TokenMDP(rewards.RewardModel(params, model), V, H, P)
    testing.check_env(env, jax.random.key(0))


@pytest.mark.parametrize(
    ("reward", "message"),
    [
        (
            rewards.TargetReward(jnp.zeros((P, 2), int)),
            r"target must have shape \[2, 3\]",
        ),
        (
            rewards.TargetReward(jnp.zeros(H, int)),
            r"TargetReward.target must have shape",
        ),
        (
            rewards.TableReward(jnp.zeros((1, 27)), V),
            r"table must have shape \[2, 27\]",
        ),
        (
            rewards.TableReward(jnp.zeros((P, 64)), 4),
            "vocabulary_size must be the envi",
        ),
        (
            rewards.BigramReward(jnp.zeros((P, V)), jnp.zeros((V, 2))),
            r"BigramReward.pairs must have shape \[3, 3\] in this environment, has ",
        ),
        (
            rewards.RewardModel((), causal.MLP(V, H, outputs=1)),
            "RewardModel.network must",
        ),
    ],
)
def test_rewards_of_other_sizes_are_refused(reward, message):
    with pytest.raises(ValueError, match=message):
        rljax.TokenMDP(reward, V, H, P)


def test_tables_may_be_stacked_for_vmap():
    tables = jax.random.normal(jax.random.key(0), (4, P, V**H))
    env = rljax.TokenMDP(rewards.TableReward(tables, V), V, H, P)
    found = jax.vmap(lambda env: env.sequence_rewards())(env)
    np.testing.assert_array_equal(found, tables)
