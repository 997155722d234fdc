"""The price of a divergence: in rewards, adapted, and what is refused."""

import types

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rljax import distributions
from rljax.rlhf import kl as kl_control
from tests.comparison import PLAIN, REALS, arrays, assert_equals_oracle, flags
from tests.oracles import kl_control as oracle


def per_token(*args):
    return kl_control.penalized_rewards(*args, "token")


def per_sequence(*args):
    return kl_control.penalized_rewards(*args, "sequence")


@pytest.mark.parametrize("fn", [per_token, per_sequence])
@pytest.mark.parametrize("length", [1, 5])
@given(st.data(), PLAIN)
def test_penalized_rewards_equal_their_loop(fn, length, data, plain):
    parts = [arrays(length), arrays(length), flags(length), flags(length), REALS]
    cases = [
        tuple(data.draw(part) for part in [*parts, arrays(length)]) for _ in range(2)
    ]
    credit = "token" if fn is per_token else "sequence"
    assert_equals_oracle(
        fn,
        lambda *args: oracle.penalized_rewards(*args, credit),
        cases,
        argnums=(0, 1, 4),
        plain=plain,
    )


def test_both_credits_cost_an_episode_the_same():
    rewards, kl = jnp.zeros(6), jnp.array([1.0, 2.0, 4.0, 8.0, 16.0, 32.0])
    ends = jnp.array([False, True, False, False, True, False])
    none = jnp.zeros(6, bool)
    token = kl_control.penalized_rewards(rewards, kl, ends, none, 0.5)
    np.testing.assert_array_equal(token, -0.5 * kl)
    whole = kl_control.penalized_rewards(rewards, kl, none, ends, 0.5, "sequence")
    np.testing.assert_array_equal(whole, [0, -1.5, 0, 0, -14, -16])


def test_estimates_are_those_of_the_distributions(x64):
    rng = np.random.default_rng(0)
    logits, reference = rng.normal(size=(2, 5, 3))
    actions = np.arange(5) % 3
    log_probs = [
        distributions.categorical_log_prob(z, actions) for z in (logits, reference)
    ]
    expected = {
        "exact": distributions.categorical_kl(logits, reference),
        "k1": kl_control.kl_k1(*log_probs),
        "k2": kl_control.kl_k2(*log_probs),
        "k3": kl_control.kl_k3(*log_probs),
    }
    for name, value in expected.items():
        found = kl_control.kl_estimates(logits, reference, actions, name)
        np.testing.assert_array_equal(found, value)


def test_the_coefficient_moves_towards_the_target():
    def adapt(kl):
        return float(kl_control.adapted_kl_coef(jnp.float32(2), kl, 4.0, 0.1))

    assert adapt(4.0) == 2
    np.testing.assert_allclose(adapt(4.4), 2 * 1.01, rtol=1e-6)  # 10 % too far
    np.testing.assert_allclose(adapt(400.0), 2 * 1.02, rtol=1e-6)  # never over 20 %
    np.testing.assert_allclose(adapt(0.0), 2 * 0.98, rtol=1e-6)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        (
            {"kl_coef": -1.0},
            ValueError,
            "kl_coef must be finite and at least 0, got -1",
        ),
        ({"kl_coef": np.inf}, ValueError, "kl_coef must be finite"),
        ({"kl_coef": "0.1"}, TypeError, "kl_coef must be a real number"),
        ({"kl_target": 0.0}, ValueError, "kl_target must be finite and more than 0"),
        ({"kl_rate": -0.1}, ValueError, r"kl_rate must be in \[0, 4\], got -0.1"),
        ({"kl_rate": 5}, ValueError, r"kl_rate must be in \[0, 4\], got 5"),
        (
            {"kl_target": 1.0, "kl_coef": 0.0},
            ValueError,
            "kl_coef must be more than 0 with a kl_target",
        ),
        ({"kl_in": "both"}, ValueError, "kl_in must be one of 'reward', 'loss'"),
        ({"credit": "word"}, ValueError, "credit must be one of 'token', 'sequence'"),
        ({"kl_estimator": "k4"}, ValueError, "kl_estimator must be one of 'exact'"),
        (
            {"kl_in": "loss", "kl_estimator": "k1"},
            ValueError,
            "one of 'exact', 'k2', 'k3' with kl_in='loss', got 'k1': its expected grad",
        ),
        (
            {"kl_in": "reward", "kl_estimator": "exact"},
            ValueError,
            "one of 'k1', 'k2', 'k3' with kl_in='reward', got 'exact': it would leave",
        ),
        (
            {"kl_max_log_ratio": 0.0, "kl_estimator": "k3"},
            ValueError,
            "kl_max_log_ratio must be finite and more than 0, got 0",
        ),
        (
            {"kl_max_log_ratio": 20.0},
            ValueError,
            "kl_max_log_ratio must be None with kl_estimator='k1', got 20.0: only k3",
        ),
    ],
)
def test_bad_settings_are_refused(changes, error, message):
    good = {
        "kl_coef": 0.1,
        "kl_in": "reward",
        "kl_estimator": "k1",
        "credit": "token",
        "kl_target": None,
        "kl_rate": 0.1,
        "kl_max_log_ratio": None,
    }
    kl_control.check_settings(types.SimpleNamespace(**good))
    with pytest.raises(error, match=message):
        kl_control.check_settings(types.SimpleNamespace(**(good | changes)))


def test_bad_arguments_are_refused():
    four, flags_ = jnp.zeros(4), jnp.zeros(4, bool)
    with pytest.raises(ValueError, match=r"must have one shape \[T\]"):
        kl_control.penalized_rewards(four, jnp.zeros((4, 1)), flags_, flags_, 0.1)
    batch = jnp.zeros((4, 2))
    with pytest.raises(ValueError, match=r"vmap over a batch"):
        kl_control.penalized_rewards(batch, batch, batch > 0, batch > 0, 0.1)
    with pytest.raises(ValueError, match="credit must be 'token' or 'sequence'"):
        kl_control.penalized_rewards(four, four, flags_, flags_, 0.1, "word")
    with pytest.raises(ValueError, match="estimator must be one of 'exact', 'k1'"):
        kl_control.kl_estimates(jnp.zeros((4, 2)), jnp.zeros((4, 2)), flags_ * 1, "k0")
