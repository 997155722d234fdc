"""Prediction against the book's loops, and against what it should come to."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rljax
from rljax import prediction, rollout
from tests.conftest import enable_x64
from tests.oracles import prediction as oracle

NUM_STATES, LENGTH = 6, 40
END = NUM_STATES - 1
TRACES = ("accumulating", "replacing", "dutch")


def draw(seed, length=LENGTH):
    """A walk of several episodes, of either kind of end, the last of which is cut."""
    rng = np.random.default_rng(seed)
    terminated, truncated = rng.random((2, length)) < 0.1
    next_obs = rng.integers(0, END, length).astype(np.int32)
    starts = np.roll(terminated | truncated, 1)
    obs = np.where(starts, rng.integers(0, END, length), np.roll(next_obs, 1))
    next_obs[terminated] = END
    return (
        obs.astype(np.int32),
        rng.normal(size=length),
        next_obs,
        terminated,
        truncated,
    )


def as_trajectory(walk):
    obs, reward, next_obs, *ends = walk
    return rljax.Transition(obs, (), reward, *ends, next_obs, ())


@functools.partial(jax.jit, static_argnames="record")
def everything(values, counts, walk, step_size, discount, lambda_, n, record=None):
    """All of the module's functions in one program."""
    arguments = (values, as_trajectory(walk))
    settings = {"step_size": step_size, "discount": discount, "record": record}
    found = {
        traces: prediction.td_lambda(
            *arguments, **settings, lambda_=lambda_, traces=traces
        )
        for traces in TRACES
    }
    return found | {
        "n-step": prediction.n_step_td(*arguments, **settings, num_steps=n),
        "offline": prediction.offline_lambda(*arguments, **settings, lambda_=lambda_),
        "every visit": prediction.monte_carlo(
            values, counts, arguments[1], discount=discount, first_visit=False
        ),
        "first visit": prediction.monte_carlo(
            values, counts, arguments[1], discount=discount
        ),
        "batch": prediction.batch_td(*arguments, discount=discount),
    }


CASES = [(0.3, 0.9, 0.7, 3), (1.0, 1.0, 1.0, 1), (0.1, 0.0, 0.5, 100)]


@pytest.fixture(scope="module")
def found():
    """What the module says of a few walks and settings, in float64 and under vmap."""
    rng = np.random.default_rng(9)
    values = rng.normal(size=(len(CASES), NUM_STATES))
    values[:, END] = np.nan  # a value that never counts
    counts = rng.integers(0, 4, values.shape, dtype=np.int32)
    walks = [draw(seed) for seed in range(len(CASES))]
    stacked = [np.stack(x) for x in zip(*walks, strict=True)]
    settings = [np.array(x) for x in zip(*CASES, strict=True)]
    # Promotion is strict here, as in tests/test_strictness.py.
    with enable_x64(), jax.numpy_dtype_promotion("strict"):
        out = jax.vmap(functools.partial(everything, record=jnp.nansum))(
            values, counts, stacked, *settings
        )
    return values, counts, walks, jax.tree.map(np.asarray, out)


def books(start, walk, alpha, gamma, lambda_, n):
    """V after the walk by the book's loops, for what learns step by step."""
    return {
        traces: oracle.td_lambda(start, walk, alpha, gamma, lambda_, traces)
        for traces in TRACES[:2]
    } | {
        "dutch": oracle.online_lambda_returns(start, walk, alpha, gamma, lambda_),
        "n-step": oracle.n_step_td(start, walk, alpha, gamma, n),
        "offline": oracle.offline_lambda(start, walk, alpha, gamma, lambda_),
    }


@pytest.mark.parametrize("case", range(len(CASES)))
def test_step_by_step_prediction_equals_the_books_loops(found, case):
    values, _, walks, out = found
    start, walk = values[case], walks[case]
    for name, right in books(start, walk, *CASES[case]).items():
        size = np.nanmax(np.abs(right))
        np.testing.assert_allclose(
            out[name].values[case], right, 0, 1e-12 * size, err_msg=name
        )
    # What is recorded at a done step is of its episode's end.
    end = np.flatnonzero(walk[3] | walk[4])[2]
    for name, right in books(start, [x[: end + 1] for x in walk], *CASES[case]).items():
        size = np.nanmax(np.abs(right))
        np.testing.assert_allclose(
            out[name].records[case, end],
            np.nansum(right),
            0,
            1e-11 * size,
            err_msg=name,
        )


@pytest.mark.parametrize("case", range(len(CASES)))
def test_prediction_from_all_steps_equals_the_books_loops(found, case):
    values, counts, walks, out = found
    start, walk, gamma = values[case], walks[case], CASES[case][1]
    for name in ("every visit", "first visit"):
        is_first = name == "first visit"
        right = oracle.monte_carlo(start, counts[case], walk, gamma, is_first)
        np.testing.assert_allclose(out[name].values[case], right[0], 1e-11, 1e-12)
        np.testing.assert_array_equal(out[name].counts[case], right[1])
    right = oracle.batch_td(start, walk, gamma, 0.05, 2000)
    np.testing.assert_allclose(out["batch"][case], right, 1e-9, 1e-9)


def test_what_does_not_fit_is_refused_by_name():
    walk, zeros = draw(0, 4), np.zeros(NUM_STATES)
    trajectory = as_trajectory(walk)
    settings: Any = {"step_size": 0.1, "discount": 0.9}
    td = functools.partial(prediction.td_lambda, **settings, lambda_=0.5)
    for values, wrong, error, says in (
        (zeros, walk, TypeError, "trajectory must be a Transition, such as rollout"),
        (zeros, trajectory._replace(obs=zeros[:4]), TypeError, r"trajectory\.obs must"),
        (zeros, trajectory._replace(reward=zeros), ValueError, r"one shape \[T\]"),
        (zeros, trajectory._replace(obs=walk[0] + 6), ValueError, "from 0 to 5, as"),
        (zeros[:, None], trajectory, ValueError, r"values must have shape \[S\]"),
    ):
        with pytest.raises(error, match=says):
            td(values, wrong)
    with pytest.raises(ValueError, match="step_size must be in"):
        td(zeros, trajectory, step_size=1.5)
    with pytest.raises(ValueError, match="traces must be one of 'accumulating', 'repl"):
        td(zeros, trajectory, traces="watkins")
    with pytest.raises(ValueError, match="num_steps must be at least 1"):
        prediction.n_step_td(zeros, trajectory, **settings, num_steps=0)
    counts = np.zeros(3, np.int32)
    with pytest.raises(ValueError, match="all must have one shape"):
        prediction.monte_carlo(zeros, counts, trajectory, discount=1.0)


@pytest.mark.slow
def test_half_precision_is_computed_in_float32():
    walk = list(draw(1))
    walk[1] = jnp.asarray(walk[1], jnp.bfloat16)
    counts = jnp.zeros(NUM_STATES, jnp.int32)
    out = everything(counts.astype(jnp.bfloat16), counts, walk, 0.1, 0.9, 0.5, 2)
    for x in jax.tree.leaves(out):
        assert x.dtype in (jnp.float32, jnp.int32)


@pytest.mark.slow
def test_all_come_near_the_exact_values_of_the_policy_that_acted():
    grid, discount = rljax.make("GridWorld-5x5"), 0.9
    agent = rljax.QLearning(exploration=rljax.exploration.EpsilonGreedy(1.0))
    uniform = jnp.full((25, 4), 0.25)
    exact = rljax.planning.policy_evaluation(grid.to_mdp(), uniform, discount).values

    def watch(key):
        state, start = agent.init(key, grid), rollout.start(grid, key)
        return rollout.unroll(agent, state, grid, start, key, length=50_000)[1]

    trajectory = jax.jit(watch)(jax.random.key(0))
    seen = np.bincount(trajectory.obs, minlength=25) > 500
    arguments = (jnp.zeros(25), trajectory)
    settings: Any = {"step_size": 0.01, "discount": discount}
    counts = jnp.zeros(25, jnp.int32)
    for values in (
        *(
            prediction.td_lambda(*arguments, **settings, lambda_=0.8, traces=traces)[0]
            for traces in TRACES
        ),
        prediction.n_step_td(*arguments, **settings, num_steps=4).values,
        prediction.offline_lambda(*arguments, **settings, lambda_=1.0).values,
        prediction.monte_carlo(arguments[0], counts, trajectory, discount=discount)[0],
        prediction.batch_td(*arguments, discount=discount),
    ):
        errors = np.abs(values - exact)[seen]
        assert 0 < errors.max() < 0.1
