"""What breaks a contract is refused by name; what the bases offer comes by default."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import rljax
from rljax import contract, spaces, struct
from rljax.testing.common import require_element
from rljax.types import RolloutPlan
from tests import probes
from tests.test_rollout import Counter, Pusher

CARTPOLE = rljax.CartPole()


@struct.dataclass
class Planned(Pusher):
    """Always plays action 1, by any plan."""

    plan: RolloutPlan = struct.static(default=RolloutPlan(2, 4))

    @property
    def rollout_plan(self):
        return self.plan


@pytest.mark.parametrize(
    ("plan", "error", "message"),
    [
        ((2, 4), TypeError, "rollout_plan must be a RolloutPlan, got"),
        (RolloutPlan(0, 4), ValueError, "Planned.num_envs must be at least 1, got 0"),
        (RolloutPlan(2, 4.5), TypeError, "Planned.rollout_length must be an integer"),
        (RolloutPlan(2, 4, 3), ValueError, r"update_every must divide .* 4, got 3"),
        (
            RolloutPlan(3, 4, fresh_episodes=True, group_size=2),
            ValueError,
            "Planned.group_size must divide num_envs = 3, got 2",
        ),
        (RolloutPlan(2, 4, fresh_episodes="no"), TypeError, "must be True or False"),
        (RolloutPlan(4, 4, group_size=2), ValueError, "must be 1 without fresh_epi"),
    ],
)
def test_a_plan_that_can_not_be_followed_is_refused(plan, error, message, key):
    with pytest.raises(error, match=message):
        rljax.train(Planned(plan), Counter(), key, num_updates=1)


def test_updates_come_as_often_as_the_plan_says(key):
    def run(update_every, num_envs=2):
        plan = RolloutPlan(num_envs, 12, update_every)
        return rljax.train(Planned(plan), Counter(), key, num_updates=2)[1]

    # The metric is the length of what `update` was given.
    for update_every, length in ((None, 12), (12, 12), (4, 4), (1, 1)):
        for num_envs in (1, 2):
            metrics = run(update_every, num_envs)
            np.testing.assert_array_equal(metrics.agent["length"], [length] * 2)
            # Episodes of three steps, whatever the updates.
            np.testing.assert_array_equal(metrics.num_episodes, [4 * num_envs] * 2)
            np.testing.assert_array_equal(metrics.episode_return, [6, 6])


def test_fresh_episodes_may_be_learned_from_in_parts(key):
    plan = RolloutPlan(2, 12, update_every=2, fresh_episodes=True)
    _, metrics = rljax.train(Planned(plan), Counter(), key, num_updates=2)
    np.testing.assert_array_equal(metrics.num_episodes, [2, 2])  # the first of each


class Returning(Pusher):
    """Returns what it is told to."""

    def __init__(self, **returned):
        self.returned = returned

    def decide(self, state, obs, noise, memory=()):
        default = (jnp.int32(1), {"seen": obs}, memory)
        return self.returned.get("decide", default)

    def update(self, state, trajectory, key):
        return self.returned.get("update", (state, {}))


jax.tree_util.register_static(Returning)


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        ({"decide": (jnp.int32(1), ())}, "Returning.decide must return .action, extra"),
        ({"decide": (jnp.int32(1), (), jnp.zeros(2))}, "memory must have the structur"),
        ({"update": ()}, r"Returning.update must return \(state, metrics\)"),
        ({"update": ((), 3.0)}, r"Returning.update must return \(state, metrics\)"),
        ({"update": ((), {"n": "many"})}, "metrics that are numbers by name"),
        ({"update": ((), {"n": None})}, "metrics that are numbers by name"),
    ],
)
def test_what_an_agent_returns_is_looked_at(returned, message, key):
    with pytest.raises(TypeError, match=message):
        rljax.train(Returning(**returned), Counter(), key, num_updates=1)


def test_integer_metrics_do_not_overflow(key):
    # Summed up over the updates of a rollout, they would in their own dtype.
    @struct.dataclass
    class Large(Planned):
        def update(self, state, trajectory, key):
            return state, {"n": jnp.int32(2**30), "x": 1}

    agent = Large(RolloutPlan(2, 8, update_every=2))
    _, metrics = rljax.train(agent, Counter(), key, num_updates=1)
    assert metrics.agent["n"] == 2.0**30
    assert metrics.agent["x"] == 1


@struct.dataclass
class Growing(Counter):
    """Its steps return something of another shape than its reset."""

    state: bool = struct.static(default=False)

    def step(self, state, action, key):
        state, time_step = super().step(state, action, key)
        if self.state:
            return state[None], time_step
        return state, time_step._replace(obs=time_step.obs[None])


@pytest.mark.parametrize("state", [False, True])
def test_steps_of_another_shape_than_resets_are_refused(state, key):
    message = rf"Growing.step's \(state, obs\)\[{int(not state)}\] must have the shape"
    with pytest.raises(ValueError, match=message):
        rljax.train(Pusher(), Growing(state), key, num_updates=1)


@struct.dataclass
class Walk(rljax.Env):
    """Cells 0, 1, … up to the last, 5: five steps of reward 1."""

    num_cells: int = struct.static(default=6)
    first: int = struct.static(default=0)

    @property
    def observation_space(self):
        return spaces.Discrete(self.num_cells)

    @property
    def action_space(self):
        return spaces.Discrete(2)

    def reset(self, key):
        return jnp.asarray(self.first, jnp.int32), jnp.asarray(self.first, jnp.int32)

    def step(self, state, action, key):
        state, never = state + 1, jnp.zeros((), bool)
        return state, rljax.TimeStep(state, jnp.ones(()), state >= 5, never)


@pytest.mark.parametrize(
    ("env", "num_cells", "broken"),
    [
        (Walk(6), 6, False),
        # Beyond its end a table was read as its last row: Q = 379 where 5 is right.
        (Walk(3), 3, True),
        # The last cell is terminal and its value does not count.
        (Walk(5), 5, False),
    ],
)
def test_a_space_that_is_too_small_breaks_the_table(env, num_cells, broken, key):
    agent = rljax.QLearning(discount=1.0, step_size=0.5, rollout_length=400)
    state, metrics = rljax.train(agent, env, key, num_updates=1)
    q_values = np.asarray(state.agent_state.q_values)
    assert np.isnan(q_values).any() == np.isnan(metrics.episode_return[0]) == broken
    if not broken:
        best = 5 - np.arange(5)
        np.testing.assert_allclose(q_values.max(axis=1)[:5], best, rtol=1e-3)


def test_a_reset_out_of_its_space_shows_in_the_returns(key):
    # Every episode is one step from cell 4, which the space does not have.
    _, metrics = rljax.train(Planned(), Walk(3, first=4), key, num_updates=1)
    assert metrics.num_episodes[0] == 8 and np.isnan(metrics.episode_return[0])
    _, metrics = rljax.train(Planned(), Walk(5, first=4), key, num_updates=1)
    assert metrics.episode_return[0] == 1


@pytest.mark.parametrize("obs", [-1, 3, 2**31 - 1])
def test_a_step_out_of_its_space_pays_nan(obs, key):
    def paid(obs, terminated):
        class Jumps(Walk):
            def step(self, state, action, key):
                return state, rljax.TimeStep(obs, 1, terminated, False)

        env = Jumps(3)
        return contract.advance(env, jnp.int32(0), jnp.int32(0), key)[1].reward

    assert np.isnan(paid(jnp.int32(obs), False))
    assert paid(jnp.int32(obs), True) == paid(jnp.int32(2), False) == 1


@struct.dataclass
class Senses(rljax.Env):
    """Observations of two arrays, as a dictionary or as a tuple."""

    kind: Any = struct.static(default=dict)

    def of(self, place, sign):
        if self.kind is dict:
            return {"place": place, "sign": sign}
        return place, sign

    @property
    def observation_space(self):
        return self.of(spaces.Box(-1.0, 1.0, (3,)), spaces.Discrete(2))

    @property
    def action_space(self):
        return spaces.Discrete(2)

    def reset(self, key):
        place, sign = jnp.zeros(3), jax.random.bernoulli(key).astype(jnp.int32)
        return sign, self.of(place, sign)

    def step(self, state, action, key):
        right = (action == state).astype(float)
        obs = self.of(jnp.ones(3) * right, state)
        return state, rljax.TimeStep(obs, right, right > 0, jnp.zeros((), bool))


class Reads:
    """A network that reads the two arrays of `Senses`."""

    def init(self, key, obs):
        place, sign = jax.tree.leaves(obs)
        assert (place.shape, sign.dtype) == ((3,), jnp.int32)
        return jnp.zeros((4, 2))

    def apply(self, params, obs):
        place, sign = jax.tree.leaves(obs)
        return jnp.append(place, sign.astype(float)) @ params, jnp.zeros(())


@pytest.mark.parametrize("kind", [dict, tuple])
def test_observations_may_be_trees_for_a_network_that_reads_them(kind, key):
    env = rljax.TimeLimit(Senses(kind), 4)
    if kind is dict:
        rljax.testing.check_env(env, key, num_steps=3)
    agent = rljax.PPO(**SMALL, network=Reads(), num_minibatches=1, num_epochs=1)

    def run(key):
        state, metrics = rljax.train(agent, env, key, num_updates=2)
        state = state.agent_state
        out = rljax.evaluate(agent, state, env, key, num_episodes=2)
        return metrics.agent["policy_loss"], out.episode_returns

    assert [x.shape for x in jax.eval_shape(run, key)] == [(2,), (2,)]
    with pytest.raises(TypeError, match="QLearning keeps a table over finitely many"):
        rljax.train(rljax.QLearning(), env, key, num_updates=1)


class Angle(spaces.Space):
    """A space of the user's."""

    shape, dtype = (), float

    def sample(self, key):
        return jax.random.uniform(key, (), float, 0, 2 * np.pi)

    def contains(self, value):
        return (value >= 0) & (value < 2 * np.pi)


def test_own_networks_refuse_spaces_that_they_do_not_know(key):
    @struct.dataclass
    class Turning(Senses):
        @property
        def observation_space(self):
            return {"place": spaces.Box(-1.0, 1.0, (3,)), "sign": Angle()}

    for own in (rljax.PPO(), rljax.Reinforce()):
        with pytest.raises(TypeError, match=r"own networks take .*Pass \w+.network="):
            rljax.train(own, Turning(), key, num_updates=1)


def test_a_tree_of_observations_must_be_that_of_its_space(key):
    class Blind(Senses):
        def reset(self, key):
            state, obs = super().reset(key)
            return state, {"place": obs["place"]}

    class Flat(Senses):
        def reset(self, key):
            state, obs = super().reset(key)
            return state, obs | {"place": jnp.zeros(2)}

    with pytest.raises(
        ValueError, match="Blind.reset must return observations with th"
    ):
        contract.reset(Blind(), key)
    with pytest.raises(ValueError, match=r"Flat.reset must return .* of shape \(3,\)"):
        contract.reset(Flat(), key)
    with pytest.raises(AssertionError, match="obs does not fit its space"):
        require_element(Senses().observation_space, {"place": jnp.zeros(3)}, "obs")


def test_an_agent_may_be_one_array(key):
    @struct.dataclass
    class Bare(Planned):
        def init(self, key, env):
            return jnp.zeros(())

    state, _ = rljax.train(Bare(), Counter(), key, num_updates=1)
    out = rljax.evaluate(Bare(), state.agent_state, Counter(), key, num_episodes=2)
    np.testing.assert_array_equal(out.episode_returns, [6, 6])


def test_who_does_not_derive_from_agent_is_refused(key):
    class Stranger:
        num_envs = rollout_length = 1
        init = act = greedy = update = None

    for agent in (Stranger(), Pusher, "ppo"):
        with pytest.raises(TypeError, match="agent must be an agent, derived from"):
            rljax.train(agent, Counter(), key, num_updates=1)


def test_halves_of_a_contract_are_named(key):
    class Idle(rljax.Agent):
        num_envs = rollout_length = 1
        init = update = None

    jax.tree_util.register_static(Idle)
    with pytest.raises(TypeError, match="Idle must define act or decide"):
        contract.require_agent(Idle())
    Idle.act = Pusher.act
    with pytest.raises(TypeError, match="Idle must define greedy or decide_greedily"):
        contract.require_agent(Idle())

    Idle.greedy, Idle.draw = Pusher.greedy, lambda self, state, shape, key: ()
    with pytest.raises(TypeError, match="Idle must define decide, as it defines draw"):
        contract.require_agent(Idle())
    Idle.decide, Idle.init_memory = rljax.QLearning.decide, lambda self, state: 0.0
    with pytest.raises(TypeError, match="Idle must define decide and decide_greedily"):
        contract.require_agent(Idle())

    class Still(rljax.Env):
        observation_space = CARTPOLE.observation_space
        action_space = CARTPOLE.action_space
        reset = None

    jax.tree_util.register_static(Still)
    with pytest.raises(TypeError, match="Still must define step or advance"):
        contract.require_env(Still())
    Still.step, Still.draw = CARTPOLE.step, lambda self, shape, key: ()
    with pytest.raises(TypeError, match="Still must define advance, as it defines dr"):
        contract.require_env(Still())
    with pytest.raises(TypeError, match="overrides act but inherits decide"):

        class Impulsive(rljax.QLearning):
            def act(self, state, obs, key):
                return super().act(state, obs, key)


def test_of_each_pair_of_methods_one_is_enough():
    class Plain(rljax.Agent):
        num_envs = rollout_length = 1
        init = update = None
        act, greedy = Pusher.act, Pusher.greedy

    class Remembering(rljax.Agent):
        num_envs = rollout_length = 1
        init = update = None

        def decide(self, state, obs, noise, memory=()):
            return jnp.int32(1), (), memory

        def decide_greedily(self, state, obs, memory):
            return jnp.int32(1), memory

    for kind in (Plain, Remembering):
        jax.tree_util.register_static(kind)
        assert contract.require_agent(kind()) == RolloutPlan(1, 1)
        assert kind().greedy((), ZERO) == 1


def test_an_agent_of_words_acts_as_one_of_keys(key):
    # `draw` and `decide`, or `act`: the same decisions where the words are the same.
    agent, obs = rljax.QLearning(), jnp.zeros((), jnp.int32)
    state = agent.init(key, rljax.GridWorld())
    action, extras = agent.act(state, obs, key)
    decided = agent.decide(state, obs, agent.draw(state, (), key))
    assert (action, extras) == decided[:2]
    ppo = rljax.PPO(hidden_sizes=(4,))
    state = ppo.init(key, CARTPOLE)
    action, extras = ppo.act(state, jnp.zeros(4), key)
    decided = ppo.decide(state, jnp.zeros(4), ppo.draw(state, (), key))
    assert (action, extras, ()) == decided
    assert ppo.decide_greedily(state, jnp.zeros(4), ())[1] == ()


def test_plain_environments_get_the_defaults_of_env(key):
    noise = contract.draw_noise(probes.Endless(), (3,), key)
    assert noise.shape == (3,)
    with pytest.raises(TypeError, match="Endless can't enumerate itself"):
        rljax.TimeLimit(probes.Endless(), 3).to_mdp()


SMALL = {"num_envs": 2, "rollout_length": 8, "hidden_sizes": (4,)}


@pytest.mark.slow
@pytest.mark.parametrize(
    "agent",
    [
        rljax.PPO(**SMALL, num_minibatches=1, num_epochs=1),
        rljax.ActorCritic(**SMALL),
        rljax.Reinforce(**SMALL),
    ],
    ids=lambda agent: type(agent).__name__,
)
def test_every_policy_gradient_agent_takes_optimiser_and_annealing(agent, key):
    # Plain gradient ascent at a rate that falls from 0.1 to 0 in two updates.
    settings = {"optimizer": optax.sgd, "learning_rate": 0.1, "anneal_updates": 2}
    kind = type(agent)
    agent = kind(**SMALL, **settings, max_grad_norm=1e-3)
    state = rljax.init_train(agent, CARTPOLE, key)
    step, moves = jax.jit(rljax.train_step), []
    for _ in range(3):
        after, _ = step(agent, CARTPOLE, state)
        moved = jax.tree.map(
            jnp.subtract, after.agent_state.params, state.agent_state.params
        )
        moves.append(float(optax.tree.norm(moved)))
        state = after
    num_steps = 16 if kind is rljax.PPO else 1  # 4 epochs of 4 minibatches
    assert 0 < moves[0] <= 0.1 * 1e-3 * num_steps * 1.001
    assert moves[1] < 0.6 * moves[0]
    assert moves[2] == 0


class Showing(Counter):
    """Its reset returns any observation in any space."""

    def __init__(self, obs, space=None):
        self.obs, self.space = obs, space

    @property
    def observation_space(self):
        return self.space or super().observation_space

    def reset(self, key):
        return jnp.zeros((), jnp.int32), self.obs


class Words(rljax.spaces.Space):
    """A space of another kind than ours: trees."""

    shape, dtype = None, None

    def sample(self, key):
        return {"a": jnp.zeros(2), "b": jnp.zeros(())}

    def contains(self, value):
        return True


ZERO = jnp.zeros((), jnp.int32)


@pytest.mark.parametrize("obs", [{"a": ZERO}, (ZERO,), (ZERO, ZERO), {}, ZERO[None]])
def test_an_observation_is_one_array_where_its_space_is_one(obs, key):
    with pytest.raises(
        ValueError, match=r"Showing.reset must return observations of s"
    ):
        contract.reset(Showing(obs), key)


def test_other_spaces_may_have_trees_of_observations(key):
    obs = Words().sample(key)
    assert contract.reset(Showing(obs, Words()), key)[1] is obs
    box = rljax.spaces.Box(0.0, 1.0, (2,))
    for values in (jnp.zeros(2), jnp.zeros(2, jnp.int32)):  # a box may hold integers
        assert contract.reset(Showing(values, box), key)[1] is values


def test_metrics_may_be_numbers_of_any_kind():
    metrics = {
        "a": 1,
        "b": 2.0,
        "c": np.float32(3),
        "d": np.array(4),
        "e": jnp.ones(()),
    }
    for pair in (((), metrics), [(), metrics]):
        state, found = contract.update(Returning(update=pair), (), None, None)
        assert state == ()
        assert {name: float(x) for name, x in found.items()} == {
            "a": 1,
            "b": 2,
            "c": 3,
            "d": 4,
            "e": 1,
        }
        assert all(isinstance(x, jax.Array) for x in found.values())
    for wrong in (((), metrics, ()), ((),), {}, ((), {1: 2.0})):
        with pytest.raises(TypeError, match=r"Returning.update must return "):
            contract.update(Returning(update=wrong), (), None, None)
