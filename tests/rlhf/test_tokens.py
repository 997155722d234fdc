"""TokenMDP: writing, numbering, and the exact model."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rljax import struct, testing
from rljax.rlhf.rewards import TableReward
from rljax.rlhf.tokens import TokenMDP, TokenState


def count_ones(prompt, tokens):
    return jnp.sum(tokens == 1) + 10.0 * prompt


ENV = TokenMDP(count_ones, vocabulary_size=3, horizon=3, num_prompts=2)


def prefixes(vocabulary_size, horizon):
    """All of them by length, then in the order of their digits."""
    for length in range(horizon + 1):
        yield from itertools.product(range(vocabulary_size), repeat=length)


def test_states_are_numbered_by_prompt_length_and_digits():
    expected = [(prompt, prefix) for prompt in range(2) for prefix in prefixes(3, 3)]
    assert ENV.observation_space.n == len(expected) == 2 * 40
    prompts, tokens, lengths = jax.vmap(ENV.decode)(jnp.arange(80))
    for i, (prompt, prefix) in enumerate(expected):
        assert (prompts[i], lengths[i]) == (prompt, len(prefix))
        assert tuple(tokens[i, : len(prefix)]) == prefix
        assert (tokens[i, len(prefix) :] == 0).all()


def test_writing_appends_and_pays_at_the_end():
    indices = {
        (p, y): i
        for i, (p, y) in enumerate((p, y) for p in range(2) for y in prefixes(3, 3))
    }
    step = jax.jit(ENV.step)
    for text in [(1, 0, 1), (2, 2, 2), (0, 1, 2)]:
        index = jnp.int32(indices[1, ()])
        state = TokenState(index, jnp.int32(0))
        for h, token in enumerate(text):
            state, time_step = step(state, jnp.int32(token), jax.random.key(0))
            assert time_step.obs == state.prefix == indices[1, text[: h + 1]]
            assert bool(time_step.terminated) == (h == 2)
            assert not time_step.truncated
            expected = 10.0 + text.count(1) if h == 2 else 0.0
            assert time_step.reward == expected


@pytest.mark.slow
def test_the_contract_holds():
    table = TableReward(jnp.arange(8.0).reshape(2, 4), vocabulary_size=2)
    testing.check_env(
        TokenMDP(table, vocabulary_size=2, horizon=2, num_prompts=2), jax.random.key(0)
    )


def test_the_model_is_the_tree_of_prefixes():
    mdp = ENV.to_mdp()
    dense = ENV.to_mdp(sparse=False)
    np.testing.assert_array_equal(mdp.transitions.dense(80), dense.transitions)
    np.testing.assert_array_equal(np.flatnonzero(mdp.initial), [0, 40])
    assert mdp.terminal.sum() == 2 * 27
    live = ~np.asarray(mdp.terminal)
    # Every state but the two empty ones is written in exactly one way.
    arrivals = np.asarray(dense.transitions)[live].sum((0, 1))
    np.testing.assert_array_equal(arrivals, [0] + [1] * 39 + [0] + [1] * 39)
    total = np.asarray(mdp.rewards).sum()
    expected = sum(
        10.0 * p + y.count(1)
        for p in range(2)
        for y in itertools.product(range(3), repeat=3)
    )
    assert total == expected


def test_a_table_is_read_in_the_order_of_the_digits():
    reward = TableReward(jnp.arange(54.0).reshape(2, 27), vocabulary_size=3)
    for i, text in enumerate(itertools.product(range(3), repeat=3)):
        assert reward(jnp.int32(1), jnp.array(text)) == 27 + i


def test_rewards_are_leaves_and_functions_structure():
    @struct.dataclass
    class Bonus:
        token: int = struct.static()
        size: float = 1.0

        def __call__(self, prompt, tokens):
            return self.size * jnp.sum(tokens == self.token)

    env = TokenMDP(Bonus(2), vocabulary_size=3, horizon=2)
    assert len(jax.tree.leaves(env)) == 1
    assert not jax.tree.leaves(ENV)
    sizes = jnp.array([1.0, 3.0])
    rewards = jax.vmap(
        lambda size: (
            TokenMDP(Bonus(2, size), vocabulary_size=3, horizon=2).to_mdp().rewards
        )
    )(sizes)
    np.testing.assert_array_equal(rewards[1], 3 * rewards[0])


def test_bad_settings_are_refused():
    with pytest.raises(ValueError, match="vocabulary_size must be at least 2, got 1"):
        TokenMDP(count_ones, vocabulary_size=1)
    with pytest.raises(ValueError, match="horizon must be at least 1, got 0"):
        TokenMDP(count_ones, horizon=0)
    with pytest.raises(TypeError, match="reward must be a function of .*, got 3"):
        TokenMDP(3)
    with pytest.raises(ValueError, match="more than an int32 can number"):
        TokenMDP(count_ones, vocabulary_size=50_000, horizon=4)
    wrong = TokenMDP(lambda prompt, tokens: tokens, vocabulary_size=2, horizon=2)
    with pytest.raises(ValueError, match=r"must return a scalar, returns shape \(2,\)"):
        wrong.to_mdp()
