"""Arguments of the wrong kind, in each place of the functions of arrays."""

import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rljax
from rljax import (
    bandits,
    distributions,
    exploration,
    losses,
    planning,
    prediction,
    random,
    returns,
)
from rljax.rlhf import groups, kl, optimum
from rljax.rlhf import losses as preference_losses

X, FLAGS = np.arange(3.0, dtype=np.float32), np.zeros(3, bool)
COUNTS = np.array([1, 2, 3])
KEY = jax.random.key(0)
KINDS = {
    "None": None,
    "a string": "x",
    "bytes": b"x",
    "an object": object(),
    "a dictionary": {},
    "a function": len,
    "a class": dict,
    "an imaginary number": 1j,
}
# Arguments by name; those that may be None are left out.
STEPS = {"next_values": X, "terminated": FLAGS, "truncated": FLAGS, "discount": 0.9}
TABLE = {"q_values": X / 3, "counts": COUNTS}
WALK = {
    "values": X,
    "trajectory": rljax.Transition(COUNTS % 3, (), X, FLAGS, FLAGS, COUNTS % 2, ()),
    "discount": 0.9,
}
LEARNED = {**WALK, "step_size": 0.1}
CALLS = [
    (returns.discounted_returns, {"rewards": X, **STEPS}),
    (returns.lambda_returns, {"rewards": X, **STEPS, "lambda_": 0.5}),
    (returns.gae, {"rewards": X, "values": X, **STEPS, "lambda_": 0.5}),
    (returns.first_episode, {"terminated": FLAGS, "truncated": FLAGS}),
    (prediction.td_lambda, {**LEARNED, "lambda_": 0.5, "traces": "dutch"}),
    (prediction.n_step_td, {**LEARNED, "num_steps": 2}),
    (prediction.offline_lambda, {**LEARNED, "lambda_": 0.5}),
    (prediction.monte_carlo, {**WALK, "counts": COUNTS, "first_visit": True}),
    (prediction.batch_td, WALK),
    (losses.policy_gradient_loss, {"log_probs": X, "weights": X}),
    (losses.value_loss, {"values": X, "targets": X}),
    (
        losses.clipped_value_loss,
        {"values": X, "old_values": X, "targets": X, "clip_epsilon": 0.2},
    ),
    (
        losses.ppo_clip_loss,
        {
            "log_probs": X,
            "behaviour_log_probs": X,
            "advantages": X,
            "clip_epsilon": 0.2,
        },
    ),
    (
        losses.td_errors,
        {
            "q_values": X[:, None],
            "actions": 0 * COUNTS,
            "rewards": X,
            "next_q_values": X[:, None],
            "terminated": FLAGS,
            "discount": 0.9,
        },
    ),
    (distributions.greedy, {"scores": X}),
    (distributions.categorical_log_prob, {"logits": X, "actions": np.int32(1)}),
    (distributions.categorical_entropy, {"logits": X}),
    (distributions.categorical_kl, {"logits": X, "reference_logits": X}),
    (distributions.categorical_sample, {"logits": X, "key": KEY}),
    (distributions.categorical_mode, {"logits": X}),
    (distributions.categorical_quantile, {"logits": X, "u": np.float32(0.5)}),
    (exploration.epsilon_greedy, {"q_values": X, "epsilon": 0.1, "key": KEY}),
    (exploration.softmax, {"q_values": X, "temperature": 1.0, "key": KEY}),
    (exploration.ucb, {**TABLE, "t": 6, "c": 2.0}),
    (exploration.ucb1, {**TABLE, "t": 6, "scale": 2.0}),
    (exploration.kl_ucb, {**TABLE, "t": 6, "c": 2.0}),
    (exploration.thompson_bernoulli, {**TABLE, "key": KEY}),
    (exploration.thompson_gaussian, {**TABLE, "key": KEY}),
    (bandits.lai_robbins, {"means": X / 3}),
    (kl.kl_k1, {"log_probs": X, "reference_log_probs": X}),
    (kl.kl_k3, {"log_probs": X, "reference_log_probs": X}),
    (groups.leave_one_out_advantages, {"returns": X}),
    (groups.group_normalized_advantages, {"returns": X}),
    (
        preference_losses.bradley_terry_loss,
        {"chosen_rewards": X, "rejected_rewards": X},
    ),
    (
        preference_losses.dpo_loss,
        {
            "chosen_log_probs": X,
            "rejected_log_probs": X,
            "reference_chosen_log_probs": X,
            "reference_rejected_log_probs": X,
            "kl_coef": 0.1,
        },
    ),
    (
        optimum.optimal_log_probs,
        {"reference_log_probs": X[None], "rewards": X[None], "kl_coef": 0.1},
    ),
    (random.key, {"seed": 0}),
    (random.uniform, {"key": KEY}),
    (random.normal, {"key": KEY}),
    (random.split, {"key": KEY}),
    (random.permutation, {"key": KEY, "size": 3}),
]
EACH = pytest.mark.parametrize(
    ("function", "arguments"), CALLS, ids=[f.__name__ for f, _ in CALLS]
)


def assert_refused(function, arguments, name, wrong):
    with pytest.raises((TypeError, ValueError)) as said:
        function(**{**arguments, name: wrong})
    assert name.rstrip("_") in str(said.value)


@EACH
def test_what_is_no_number_is_refused_by_name(function, arguments):
    assert arguments.keys() <= inspect.signature(function).parameters.keys()
    for name in arguments:
        for wrong in KINDS.values():
            assert_refused(function, arguments, name, wrong)


@EACH
def test_numbers_out_of_their_range_are_refused(function, arguments):
    """At once, as later they are traced, and then a wrong result is all there is."""
    ranges = {"discount": 1.0, "lambda_": 1.0, "epsilon": 1.0}
    others = {"key", "actions", "u", "seed", "trajectory"}
    for name in arguments.keys() - others:
        if np.ndim(arguments[name]):
            continue
        above = (ranges[name] + 0.1,) if name in ranges else ()
        for wrong in (np.nan, -0.5, *above):
            assert_refused(function, arguments, name, wrong)


@pytest.mark.parametrize("wrong", [np.ones(2), np.ones((2, 2)), 1.0])
@pytest.mark.parametrize("name", ["q_values", "initial_value"])
def test_values_have_one_entry_for_each_state(name, wrong):
    mdp = rljax.make("GridWorld-5x5").to_mdp()
    function = {
        "q_values": functools.partial(planning.q_values, discount=0.9),
        "initial_value": planning.initial_value,
    }[name]
    for other in (wrong, *KINDS.values()):
        assert_refused(function, {"mdp": mdp}, "values", other)
    assert_refused(function, {"values": jnp.zeros(25)}, "mdp", wrong)


def test_a_policy_that_is_no_array_is_refused_by_name():
    mdp = rljax.make("GridWorld-5x5").to_mdp()
    for wrong in KINDS.values():
        arguments = {"mdp": mdp, "discount": 0.9}
        assert_refused(planning.policy_evaluation, arguments, "policy", wrong)
