"""Training is a pure function: every transformation of it, and its bad inputs."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import rljax
from rljax.agents.base import standardize
from rljax.training import _train, _train_for
from tests import probes
from tests.conftest import enable_x64

# The rollouts here are meant to be short.
pytestmark = pytest.mark.filterwarnings("ignore:no episode ended")

SMALL = {"num_envs": 2, "rollout_length": 8, "hidden_sizes": (8,)}
AGENTS = [
    rljax.PPO(**SMALL, num_epochs=2, num_minibatches=2),
    rljax.ActorCritic(**SMALL),
    rljax.Reinforce(**SMALL),
]
ALL = pytest.mark.parametrize("agent", AGENTS, ids=lambda a: type(a).__name__)


def slow(*values):
    return pytest.param(*values, marks=pytest.mark.slow)


PPO_AND_SLOW_OTHERS = pytest.mark.parametrize(
    "agent",
    [AGENTS[0], *map(slow, AGENTS[1:])],
    ids=lambda agent: type(agent).__name__,
)
ENV = rljax.make("CartPole-v1")
KEYS = jax.random.split(jax.random.key(0), 3)


def assert_close(a, b, rtol=1e-5, atol=1e-6):
    def compare(x, y):
        if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
            x, y = jax.random.key_data(x), jax.random.key_data(y)
        np.testing.assert_allclose(x, y, rtol=rtol, atol=atol)

    jax.tree.map(compare, a, b)


@pytest.mark.slow
@PPO_AND_SLOW_OTHERS
def test_a_vmapped_seed_equals_the_lone_seed(agent):
    # 1e-5 relative after 3 updates is the stated tolerance. Longer runs part company:
    # a probability that differs in its last bit turns an action over some day.
    def run(key):
        return rljax.train(agent, ENV, key, num_updates=3)

    together = jax.vmap(run)(KEYS)
    for i in range(3):
        assert_close(jax.tree.map(lambda x: x[i], together), run(KEYS[i]))


@ALL
def test_same_key_same_result_bitwise(agent):
    first = rljax.train(agent, ENV, KEYS[0], num_updates=3)
    second = rljax.train(agent, ENV, KEYS[0], num_updates=3)
    assert_close(first, second, 0, 0)
    other = rljax.train(agent, ENV, KEYS[1], num_updates=3)
    assert not np.array_equal(first[0].rollout_state.obs, other[0].rollout_state.obs)


def test_train_is_init_and_steps():
    agent = AGENTS[2]
    state = rljax.init_train(agent, ENV, KEYS[0])
    step = jax.jit(rljax.train_step)
    sums = []
    for _ in range(3):
        state, metrics = step(agent, ENV, state)
        sums.append(int(metrics.episode_length_sum))
    whole_state, whole_metrics = rljax.train(agent, ENV, KEYS[0], num_updates=3)
    assert_close(state, whole_state)
    np.testing.assert_array_equal(whole_metrics.episode_length_sum, sums)


def test_training_for_some_updates_more_compiles_once():
    """Updates in any portions lead to train's end; another float compiles nothing."""
    grid = rljax.make("GridWorld-5x5")
    agent = rljax.QLearning(rollout_length=3, num_envs=2)
    state = rljax.init_train(agent, grid, KEYS[0])
    episodes = returns = lengths = 0
    for number in (1, 0, 30, jnp.int32(9)):
        state, metrics = rljax.train_for(agent, grid, state, number)
        episodes += int(metrics.num_episodes)
        returns += float(metrics.episode_return_sum)
        lengths += float(metrics.episode_length_sum)
        assert np.isnan(metrics.agent["abs_td_error"]) == (number == 0)
    whole_state, whole = rljax.train(agent, grid, KEYS[0], num_updates=40)
    assert_close(state, whole_state, 0, 0)
    assert episodes == whole.num_episodes.sum() > 0
    np.testing.assert_allclose(returns, whole.episode_return_sum.sum(), rtol=1e-6)
    assert lengths == whole.episode_length_sum.sum()
    np.testing.assert_allclose(
        metrics.agent["abs_td_error"],
        whole.agent["abs_td_error"][31:].mean(),
        rtol=1e-6,
    )
    compiled = _train_for._cache_size()
    rljax.train_for(dataclasses.replace(agent, step_size=0.3), grid, state, 5)
    assert _train_for._cache_size() == compiled


def test_training_for_some_updates_refuses_others():
    grid, agent = rljax.make("GridWorld-5x5"), rljax.QLearning(rollout_length=3)
    state = rljax.init_train(agent, grid, KEYS[0])
    with pytest.raises(ValueError, match="num_updates must be at least 0, got -1"):
        rljax.train_for(agent, grid, state, -1)
    with pytest.raises(TypeError, match="num_updates must be an integer, got 1.5"):
        rljax.train_for(agent, grid, state, 1.5)
    with pytest.raises(TypeError, match="train_state must come from rljax.init_train"):
        rljax.train_for(agent, grid, state.agent_state, 1)


@pytest.mark.slow
def test_legacy_keys_give_the_same_numbers():
    agent = AGENTS[2]
    typed = rljax.train(agent, ENV, jax.random.key(3), num_updates=2)
    legacy = rljax.train(agent, ENV, jax.random.PRNGKey(3), num_updates=2)
    assert_close(typed[0].agent_state, legacy[0].agent_state, 0, 0)
    assert_close(typed[1], legacy[1], 0, 0)


@PPO_AND_SLOW_OTHERS
def test_x64_trains_in_float64(agent):
    with enable_x64():
        key = jax.random.key(0)
        state, metrics = rljax.train(agent, ENV, key, num_updates=2)
    for leaf in jax.tree.leaves(
        (state.agent_state.params, state.rollout_state.obs, metrics.episode_return_sum)
    ):
        assert leaf.dtype == np.float64
    assert np.isfinite(metrics.agent["policy_loss"]).all()


@pytest.mark.slow
def test_nested_vmap_over_learning_rate_gravity_and_seed():
    rates, gravities = jnp.array([1e-3, 1e-2]), jnp.array([5.0, 9.8])

    def run(rate, gravity, key):
        agent = rljax.ActorCritic(**SMALL, learning_rate=rate)
        env = rljax.make("CartPole-v1", gravity=gravity)
        state, _ = rljax.train(agent, env, key, num_updates=3)
        return state.agent_state.params

    over_seeds = jax.vmap(run, (None, None, 0))
    over_gravities = jax.vmap(over_seeds, (None, 0, None))
    grid = jax.vmap(over_gravities, (0, None, None))(rates, gravities, KEYS)
    for i, j, k in np.ndindex(2, 2, 3):
        lone = run(float(rates[i]), float(gravities[j]), KEYS[k])
        assert_close(jax.tree.map(lambda x: x[i, j, k], grid), lone)
    kernels = np.asarray(grid.actor[0].kernel).reshape(12, -1)
    assert len(np.unique(kernels, axis=0)) == 12


def test_an_agent_with_array_leaves_is_a_batch_of_agents():
    rates = jnp.array([1e-3, 1e-2])
    agents = rljax.Reinforce(**SMALL, learning_rate=rates)
    axes = jax.tree.map(lambda leaf: 0 if leaf is rates else None, agents)
    state, _ = jax.vmap(
        lambda agent: rljax.train(agent, ENV, KEYS[0], num_updates=2), (axes,)
    )(agents)
    lone, _ = rljax.train(
        rljax.Reinforce(**SMALL, learning_rate=1e-2), ENV, KEYS[0], num_updates=2
    )
    assert_close(jax.tree.map(lambda x: x[1], state), lone)


def test_another_float_compiles_nothing():
    def run(discount, rate, gravity):
        agent = rljax.PPO(**SMALL, discount=discount, learning_rate=rate)
        env = rljax.make("CartPole-v1", gravity=gravity)
        rljax.train(agent, env, KEYS[0], num_updates=1)

    run(0.9, 1e-3, 9.8)
    before = _train._cache_size()
    run(0.95, 2e-3, 5.0)
    run(1, np.float64(1e-3), 5)
    run(jnp.float32(0.5), jnp.float32(1e-3), jnp.array(5.0))
    assert _train._cache_size() == before


def test_a_second_step_compiles_nothing():
    # A weakly typed leaf in the first state would come back strong and retrace.
    step = jax.jit(rljax.train_step)
    for agent in AGENTS:
        state = rljax.init_train(agent, ENV, KEYS[0])
        state, _ = step(agent, ENV, state)
        before = step._cache_size()
        step(agent, ENV, state)
        assert step._cache_size() == before


@pytest.mark.parametrize(
    ("agent", "field"),
    [
        slow(rljax.PPO(**SMALL, num_epochs=2, num_minibatches=2), "learning_rate"),
        slow(rljax.ActorCritic(**SMALL), "learning_rate"),
        slow(rljax.ActorCritic(**SMALL, gae_lambda=0.9), "discount"),
        (rljax.Reinforce(**SMALL), "learning_rate"),
        slow(rljax.Reinforce(**SMALL, optimizer=optax.sgd), "discount"),
    ],
    ids=lambda x: x if isinstance(x, str) else type(x).__name__,
)
def test_gradient_of_a_return_through_training(agent, field):
    # The final policy's exact expected return, π(1) − π(0) in the first state, is
    # smooth in the setting as long as no sampled action turns over.
    def final_return(setting):
        learner = dataclasses.replace(agent, **{field: setting})
        state, _ = rljax.train(
            learner, probes.DelayedReward(), jax.random.key(0), num_updates=3
        )
        probs = jax.nn.softmax(learner.logits(state.agent_state, jnp.zeros(1)))
        return probs[1] - probs[0]

    with enable_x64():
        at, h = getattr(agent, field), 1e-6
        run = jax.jit(jax.value_and_grad(final_return))
        (above, _), (_, gradient), (below, _) = (run(x) for x in (at + h, at, at - h))
        above, below, gradient = float(above), float(below), float(gradient)
    numerical = (above - below) / (2 * h)
    assert abs(numerical) > 1e-4
    np.testing.assert_allclose(gradient, numerical, rtol=1e-4)


def test_annealing_reaches_0_and_stays_there():
    agent = rljax.PPO(**SMALL, anneal_updates=2)
    step = jax.jit(rljax.train_step)
    states = [rljax.init_train(agent, ENV, KEYS[0])]
    for _ in range(4):
        states.append(step(agent, ENV, states[-1])[0])
    kernels = [s.agent_state.params.actor[0].kernel for s in states]
    moved = [float(jnp.abs(b - a).max()) for a, b in itertools.pairwise(kernels)]
    assert moved[0] > moved[1] > 1e-5
    assert moved[2:] == [0, 0]


def test_no_updates_are_no_training():
    state, metrics = rljax.train(AGENTS[0], ENV, KEYS[0], num_updates=0)
    assert metrics.num_episodes.shape == (0,)
    fresh = rljax.init_train(AGENTS[0], ENV, KEYS[0])
    assert_close(state, fresh)


@rljax.struct.dataclass
class WholeForce(rljax.CartPole):
    """CartPole with a force in whole numbers, of which no policy is."""

    @property
    def action_space(self):
        return rljax.spaces.Box(-10, 10, (1,), jnp.int32)


class Unregistered(rljax.CartPole):
    """A subclass does not inherit being a pytree."""


def call(**changes):
    arguments = {"agent": AGENTS[0], "env": ENV, "key": KEYS[0], "num_updates": 1}
    arguments |= changes
    num_updates = arguments.pop("num_updates")
    return rljax.train(*arguments.values(), num_updates=num_updates)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"num_updates": -1}, ValueError, "num_updates must be at least 0, got -1"),
        ({"num_updates": 2.0}, TypeError, "num_updates must be an integer, got 2.0"),
        ({"num_updates": jnp.int32(2)}, TypeError, "num_updates .* fixes a shape"),
        ({"key": 0}, TypeError, r"such as jax.random.key\(0\), got 0"),
        ({"key": KEYS}, ValueError, r"single key, got keys of shape \(3,\)"),
        ({"key": jnp.zeros(3, jnp.uint32)}, TypeError, "must be a random key"),
        ({"key": jnp.zeros(4, jnp.uint32)}, TypeError, "must be a random key"),
        ({"num_updates": 2**31}, ValueError, "num_updates must be at most 21474836"),
        (
            {"agent": rljax.Reinforce(optimizer=lambda rate: 0.1)},
            TypeError,
            "Reinforce.optimizer must return an optimiser .*, returned 0.1",
        ),
        (
            {"agent": rljax.ActorCritic(optimizer=lambda rate: 0.1)},
            TypeError,
            "ActorCritic.optimizer must return an optimiser .*, returned 0.1",
        ),
        ({"agent": rljax.PPO}, TypeError, "agent must be an agent"),
        ({"agent": ENV, "env": AGENTS[0]}, TypeError, "agent must be an agent"),
        ({"env": "CartPole-v1"}, TypeError, r"Make one with rljax.make\(name\)"),
        ({"env": rljax.CartPole}, TypeError, "env must be an environment"),
        (
            {"agent": rljax.PPO(learning_rate=jnp.array([1e-3, 1e-2]))},
            ValueError,
            r"PPO.learning_rate must be a scalar here, has shape \(2,\). vmap",
        ),
        ({"env": Unregistered()}, TypeError, "Unregistered is not registered"),
        (
            {"env": WholeForce()},
            TypeError,
            "PPO has a policy for actions of a Discrete",
        ),
        (
            {"env": WholeForce(), "agent": AGENTS[1]},
            TypeError,
            "ActorCritic has a policy for actions of a Discrete",
        ),
        (
            {"env": WholeForce(), "agent": AGENTS[2]},
            TypeError,
            "Reinforce has a policy for actions of a Discrete",
        ),
    ],
)
def test_bad_arguments_are_refused(changes, error, message):
    with pytest.raises(error, match=message):
        call(**changes)


@pytest.mark.parametrize(
    ("agent_class", "settings", "error", "message"),
    [
        (rljax.PPO, {"num_envs": 0}, ValueError, "PPO.num_envs must be at least 1"),
        (rljax.PPO, {"num_envs": 2.5}, TypeError, "PPO.num_envs must be an integer"),
        (rljax.PPO, {"num_envs": True}, TypeError, "PPO.num_envs"),
        (rljax.PPO, {"rollout_length": -3}, ValueError, "PPO.rollout_length"),
        (rljax.PPO, {"num_epochs": 0}, ValueError, "PPO.num_epochs"),
        (
            rljax.PPO,
            {"num_envs": 5, "rollout_length": 10, "num_minibatches": 4},
            ValueError,
            r"num_minibatches must divide .* 10 × 5 = 50, got 4. .* divisors: 1, 2, 5",
        ),
        # A divisor above the root is the partner of one below it.
        (
            rljax.PPO,
            {"num_envs": 5, "rollout_length": 2, "num_minibatches": 9},
            ValueError,
            r"num_minibatches must divide .* = 10, got 9. .* divisors: 2, 5, 10",
        ),
        (rljax.PPO, {"discount": 1.01}, ValueError, r"discount must be in \[0, 1\]"),
        (rljax.PPO, {"discount": -0.1}, ValueError, "PPO.discount"),
        (rljax.PPO, {"discount": np.nan}, ValueError, "PPO.discount .* got nan"),
        (rljax.PPO, {"discount": "0.9"}, TypeError, "PPO.discount must be a real"),
        (rljax.PPO, {"discount": None}, TypeError, "PPO.discount must be a real"),
        (rljax.PPO, {"discount": jnp.array([0.9, 2])}, ValueError, "PPO.discount"),
        (rljax.PPO, {"gae_lambda": 2}, ValueError, "PPO.gae_lambda"),
        (rljax.PPO, {"clip_epsilon": -0.2}, ValueError, "PPO.clip_epsilon"),
        (rljax.PPO, {"max_grad_norm": 0}, ValueError, "max_grad_norm .* more than 0"),
        (rljax.PPO, {"anneal_updates": 0}, ValueError, "PPO.anneal_updates"),
        (rljax.PPO, {"adam_epsilon": 0}, ValueError, "PPO.adam_epsilon"),
        (rljax.PPO, {"activation": "gelu"}, ValueError, "one of 'relu', 'tanh'"),
        (rljax.PPO, {"initialization": "x"}, ValueError, "PPO.initialization"),
        (rljax.PPO, {"hidden_sizes": (0,)}, ValueError, "PPO.hidden_sizes"),
        (rljax.PPO, {"hidden_sizes": 64}, TypeError, "PPO.hidden_sizes"),
        (rljax.PPO, {"hidden_sizes": (64.0,)}, TypeError, "PPO.hidden_sizes"),
        (rljax.PPO, {"network": object()}, TypeError, "PPO.network"),
        (rljax.PPO, {"clip_value_loss": "no"}, TypeError, "True or False, got 'no'"),
        (rljax.PPO, {"learning_rate": np.array(1 + 1j)}, TypeError, "a real number"),
        (rljax.PPO, {"learning_rate": np.inf}, ValueError, "PPO.learning_rate"),
        (
            rljax.PPO,
            {"num_envs": 2, "rollout_length": 2, "num_minibatches": 4},
            ValueError,
            "one step to a minibatch",
        ),
        (rljax.ActorCritic, {"learning_rate": -1}, ValueError, "learning_rate"),
        (rljax.ActorCritic, {"num_envs": 0}, ValueError, "ActorCritic.num_envs"),
        (rljax.ActorCritic, {"optimizer": 1}, TypeError, "ActorCritic.optimizer"),
        (rljax.Reinforce, {"discount": 3.0}, ValueError, "Reinforce.discount"),
        (rljax.Reinforce, {"discount": -0.1}, ValueError, "Reinforce.discount"),
        (rljax.Reinforce, {"hidden_sizes": (-1,)}, ValueError, "hidden_sizes"),
        (rljax.Reinforce, {"optimizer": None}, TypeError, "Reinforce.optimizer"),
        (rljax.Reinforce, {"network": 3}, TypeError, "Reinforce.network"),
    ],
)
def test_bad_settings_are_refused(agent_class, settings, error, message):
    with pytest.raises(error, match=message):
        agent_class(**settings)


def test_what_is_measured_joins_the_metrics(key):
    agent = rljax.Reinforce(num_envs=2, rollout_length=4, hidden_sizes=(4,))
    env = rljax.CartPole()

    def measure(agent, env, state):
        return {"rate": agent.learning_rate, "updates": state.num_updates}

    plain, without = rljax.train(agent, env, key, num_updates=3)
    measured, metrics = rljax.train(agent, env, key, num_updates=3, measure=measure)
    np.testing.assert_array_equal(metrics.agent["updates"], [1, 2, 3])
    np.testing.assert_allclose(metrics.agent["rate"], 5e-3)
    assert metrics.agent["updates"].dtype == jnp.float32
    for name, values in without.agent.items():
        np.testing.assert_allclose(metrics.agent[name], values, rtol=1e-5)
    assert_close(plain, measured)
    wrong = {
        "a vector": lambda *_: {"x": jnp.zeros(2)},
        "a name taken": lambda *_: {"entropy": 0.0},
    }
    for bad in wrong.values():
        with pytest.raises(ValueError, match="measure must return scalars under names"):
            rljax.train(agent, env, key, num_updates=1, measure=bad)
    for bad in (lambda *_: 3.0, lambda *_: {1: 2.0}):
        with pytest.raises(TypeError, match="measure must return a dictionary of scal"):
            rljax.train(agent, env, key, num_updates=1, measure=bad)
    with pytest.raises(TypeError, match="measure must be a function of"):
        rljax.train(agent, env, key, num_updates=1, measure="exact")
    with pytest.raises(TypeError, match="measure must be a function of"):
        rljax.sweep(agent, env, key, num_seeds=1, num_updates=1, measure=3)


@rljax.struct.dataclass
class Slip:
    """A two-step environment whose `step` and `reset` return what they are told to."""

    returned: str = rljax.struct.static(default="")

    @property
    def observation_space(self):
        if self.returned == "space":
            return 4
        return rljax.spaces.Discrete(3)

    @property
    def action_space(self):
        return rljax.spaces.Discrete(2)

    def reset(self, key):
        if self.returned == "no state":
            return jnp.int32(0)
        if self.returned == "vector":
            return jnp.int32(0), jnp.zeros(3)
        if self.returned == "floats":
            return jnp.int32(0), jnp.float32(0)
        return jnp.int32(0), jnp.int32(0)

    def step(self, state, action, key):
        changes = {
            "float flag": {"terminated": jnp.float32(1)},
            "int flag": {"truncated": jnp.int32(1)},
            "row": {"reward": jnp.ones(1)},
            "nothing": {"truncated": None},
            "list": {"reward": [1.0]},
            "numbers": {"reward": 1.0, "terminated": True, "truncated": False},
        }
        out = rljax.TimeStep(jnp.int32(1), jnp.float32(1), state > -1, jnp.bool_(False))
        out = out._replace(**changes.get(self.returned, {}))
        if self.returned == "tuple":
            return state, tuple(out)
        if self.returned == "five":
            return (*tuple(out), {})
        return state, out


@pytest.mark.parametrize("limit", [False, True])
@pytest.mark.parametrize(
    ("returned", "message"),
    [
        ("no state", r"Slip.reset must return \(state, obs\)"),
        ("vector", r"Slip.reset must return observations of shape \(\), as its Discr"),
        ("floats", r"Slip.reset must return observations of an integer dtype"),
        ("float flag", r"Slip.step must return TimeStep.terminated as a bool scalar"),
        ("int flag", r"TimeStep.truncated as a bool scalar, \[\], returned int32 \[\]"),
        ("row", r"TimeStep.reward as a real scalar, \[\], returned float32 \[1\]"),
        ("nothing", r"Slip.step must return TimeStep.truncated as a bool .* None"),
        ("list", r"Slip.step must return TimeStep.reward as a real .* \[1.0\]"),
        ("tuple", r"Slip.step must return \(state, rljax.TimeStep"),
        ("five", r"Slip.step must return \(state, rljax.TimeStep"),
    ],
)
def test_an_environment_s_slips_are_named(returned, message, limit, key):
    env, agent = Slip(returned), rljax.QLearning(rollout_length=4)
    state = agent.init(key, Slip())
    env = rljax.TimeLimit(env, 3) if limit else env
    for run in (
        lambda: rljax.train(agent, env, key, num_updates=1),
        lambda: rljax.evaluate(agent, state, env, key, num_episodes=1),
    ):
        with pytest.raises((TypeError, ValueError), match=message) as caught:
            run()
        assert "check_env(env, key)" in str(caught.value)


def test_a_space_that_is_none_is_named():
    with pytest.raises(TypeError, match=r"Slip.observation_space must be a property"):
        rljax.contract.reset(Slip("space"), jax.random.key(0))


def test_who_wrote_advance_reads_of_advance(key):
    @rljax.struct.dataclass
    class Ahead(rljax.GridWorld):
        def advance(self, state, action, noise):
            return super().advance(state, action, noise)[1]

    with pytest.raises(TypeError, match=r"Ahead.advance must return \(state, rljax"):
        rljax.train(rljax.QLearning(), Ahead(), key, num_updates=1)


@pytest.mark.parametrize("num_envs", [slow(1), 2])
def test_python_s_numbers_in_a_time_step_will_do(num_envs, key):
    for agent in (
        rljax.QLearning(rollout_length=4, num_envs=num_envs),
        rljax.ActorCritic(rollout_length=4, num_envs=num_envs, hidden_sizes=()),
    ):
        _, metrics = rljax.train(agent, Slip("numbers"), key, num_updates=2)
        np.testing.assert_array_equal(metrics.num_episodes, [4 * num_envs] * 2)
        np.testing.assert_array_equal(metrics.episode_return, [1.0, 1.0])


def test_train_step_refuses_states_of_others(key):
    agent = rljax.QLearning(rollout_length=4)
    env = rljax.make("GridWorld-5x5")
    state = rljax.init_train(agent, env, key)
    with pytest.raises(ValueError, match=r"QLearning.num_envs = 4 environments, is of"):
        rljax.train_step(dataclasses.replace(agent, num_envs=4), env, state)
    with pytest.raises(TypeError, match="train_state must come from rljax.init_train"):
        rljax.train_step(agent, env, state.agent_state)
    states = jax.vmap(lambda k: rljax.init_train(agent, env, k))(KEYS)
    with pytest.raises(ValueError, match=r"is of shape \(3, 1\).*vmap train_step"):
        rljax.train_step(agent, env, states)


def test_arrays_in_an_environment_are_to_be_vmapped_over(key):
    for env, name in (
        (rljax.make("CartPole-v1", gravity=jnp.array([9.8, 1.0])), "CartPole.gravity"),
        (rljax.make("CartPole-v1", max_steps=jnp.array([5, 6])), "TimeLimit.max_steps"),
    ):
        with pytest.raises(ValueError, match=f"{name} must be a scalar here"):
            rljax.train(AGENTS[0], env, key, num_updates=1)


def test_equal_advantages_are_no_advantages():
    # The mean of these is rounded: what it is off by must not become a deviation.
    for value in (0.1, 1.1, 1000.1):
        x, mask = jnp.full((4, 4), value), jnp.arange(16).reshape(4, 4) < 5
        np.testing.assert_array_equal(standardize(x), np.zeros((4, 4)))
        masked = standardize(jnp.where(mask, x, 7.0), where=mask)
        np.testing.assert_array_equal(masked[mask], np.zeros(5))
    x = jnp.array([1.0, 2.0, 4.0])
    np.testing.assert_allclose(standardize(x), (x - x.mean()) / x.std(), rtol=1e-6)
