"""Statistics are computed in float32 at least, whatever comes in."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rljax
from rljax import distributions, losses, returns
from rljax.agents.base import standardize
from rljax.rlhf import groups, kl, optimum, sequences
from rljax.rlhf import losses as preference_losses
from tests.oracles import distributions as d_oracle
from tests.oracles import kl_control as kl_oracle
from tests.oracles import losses as loss_oracle
from tests.oracles import returns as returns_oracle
from tests.oracles import sequences as seq_oracle

RNG = np.random.default_rng(0)
# In bfloat16 a sum of so many terms stops growing at 256 of them.
A, B, T = 4096, 512, 40
LOGITS, REFERENCE, TARGETS = RNG.normal(size=(3, 2, A))
X, Y, Z, U = 1 + RNG.normal(size=(4, B))
R, V, NEXT = 1 + RNG.normal(size=(3, T))
ACTIONS = np.array([7, 4000])
ENDS = RNG.random((2, T)) < 0.05
WEIGHTS = np.ones(T)
Q, NEXT_Q = 40 + RNG.normal(size=(2, T, 5))
TAKEN = RNG.integers(0, 5, T)


def log_softmax_at(z):
    return d_oracle.log_softmax(z)[[0, 1], ACTIONS]


def standardized(x):
    return (x - x.mean()) / x.std()


def of_sequences(log_probs, reference_log_probs, rewards):
    found = optimum.sequence_objective(log_probs, reference_log_probs, rewards, 1.0)
    return jnp.stack([found.expected_reward, found.kl])


def sums_over_sequences(z, w, r):
    terms = np.stack([np.exp(z) * r, np.exp(z) * (z - w)])
    return terms.sum(axis=-1).mean(axis=-1)


def of_texts(table):
    """log π(y) of an agent whose network is a table in half precision."""
    agent = types.SimpleNamespace(logits=lambda table, prefix: table[prefix])
    env = rljax.TokenMDP(lambda prompt, tokens: 0.0, vocabulary_size=2, horizon=2)
    return optimum.log_probs_of(agent, table, env)[0]


# (function of floating arguments, these, the value in float64)
CASES = {
    "log_prob": (
        lambda z: distributions.categorical_log_prob(z, ACTIONS),
        (LOGITS,),
        log_softmax_at,
    ),
    "entropy": (distributions.categorical_entropy, (LOGITS,), d_oracle.entropy),
    "kl": (distributions.categorical_kl, (LOGITS, REFERENCE), d_oracle.kl),
    "policy_gradient_loss": (
        losses.policy_gradient_loss,
        (X, Y),
        lambda *x: loss_oracle.policy_gradient(*x)[0],
    ),
    "value_loss": (losses.value_loss, (X, Y), lambda *x: loss_oracle.value(*x)[0]),
    "clipped_value_loss": (
        lambda *x: losses.clipped_value_loss(*x, 0.2),
        (X, Y, Z),
        lambda *x: loss_oracle.clipped_value(*x, 0.2)[0],
    ),
    "ppo_clip_loss": (
        lambda *x: losses.ppo_clip_loss(*x, 0.2, 3.0),
        (X, Y, Z),
        lambda *x: loss_oracle.ppo_clip(*x, 0.2, 3.0)[0],
    ),
    "td_errors": (
        lambda q, r, n: losses.td_errors(q, TAKEN, r, n, ENDS[0], 0.9),
        (Q, R, NEXT_Q),
        lambda q, r, n: loss_oracle.td_errors(q, TAKEN, r, n, ENDS[0], 0.9, WEIGHTS)[0],
    ),
    "bradley_terry_loss": (
        preference_losses.bradley_terry_loss,
        (X, Y),
        lambda *x: loss_oracle.bradley_terry(*x)[0],
    ),
    "dpo_loss": (
        lambda *x: preference_losses.dpo_loss(*x, 0.3),
        (X, Y, Z, U),
        lambda *x: loss_oracle.dpo(*x, 0.3)[0],
    ),
    "discounted_returns": (
        lambda r, n: returns.discounted_returns(r, n, *ENDS, 0.9),
        (R, NEXT),
        lambda r, n: returns_oracle.discounted_returns(r, n, *ENDS, 0.9),
    ),
    "lambda_returns": (
        lambda r, n: returns.lambda_returns(r, n, *ENDS, 0.9, 0.8),
        (R, NEXT),
        lambda r, n: returns_oracle.lambda_returns(r, n, *ENDS, 0.9, 0.8),
    ),
    "gae": (
        lambda r, v, n: returns.gae(r, v, n, *ENDS, 0.9, 0.8),
        (R, V, NEXT),
        lambda r, v, n: returns_oracle.gae(r, v, n, *ENDS, 0.9, 0.8),
    ),
    "kl_k1": (kl.kl_k1, (X, Y), lambda *x: d_oracle.k1(*x)[0]),
    "kl_k2": (kl.kl_k2, (X, Y), lambda *x: d_oracle.k2(*x)[0]),
    "kl_k3": (kl.kl_k3, (X, Y), lambda *x: d_oracle.k3(*x)[0]),
    "penalized_rewards": (
        lambda r, k: kl.penalized_rewards(r, k, *ENDS, 0.3, "sequence"),
        (R, V),
        lambda r, k: kl_oracle.penalized_rewards(r, k, *ENDS, 0.3, WEIGHTS, "sequence")[
            0
        ],
    ),
    "adapted_kl_coef": (
        lambda c, k: kl.adapted_kl_coef(c, k, 3.0, 0.1),
        (np.float64(1.5), np.float64(3.25)),
        lambda c, k: c * (1 + 0.1 * (k / 3 - 1)),
    ),
    "standardize": (standardize, (X,), standardized),
    "leave_one_out_advantages": (
        groups.leave_one_out_advantages,
        (X,),
        lambda x: x - (x.sum() - x) / (B - 1),
    ),
    "group_normalized_advantages": (
        groups.group_normalized_advantages,
        (X,),
        standardized,
    ),
    "sequence_log_probs": (
        lambda z: sequences.sequence_log_probs(z, 2),
        (LOGITS[0, :6].reshape(3, 2),),
        lambda z: np.concatenate([z[0, 0] + z[1], z[0, 1] + z[2]]),
    ),
    "sequence_objective": (
        of_sequences,
        (d_oracle.log_softmax(LOGITS), d_oracle.log_softmax(REFERENCE), TARGETS),
        sums_over_sequences,
    ),
    "log_probs_of": (
        of_texts,
        (LOGITS[0, :6].reshape(3, 2),),
        lambda z: [seq_oracle.log_probs(z, y).sum() for y in seq_oracle.texts(2, 2)],
    ),
}


@pytest.mark.parametrize("half", [jnp.bfloat16, jnp.float16])
@pytest.mark.parametrize("name", CASES)
def test_half_precision_is_computed_with_in_float32(name, half):
    function, arguments, in_float64 = CASES[name]
    arguments = [jnp.asarray(x, half) for x in arguments]
    expected = in_float64(*(np.asarray(x, float) for x in arguments))
    value, vjp = jax.vjp(function, *arguments)
    assert value.dtype == jnp.float32
    np.testing.assert_allclose(value, expected, rtol=1e-4, atol=1e-5)
    assert {x.dtype for x in vjp(jnp.ones_like(value))} == {jnp.dtype(half)}
