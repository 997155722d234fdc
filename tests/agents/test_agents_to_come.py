"""The contract has room for what is to come: replay and memory.

Two throw-away agents, each the least that learns a probe of its faculty. They are
written as a user would, against `rljax.Agent` and its bases alone.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import rljax
from rljax import (
    distributions,
    exploration,
    losses,
    networks,
    returns,
    rollout,
    spaces,
    struct,
    testing,
)
from rljax.agents.base import gradient_step
from rljax.experiment import Checkpoints, faults, programs
from rljax.types import Buffer
from tests import probes


class DQNState(NamedTuple):
    params: Any
    target_params: Any
    opt_state: Any
    buffer: Buffer  # of transitions, leaves [capacity, …]
    num_updates: jax.Array


@struct.dataclass
class DQN(rljax.Agent):
    """Q-learning with a network and a replay buffer (Mnih et al. 2015)."""

    learning_rate: float = 1e-2
    discount: float = 0.9
    epsilon: float = 0.3
    num_envs: int = struct.static(default=2)
    rollout_length: int = struct.static(default=64)
    capacity: int = struct.static(default=256)
    batch_size: int = struct.static(default=32)

    @property
    def rollout_plan(self):
        return rljax.RolloutPlan(self.num_envs, self.rollout_length, update_every=4)

    def init(self, key, env):
        sizes = (*env.observation_space.shape, 32, env.action_space.n)
        params = networks.mlp_init(sizes, key)
        _, obs = jax.eval_shape(env.reset, key)
        flag, floating = jnp.zeros((), bool), jnp.zeros((), float)
        one = rljax.Transition(
            obs, jnp.zeros((), jnp.int32), floating, flag, flag, obs, ()
        )
        buffer = jax.tree.map(
            lambda x: jnp.zeros((self.capacity, *x.shape), x.dtype), one
        )
        opt_state = optax.adam(0.0).init(params)
        zero = jnp.zeros((), jnp.int32)
        return DQNState(params, params, opt_state, Buffer(buffer), zero)

    def q_values(self, params, obs):
        return networks.mlp_apply(params, obs, "relu")

    def act(self, state, obs, key):
        q_values = self.q_values(state.params, obs)
        return exploration.epsilon_greedy(q_values, self.epsilon, key), ()

    def greedy(self, state, obs):
        return distributions.greedy(self.q_values(state.params, obs))

    def update(self, state, trajectory, key):
        new = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), trajectory)
        size = len(new.reward)
        at = (state.num_updates * size + jnp.arange(size)) % self.capacity
        buffer = jax.tree.map(lambda b, x: b.at[at].set(x), state.buffer.content, new)
        filled = jnp.minimum((state.num_updates + 1) * size, self.capacity)
        drawn = jax.random.randint(key, (self.batch_size,), 0, filled)
        batch = jax.tree.map(lambda x: x[drawn], buffer)
        over_batch = jax.vmap(self.q_values, (None, 0))
        next_q_values = over_batch(state.target_params, batch.next_obs)

        def loss_fn(params):
            errors = losses.td_errors(
                over_batch(params, batch.obs),
                batch.action,
                batch.reward,
                next_q_values,
                batch.terminated,
                self.discount,
            )
            return jnp.mean(jnp.square(errors))

        loss, grads = jax.value_and_grad(loss_fn)(state.params)
        params, opt_state, _ = gradient_step(
            optax.adam(self.learning_rate), grads, state.params, state.opt_state
        )
        target = optax.incremental_update(params, state.target_params, 0.1)
        state = DQNState(
            params, target, opt_state, Buffer(buffer), state.num_updates + 1
        )
        return state, {"loss": loss}


def test_dqn_learns_what_actions_lead_to(key):
    state, metrics = rljax.train(DQN(), probes.DelayedReward(), key, num_updates=20)
    agent, state = DQN(), state.agent_state
    assert state.num_updates == 20 * 64 / 4  # an update after every four steps
    assert metrics.agent["loss"].shape == (20,)
    values = agent.q_values(state.params, jnp.zeros(1))
    np.testing.assert_allclose(values, [-0.9, 0.9], atol=0.1)
    assert agent.greedy(state, jnp.zeros(1)) == 1


@pytest.mark.slow
def test_dqn_keeps_the_contract(key):
    testing.check_agent(DQN(rollout_length=8), probes.ActionDependent(), key)


def sweep(agent, key, **settings):
    settings = {"num_seeds": 2, "num_updates": 4, "num_episodes": 2} | settings
    return rljax.sweep(agent, probes.ActionDependent(), key, **settings)


@pytest.mark.slow
def test_sweeps_leave_buffers_where_they_are(key, tmp_path):
    agent = DQN(rollout_length=8)
    whole = sweep(agent, key)
    assert whole.outcomes[0].agent_state.buffer == Buffer(())
    assert whole.scores.shape == (1, 2)
    # A checkpoint holds them: what goes on from it is bitwise what was not stopped.
    for num_updates in (2, 4):
        checkpoints = Checkpoints(tmp_path, interval=0)
        resumed = sweep(
            agent, key, num_updates=num_updates, checkpoints=checkpoints, resume=True
        )
    jax.tree.map(
        np.testing.assert_array_equal,
        whole.outcomes[0].agent_state,
        resumed.outcomes[0].agent_state,
    )


@pytest.mark.slow
def test_a_frozen_run_neither_selects_its_buffer_nor_harms_its_neighbour(key):
    @struct.dataclass
    class Exploding(DQN):
        """Its parameters become NaN in the first update where `explodes` is above 0."""

        explodes: float = 0.0

        def update(self, state, trajectory, key):
            state, metrics = super().update(state, trajectory, key)
            bad = jnp.where(self.explodes > 0, jnp.nan, 1.0)
            params = jax.tree.map(lambda x: x * bad, state.params)
            return state._replace(params=params), metrics

    agent = Exploding(rollout_length=8)
    with pytest.warns(RuntimeWarning, match="became NaN or infinite in update 1"):
        both = sweep(agent, key, settings={"explodes": [0.0, 1.0]}, num_episodes=0)
    sound = sweep(agent, key, settings={"explodes": [0.0, -1.0]}, num_episodes=0)
    jax.tree.map(
        np.testing.assert_array_equal,
        both.outcomes[0].agent_state,
        sound.outcomes[0].agent_state,
    )
    assert (both.outcomes[1].agent_state.num_updates == 0).all()


def test_a_sweep_neither_looks_into_a_buffer_nor_copies_it(key):
    state = DQN().init(key, probes.ActionDependent())

    def keep(state, new):
        broken = faults.is_broken(new, state)
        return broken, programs._select(broken.any(), state, new)

    jaxpr = jax.make_jaxpr(keep)(state, state)
    shapes = [out.aval.shape for eqn in jaxpr.eqns for out in eqn.outvars]
    assert shapes
    assert not any(shape[:1] == (DQN().capacity,) for shape in shapes)


class RecallState(NamedTuple):
    cue: jax.Array
    time: jax.Array


@struct.dataclass
class Recall:
    """Shows a cue of ±1 at first, then 0; the last action must name the cue."""

    length: int = struct.static(default=4)

    @property
    def observation_space(self):
        return spaces.Box(-1.0, 1.0, (1,))

    @property
    def action_space(self):
        return spaces.Discrete(2)

    def reset(self, key):
        cue = jax.random.rademacher(key, (1,), float)
        return RecallState(cue, jnp.zeros((), jnp.int32)), cue

    def step(self, state, action, key):
        time = state.time + 1
        last = time == self.length
        right = (action == 1) == (state.cue[0] > 0)
        reward = jnp.where(last, jnp.where(right, 1.0, -1.0), 0.0)
        return RecallState(state.cue, time), rljax.TimeStep(
            jnp.zeros(1), reward, last, jnp.zeros_like(last)
        )


@struct.dataclass
class GRUPolicy(rljax.agents.PolicyAgent):
    """REINFORCE through a gated recurrent unit (Cho et al. 2014), over any episodes."""

    learning_rate: float = 2e-2
    width: int = struct.static(default=8)

    def init_params(self, key, env):
        keys = jax.random.split(key, 4)
        inputs = env.observation_space.shape[0] + self.width
        gates = [networks.he_normal(inputs, self.width, k) for k in keys[:3]]
        return gates, networks.he_normal(self.width, env.action_space.n, keys[3])

    def init_memory(self, state):
        return jnp.zeros(self.width, float)

    def recur(self, params, memory, obs):
        (update, reset, candidate), head = params
        both = jnp.concatenate([obs, memory])
        z = jax.nn.sigmoid(both @ update.kernel + update.bias)
        r = jax.nn.sigmoid(both @ reset.kernel + reset.bias)
        both = jnp.concatenate([obs, r * memory])
        memory = (1 - z) * memory + z * jnp.tanh(
            both @ candidate.kernel + candidate.bias
        )
        return memory, memory @ head.kernel + head.bias

    def decide(self, state, obs, noise, memory=()):
        after, logits = self.recur(state.params, memory, obs)
        action = distributions.categorical_sample(logits, noise)
        return action, {"memory": memory, "logits": logits}, after

    act, greedy = rljax.Agent.act, rljax.Agent.greedy  # by the two below

    def decide_greedily(self, state, obs, memory):
        memory, logits = self.recur(state.params, memory, obs)
        return distributions.greedy(logits), memory

    def unrolled(self, params, trajectory):
        """Logits [T, A] of one trajectory, anew from its first memory."""

        def step(memory, x):
            obs, done = x
            memory, logits = self.recur(params, memory, obs)
            return jnp.where(done, 0, memory), logits

        done = trajectory.terminated | trajectory.truncated
        first = trajectory.extras["memory"][0]
        return jax.lax.scan(step, first, (trajectory.obs, done))[1]

    def update(self, state, trajectory, key):
        zeros = jnp.zeros_like(trajectory.reward)
        ends = (trajectory.terminated, trajectory.truncated)
        weights = jax.vmap(returns.discounted_returns, (1, 1, 1, 1, None), 1)(
            trajectory.reward, zeros, *ends, 1.0
        )

        def loss_fn(params):
            over_envs = jax.vmap(functools.partial(self.unrolled, params), 1, 1)
            log_probs = distributions.categorical_log_prob(
                over_envs(trajectory), trajectory.action
            )
            return losses.policy_gradient_loss(log_probs, weights)

        state, norm = self.apply_gradients(state, jax.grad(loss_fn)(state.params))
        return state, {"grad_norm": norm}


@struct.dataclass
class Forgetful(GRUPolicy):
    """The same, but every decision starts from an empty memory."""

    def decide_greedily(self, state, obs, memory):
        return super().decide_greedily(state, obs, 0 * memory)[0], memory


GRU = GRUPolicy(num_envs=32, rollout_length=10)  # episodes of 4 go over its ends


@pytest.mark.slow
def test_a_gru_remembers_the_cue(key):
    state, _ = rljax.train(GRU, Recall(), key, num_updates=150)
    out = rljax.evaluate(GRU, state.agent_state, Recall(), key, num_episodes=64)
    np.testing.assert_array_equal(out.episode_returns, 1.0)
    # Without its memory it earns nothing: all it sees at the end is 0.
    blind = Forgetful(num_envs=2)
    out = rljax.evaluate(blind, state.agent_state, Recall(), key, num_episodes=256)
    assert abs(out.episode_returns.mean()) < 0.3


@pytest.mark.slow
def test_what_the_gru_learns_from_is_what_it_did(key):
    # Logits of the rollout, with the memory carried and reset by it, are those that
    # `update` recomputes from the first memory and the ends of episodes.
    start = rljax.init_train(GRU, Recall(), key)
    done = rollout.interact(
        GRU,
        start.agent_state,
        Recall(),
        start.rollout_state,
        *jax.random.split(key),
        record=lambda env_state, x: (env_state.time, x),
    )
    times, walk = done.records
    again = jax.vmap(functools.partial(GRU.unrolled, start.agent_state.params), 1, 1)(
        walk
    )
    np.testing.assert_allclose(walk.extras["logits"], again, rtol=1e-5, atol=1e-6)
    # Empty exactly where an episode starts: neither a step early nor late.
    empty = (walk.extras["memory"] == 0).all(-1)
    np.testing.assert_array_equal(empty, times == 0)
    assert 0 < empty.sum() < empty.size


@pytest.mark.slow
def test_the_gru_keeps_the_contract(key):
    testing.check_agent(GRUPolicy(num_envs=2, rollout_length=5), Recall(), key)
