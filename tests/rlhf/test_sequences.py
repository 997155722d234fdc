"""Numbers of prefixes, and distributions over whole sequences."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rljax.rlhf import sequences
from tests.oracles import regularized as oracle

V, H, P = 3, 3, 2
N = 40


def numbers():
    """(prompt, prefix) -> number: by length, then in the order of the digits."""
    listed = [
        (prompt, prefix)
        for prompt in range(P)
        for length in range(H + 1)
        for prefix in itertools.product(range(V), repeat=length)
    ]
    return {pair: i for i, pair in enumerate(listed)}


def test_prefixes_of_a_text_are_the_states_before_each_token():
    known = numbers()
    for prompt in range(P):
        for code, text in enumerate(itertools.product(range(V), repeat=H)):
            expected = [known[prompt, text[:h]] for h in range(H)]
            tokens = jnp.array(text)
            found = sequences.prefixes(jnp.int32(prompt), tokens, V)
            np.testing.assert_array_equal(found, expected)
            assert sequences.code(tokens, V) == code
            assert (
                sequences.finished(jnp.int32(prompt), tokens, V) == known[prompt, text]
            )


def test_unfinished_prefixes_and_all_texts():
    known = numbers()
    expected = [
        [i for (p, y), i in known.items() if p == q and len(y) < H] for q in (0, 1)
    ]
    np.testing.assert_array_equal(sequences.unfinished(V, H, P), expected)
    np.testing.assert_array_equal(
        sequences.all_tokens(V, H), list(itertools.product(range(V), repeat=H))
    )


def test_log_probs_of_whole_texts_are_sums_over_their_tokens(x64):
    policy = np.random.default_rng(0).dirichlet(np.ones(V), (P, N))
    log_policy = jnp.log(policy)[:, : sequences.num_shorter(V, H)]
    found = jax.jit(sequences.sequence_log_probs, static_argnums=1)(log_policy, H)
    for prompt in range(P):
        expected = oracle.sequence_probabilities(policy[prompt], V, H)
        np.testing.assert_allclose(np.exp(found[prompt]), expected, rtol=1e-12)
    with pytest.raises(ValueError, match="must have 13 rows for 3 tokens"):
        sequences.sequence_log_probs(log_policy[:, 1:], H)
