"""check_agent: every shipped agent passes, and every planted break is named."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rljax
from rljax import struct, testing
from tests import probes
from tests.conftest import enable_x64

GRID = rljax.TimeLimit(rljax.GridWorld(("A..", ".P.", "..G"), slip=0.3), 7)
SMALL = {"num_envs": 2, "rollout_length": 4}
DEEP = {**SMALL, "hidden_sizes": (4,)}
UCB = rljax.exploration.UCB()


def slow(agent):
    return pytest.param(agent, marks=pytest.mark.slow)


TABULAR = [
    slow(rljax.QLearning(**SMALL)),
    rljax.QLearning(**SMALL, step_size=None, exploration=UCB),
    slow(rljax.Sarsa(**SMALL)),
    rljax.Sarsa(**SMALL, lambda_=0.8),
    slow(rljax.ExpectedSarsa(**SMALL)),
    rljax.DoubleQLearning(**SMALL),
    rljax.DynaQ(**SMALL, num_planning_steps=2),
    rljax.GradientBandit(**SMALL),
]


@pytest.mark.slow
@pytest.mark.parametrize("agent", TABULAR, ids=lambda agent: type(agent).__name__)
def test_tabular_agents_keep_the_contract(agent, key):
    testing.check_agent(agent, GRID, key)


@pytest.mark.slow
@pytest.mark.parametrize(
    "agent",
    [
        slow(rljax.PPO(**DEEP, num_minibatches=2)),
        slow(rljax.ActorCritic(**DEEP)),
        rljax.Reinforce(**DEEP),
    ],
    ids=lambda agent: type(agent).__name__,
)
def test_policy_gradient_agents_keep_the_contract(agent, key):
    testing.check_agent(agent, probes.ActionDependent(), key)


@pytest.mark.slow
def test_the_contract_in_x64():
    with enable_x64():
        agent = rljax.Reinforce(**DEEP)
        testing.check_agent(agent, probes.ActionDependent(), jax.random.key(0))


@struct.dataclass
class Counter(rljax.Agent):
    """The least that keeps the contract; the planted breaks change a method of it."""

    step: float = 1.0
    num_envs: int = struct.static(default=2)
    rollout_length: int = struct.static(default=3)

    def init(self, key, env):
        return {"total": jnp.zeros((), float)}

    def act(self, state, obs, key):
        return jax.random.randint(key, (), 0, 2, jnp.int32), ()

    def greedy(self, state, obs):
        return jnp.zeros((), jnp.int32)

    def update(self, state, trajectory, key):
        assert trajectory.reward.shape == (self.rollout_length, self.num_envs)
        total = state["total"] + self.step * jnp.sum(trajectory.reward)
        return {"total": total}, {"total": total}


@struct.dataclass
class Alternating(Counter):
    """Draws nothing, and does in turn what its memory says."""

    act, greedy = rljax.Agent.act, rljax.Agent.greedy

    def draw(self, state, shape, key):
        return ()

    def init_memory(self, state):
        return jnp.zeros((), jnp.int32)

    def decide(self, state, obs, noise, memory=()):
        return memory, (), 1 - memory

    def decide_greedily(self, state, obs, memory):
        return memory, 1 - memory


def broken(base, **methods):
    return struct.dataclass(type("Broken", (base,), methods))()


def counter(**methods):
    return broken(Counter, **methods)


def test_the_least_agent_keeps_the_contract(key):
    testing.check_agent(Counter(), probes.ActionDependent(), key)


def test_an_agent_that_draws_nothing_is_not_warned_of_it(key):
    testing.check_agent(Alternating(), probes.ActionDependent(), key)


def is_traced(x):
    """1 or 0: what no pure function returns."""
    return jnp.full((), isinstance(x, jax.core.Tracer), jnp.int32)


def numpy_noise(self, state, trajectory, key):
    total = state["total"] + np.random.default_rng().normal()
    return {"total": total}, {}


@pytest.mark.parametrize(
    ("methods", "message"),
    [
        (
            {"init": lambda self, key, env: {"total": 0.0}},
            r"init must return arrays, but \['total'\]",
        ),
        (
            {"init": lambda self, key, env: {"total": jnp.asarray(0.0)}},
            r"state\['total'\] is weakly typed",
        ),
        (
            {"init": lambda self, key, env: {"total": jnp.full((), jnp.nan, float)}},
            r"the state after init\['total'\] holds NaN",
        ),
        ({"init": lambda self, env, key: None}, r"init takes \['env', 'key'\]"),
        (
            {"act": lambda self, state, obs, key: jnp.zeros((), jnp.int32)},
            r"act must return \(action, extras\)",
        ),
        (
            {"act": lambda self, state, obs, key: (jnp.zeros((), float), ())},
            "action 0 of act has shape and dtype",
        ),
        (
            {"act": lambda self, state, obs, key: (jnp.full((), 9, jnp.int32), ())},
            "action 0 of act is outside its space",
        ),
        (
            {"act": lambda self, state, obs, key: (jnp.zeros((), jnp.int32), 1.0)},
            "act must return arrays",
        ),
        (
            {"greedy": lambda self, state, obs: jnp.zeros((1,), jnp.int32)},
            "the action of greedy has shape and dtype",
        ),
        ({"update": lambda self, state, trajectory, key: state}, "update must return"),
        (
            {"update": lambda self, state, trajectory: (state, {})},
            r"update takes \['state', 'trajectory'\], but rollouts call it with",
        ),
        (
            {
                "update": lambda self, state, trajectory, key: (
                    {"total": state["total"].astype(jnp.float16)},
                    {},
                )
            },
            r"state\['total'\] is .*float16.* after update, but .*float32.* after init",
        ),
        (
            {"update": lambda self, state, trajectory, key: ({}, {})},
            "state has structure .* after update",
        ),
        (
            {
                "update": lambda self, state, trajectory, key: (
                    state,
                    {"reward": trajectory.reward},
                )
            },
            "metric 'reward' must be a floating scalar",
        ),
        (
            {
                "update": lambda self, state, trajectory, key: (
                    {"total": state["total"] / 0},
                    {},
                )
            },
            r"the state after 1 updates\['total'\] holds NaN",
        ),
        (
            {
                "act": lambda self, state, obs, key: (
                    jnp.where(state["total"] > 0, 9, 1).astype(jnp.int32),
                    (),
                ),
                "update": lambda self, state, trajectory, key: (
                    {"total": state["total"] + 1},
                    {},
                ),
            },
            "after 2 updates, act's action is outside its space",
        ),
        (
            {"update": lambda self, state, trajectory, key: (state, {"x": 1.0})},
            "metric 'x' is weakly typed",
        ),
        ({"update": numpy_noise}, r"update differs without and with jit: \[0\]\['tota"),
        (
            {"init": lambda self, key, env: {"total": is_traced(key)}},
            r"init differs without and with jit: \['total'\] is",
        ),
        (
            {"act": lambda self, state, obs, key: (is_traced(obs), ())},
            r"act differs without and with jit: \[0\] is",
        ),
        (
            {"greedy": lambda self, state, obs: is_traced(obs)},
            "greedy differs without and with jit",
        ),
        (
            {"update": lambda self, state, trajectory, key: (state, ())},
            r"update's metrics must be a dict, got \(\)",
        ),
    ],
)
@pytest.mark.filterwarnings("ignore:Broken.act ignores its key")
@pytest.mark.filterwarnings("ignore:Broken.update changes nothing")
def test_a_broken_contract_is_named(methods, message, key):
    with pytest.raises(AssertionError, match=message):
        testing.check_agent(counter(**methods), probes.ActionDependent(), key)


ONE = jnp.ones((), jnp.int32)
OTHER_ACT = {"act": lambda self, state, obs, key: (ONE, ())}
OTHER_GREEDY = {"greedy": lambda self, state, obs: ONE}


@pytest.mark.parametrize(
    ("methods", "message"),
    [
        (
            {**OTHER_ACT, "decide": Alternating.decide},
            r"decide instead of act differs: \[0\] is 0 and 1",
        ),
        (
            {**OTHER_GREEDY, "decide_greedily": Alternating.decide_greedily},
            "decide_greedily instead of greedy differs:  is 0 and 1",
        ),
        (
            {
                "init_memory": lambda self, state: 0,
                "decide": lambda self, state, obs, noise, memory=(): (ONE, (), memory),
                "decide_greedily": lambda self, state, obs, memory: (ONE, memory),
            },
            "init_memory must return arrays",
        ),
        (
            {"decide": lambda self, state, obs, noise, memory=(): (memory, ())},
            r"decide must return \(action, extras, memory\), got",
        ),
        (
            {**OTHER_GREEDY, "decide_greedily": lambda self, state, obs, memory: ONE},
            r"decide_greedily must return \(action, memory\), got",
        ),
        (
            {"decide": lambda self, state, obs, noise, memory=(): (memory, (), ())},
            "memory has structure .* after decide, .* after init_memory",
        ),
        (
            {
                "decide_greedily": lambda self, state, obs, memory: (
                    memory,
                    memory.astype(float),
                )
            },
            "memory is .*float.* after decide_greedily, but .*int32.* after init_mem",
        ),
        (
            {"draw": lambda self, state, shape, key: jax.random.uniform(key)},
            r"draw\(\(2, 3\), key\) must return leaves of shape \(2, 3\)",
        ),
    ],
)
@pytest.mark.filterwarnings("ignore:Broken.act ignores its key")
def test_a_decision_that_is_not_the_action_s_is_named(methods, message, key):
    agent = broken(Alternating, **methods)
    with pytest.raises(AssertionError, match=message):
        testing.check_agent(agent, probes.ActionDependent(), key)


@pytest.mark.parametrize("field", ["num_envs", "rollout_length"])
def test_sizes_must_be_integers_of_at_least_1(field, key):
    for value, error in ((0, ValueError), (2.0, TypeError)):
        agent = Counter(**{field: value})
        with pytest.raises(error, match=f"Counter.{field} must be"):
            testing.check_agent(agent, probes.ActionDependent(), key)


def test_a_leaf_that_is_no_number_is_named(key):
    agent = Counter(step="fast")
    with pytest.raises(AssertionError, match=r"Counter.step is 'fast', a leaf that is"):
        testing.check_agent(agent, probes.ActionDependent(), key)


def test_a_leaf_that_is_no_scalar_is_named(key):
    agent = Counter(step=jnp.ones(2))
    with pytest.raises(AssertionError, match=r"Counter.step must be a scalar here, ha"):
        testing.check_agent(agent, probes.ActionDependent(), key)


def test_parameters_may_have_any_names(key):
    agent = counter(
        update=lambda self, s, t, k: (
            {"total": s["total"] + t.reward.sum() + 1.0},
            {"x": s["total"]},
        )
    )
    testing.check_agent(agent, probes.ActionDependent(), key)


@pytest.mark.parametrize(
    ("methods", "message"),
    [
        (
            {"act": lambda self, state, obs, key: (jnp.zeros((), jnp.int32), ())},
            "Broken.act ignores its key, so it never explores by chance",
        ),
        (
            {"update": lambda self, state, trajectory, key: (state, {})},
            "Broken.update changes nothing of what it has learned",
        ),
    ],
)
def test_what_is_no_breach_but_hardly_meant_is_warned_of(methods, message, key):
    with pytest.warns(UserWarning, match=message):
        testing.check_agent(counter(**methods), probes.ActionDependent(), key)
