"""Keeping the best agent state: which one it is, and that training does not notice."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rljax
from rljax import struct
from rljax.experiment.checkpoint import CheckpointError, Checkpoints
from tests.test_rollout import Counter, Pusher


class Clock(Pusher):
    """Its state is the number of updates."""

    def init(self, key, env):
        return jnp.zeros((), jnp.int32)

    def greedy(self, state, obs):
        return state

    def update(self, state, trajectory, key):
        return state + 1, {}


jax.tree_util.register_static(Clock)


@struct.dataclass
class Payday(Counter):
    """One step, which pays the action."""

    def step(self, state, action, key):
        end, reward = jnp.bool_(True), action.astype(float)
        return state, rljax.TimeStep(state, reward, end, ~end)


def by_table(*scores):
    return lambda agent, env, state: jnp.array([jnp.nan, *scores])[state]


@pytest.mark.parametrize(
    ("every", "scores", "best"),
    [
        (1, (0.0, 3.0, 1.0, 3.0, 2.0, -1.0), 4),  # of equals the latest
        (1, (0.0, jnp.nan, 1.0, jnp.nan, -2.0, -1.0), 3),  # NaN is never best
        (2, (9.0, 3.0, 9.0, 2.0, 9.0, 1.0), 2),  # odd updates are not scored
        (4, (9.0, 9.0, 9.0, -1.0, 9.0, 9.0), 4),
    ],
)
def test_the_state_with_the_highest_score_is_kept(every, scores, best, key):
    keep = rljax.KeepBest(every=every, score=by_table(*scores))
    state, _ = rljax.train(Clock(), Counter(), key, num_updates=6, keep_best=keep)
    assert state.agent_state == 6
    assert state.best == (best, scores[best - 1], best)


AGENT = rljax.Reinforce(
    num_envs=4, rollout_length=60, hidden_sizes=(4,), learning_rate=0.1
)
CARTPOLE = rljax.make("CartPole-v1", max_steps=60)


@pytest.mark.slow
def test_training_is_the_same_and_the_score_is_that_of_episodes():
    keys = jax.random.split(jax.random.key(0), 3)
    keep = rljax.KeepBest(every=1, num_episodes=4)

    def run(key, keep_best):
        return rljax.train(AGENT, CARTPOLE, key, num_updates=3, keep_best=keep_best)

    with_best, metrics = jax.vmap(lambda key: run(key, keep))(keys)
    plain, plain_metrics = jax.vmap(lambda key: run(key, None))(keys)
    jax.tree.map(  # of two programs, which may round differently
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
        (with_best._replace(best=(), key=()), metrics),
        (plain._replace(key=()), plain_metrics),
    )
    assert plain.best == ()
    # The scores again by hand: training to each scored update, and its fresh episodes.
    for i, key in enumerate(keys):
        scores = {}
        for num_updates in (1, 2, 3):
            state, _ = rljax.train(AGENT, CARTPOLE, key, num_updates=num_updates)
            episodes = rljax.evaluate(
                AGENT,
                state.agent_state,
                CARTPOLE,
                jax.random.fold_in(state.key, 4),
                num_episodes=4,
            )
            scores[num_updates] = float(episodes.episode_returns.mean())
        best = max(scores, key=lambda n: (scores[n], n))
        assert with_best.best.score[i] == scores[best]
        assert with_best.best.num_updates[i] == best


def test_vmapped_runs_are_scored_no_more_often_than_one():
    # Under vmap, a condition that differs from run to run would become a choice between
    # two results that are both computed.
    keep = rljax.KeepBest(every=5, score=lambda agent, env, state: jnp.sin(state * 1.0))

    def run(key):
        return rljax.train(Clock(), Counter(), key, num_updates=10, keep_best=keep)

    text = str(jax.make_jaxpr(jax.vmap(run))(jax.random.split(jax.random.key(0), 2)))
    before, after = text.split("cond[")
    assert "sin " in after
    assert "sin " not in before


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (
            lambda: rljax.KeepBest(every=0),
            ValueError,
            "KeepBest.every must be at least",
        ),
        (
            lambda: rljax.KeepBest(score=3),
            TypeError,
            "KeepBest.score must be a function",
        ),
        (
            lambda: rljax.KeepBest(greedy=1),
            TypeError,
            "KeepBest.greedy must be True or",
        ),
        (lambda: True, TypeError, "keep_best must be an rljax.KeepBest"),
        (lambda: rljax.KeepBest(every=7), ValueError, "at most num_updates = 6, got 7"),
    ],
)
def test_bad_settings_are_refused(make, error, message, key):
    with pytest.raises(error, match=message):
        rljax.train(Clock(), Counter(), key, num_updates=6, keep_best=make())


def test_a_sweep_keeps_resumes_and_evaluates_the_best(tmp_path, key):
    score = by_table(0.0, 5.0, 0.0, 4.0, 0.0, 3.0)

    def sweep(num_updates, every=2, **kwargs):
        return rljax.sweep(
            Clock(),
            Payday(),
            key,
            num_seeds=2,
            num_updates=num_updates,
            num_episodes=1,
            keep_best=rljax.KeepBest(every=every, score=score),
            checkpoints=Checkpoints(tmp_path),
            **kwargs,
        )

    sweep(3)
    outcome = sweep(6, resume=True)[0]
    np.testing.assert_array_equal(outcome.agent_state, 6)
    np.testing.assert_array_equal(outcome.train_state.best.agent_state, 2)
    np.testing.assert_array_equal(outcome.train_state.best.num_updates, 2)
    # The evaluation is that of the state that was kept: it pays 2, not 6.
    np.testing.assert_array_equal(outcome.evaluation.episode_returns, 2.0)
    with pytest.raises(CheckpointError, match="keep_best"):
        sweep(6, every=3, resume=True)
