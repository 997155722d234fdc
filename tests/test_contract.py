"""What breaks a contract is refused by name; what the bases offer comes by default."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import rljax
from rljax import contract, struct
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
