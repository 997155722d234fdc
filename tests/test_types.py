"""What the bases of environments and agents do by default, and a plan's arithmetic."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rljax
from rljax import rollout, struct
from rljax.types import Buffer, RolloutPlan, is_buffer, without_buffers
from tests.test_contract import Planned
from tests.test_rollout import Counter, Pusher


def test_a_plan_counts_its_steps():
    plan = RolloutPlan(num_envs=3, rollout_length=12)
    assert (plan.num_steps, plan.block) == (36, 12)
    assert type(plan.num_steps) is int
    assert plan._replace(update_every=4).block == 4
    assert Pusher().rollout_plan == RolloutPlan(2, 4, None, False, 1)


@struct.dataclass
class Walk(rljax.Env):
    """Adds its noise to its state: `draw` and `advance`, but no `step`."""

    scale: float = 2.0

    @property
    def observation_space(self):
        return rljax.spaces.Box(-jnp.inf, jnp.inf, ())

    action_space = observation_space

    def reset(self, key):
        start = jax.random.normal(key)
        return start, start

    def draw(self, shape, key):
        return jax.random.normal(key, shape)

    def advance(self, state, action, noise):
        state = state + self.scale * noise
        never = jnp.bool_(False)
        return state, rljax.TimeStep(state, action, never, never)


def test_a_step_is_an_advance_with_new_noise(key):
    state, time_step = Walk().step(jnp.float32(1), jnp.float32(7), key)
    expected = 1 + 2 * jax.random.normal(key, ())
    np.testing.assert_array_equal((state, time_step.obs), [expected] * 2)
    assert time_step.reward == 7


class Plain(rljax.Env):
    """Has a `step`, from which the rest follows."""

    observation_space = action_space = rljax.spaces.Discrete(2)
    reset = None

    def step(self, state, action, key):
        return ("stepped", state, action), key


def test_the_noise_of_a_plain_environment_is_its_key(key):
    env = Plain()
    words = jax.random.key_data(env.draw((), key))
    np.testing.assert_array_equal(words, jax.random.key_data(key))
    assert env.draw((2, 3), key).shape == (2, 3)
    assert env.advance(1, 2, key) == (("stepped", 1, 2), key)
    with pytest.raises(
        TypeError, match="Plain can't enumerate itself: it has no to_mdp"
    ):
        env.to_mdp()


class Remembering(rljax.Agent):
    """Plays what it remembers, and remembers one more."""

    num_envs = rollout_length = 1
    init = update = None

    def init_memory(self, state):
        return state

    def draw(self, state, shape, key):
        return jax.random.normal(key, shape)

    def decide(self, state, obs, noise, memory=()):
        return memory, {"noise": noise}, memory + 1

    def decide_greedily(self, state, obs, memory):
        return memory + obs, memory + 1


def test_act_and_greedy_are_decisions_at_the_start_of_an_episode(key):
    action, extras = Remembering().act(5, 0, key)
    assert (action, extras["noise"]) == (5, jax.random.normal(key, ()))
    assert Remembering().greedy(5, 2) == 7


def test_an_agent_that_acts_keeps_its_memory(key):
    agent = Pusher()
    assert agent.init_memory(()) == ()
    action, extras, memory = agent.decide((), 3, key, "memory")
    assert (action, extras, memory) == (1, {"seen": 3}, "memory")
    assert agent.decide_greedily((), 3, "memory") == (1, "memory")
    assert agent.draw((), (4,), key).shape == (4,)


def test_buffers_are_left_out_of_what_is_learned():
    tree = {"params": 1.0, "replay": Buffer({"obs": 2.0}), "deeper": [Buffer(3.0), 4.0]}
    assert jax.tree.leaves(without_buffers(tree)) == [4.0, 1.0]
    assert Pusher().learned(tree) == without_buffers(tree)
    assert is_buffer(Buffer(1.0)) and not is_buffer((1.0,))


def test_a_group_begins_with_one_reset(key):
    plan = RolloutPlan(6, 4, fresh_episodes=True, group_size=2)
    obs = rollout.start_all(Planned(plan), (), Walk(), key).obs
    np.testing.assert_array_equal(obs[::2], obs[1::2])
    assert len(np.unique(obs)) == 3
    alone = rollout.start_all(Planned(RolloutPlan(6, 4)), (), Walk(), key).obs
    assert len(np.unique(alone)) == 6


def test_what_would_go_unseen_is_refused():
    with pytest.raises(TypeError, match="Late overrides step but inherits advance"):

        class Late(Walk):
            def step(self, state, action, key):
                return super().step(state, action, key)

    with pytest.raises(
        TypeError, match="Bold overrides greedy but inherits decide_gre"
    ):

        class Bold(Remembering):
            def greedy(self, state, obs):
                return 0

    class Both(Walk):  # with both it is fine
        step, advance = Counter.step, Walk.advance

    class Anew(Remembering):
        act, decide = Pusher.act, Remembering.decide

    assert issubclass(Both, rljax.Env) and issubclass(Anew, rljax.Agent)
