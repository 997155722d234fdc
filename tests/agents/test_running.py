"""Running normalisation: moments of all experience, and what is read with them."""

import dataclasses
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rljax
from rljax import struct, testing
from rljax.agents import running
from tests.conftest import enable_x64
from tests.oracles import updates as oracle
from tests.scenes import Scene

SMALL = {"num_envs": 3, "rollout_length": 4, "hidden_sizes": (4,)}


def batches(*shape):
    """Of different sizes, means and deviations."""
    rng = np.random.default_rng(0)
    return [
        rng.normal(mean, deviation, (length, 3, *shape))
        for length, mean, deviation in ((5, 3.0, 2.0), (2, -40.0, 0.1), (9, 1.0, 7.0))
    ]


def test_moments_are_those_of_all_numbers():
    given = batches(2, 3)

    @jax.jit
    def after_each(given):
        moments = [running.no_moments((2, 3), jnp.float64)]
        for batch in given:
            moments.append(moments[-1].take_in(batch))
        read = [moments[-1].normalised(x) for x in (given[0], given[0][0, 0])]
        return moments[1:], read

    with enable_x64():
        moments, read = after_each([jnp.asarray(batch) for batch in given])
    for i, found in enumerate(moments):
        mean, variance = oracle.moments(given[: i + 1])
        np.testing.assert_allclose(found.mean, mean, rtol=1e-12)
        np.testing.assert_allclose(found.variance, variance, rtol=1e-12)
    assert float(moments[-1].number) == 16 * 3
    expected = oracle.normalised(given[0], mean, variance)
    np.testing.assert_allclose(read[0], expected, rtol=1e-12)
    np.testing.assert_allclose(read[1], expected[0, 0], rtol=1e-12)


def test_before_experience_numbers_are_read_as_they_are_within_ten():
    x = jnp.array([0.0, -3.0, 1e3, -1e3])

    @jax.jit
    def read(x):
        moments = running.no_moments((4,), jnp.float32)
        # A floor of 1e-8 under the root: what was constant may move by 1e-3 to be 10.
        constant = moments.take_in(jnp.full((2, 3, 4), 5.0))
        moved = constant.normalised(jnp.full(4, 5 + 2.0**-12))
        # Of half precision, 4,000 numbers are summed up in single.
        halves = running.no_moments((), jnp.bfloat16)
        after = halves.take_in(jnp.full((40, 100), 1.0, jnp.bfloat16))
        return moments.normalised(x), moments.scaled(x), constant.variance, moved, after

    normalised, scaled, variance, moved, after = read(x)
    np.testing.assert_allclose(normalised, [0, -3, 10, -10], rtol=1e-6)
    np.testing.assert_allclose(scaled, [0, -3, 10, -10], rtol=1e-6)
    np.testing.assert_array_equal(variance, 0.0)
    np.testing.assert_allclose(moved, 2.0**-12 / 1e-4, rtol=1e-3)
    assert {x.dtype for x in after} == {jnp.dtype("float32")}
    assert after.mean == 1.0


@pytest.mark.parametrize("number", [2.0**24, 2.0**34, 1e30])
def test_their_number_can_not_overflow(number):
    batch = jnp.ones((4, 8)).at[:2].set(3.0)
    old = running.no_moments((), jnp.float32)._replace(number=jnp.float32(number))
    new = old.take_in(batch)
    assert new.number == np.float32(number) + 32 * (number == 2.0**24)
    weight = 32 / number
    np.testing.assert_allclose(new.mean, 2 * weight, rtol=1e-5)
    np.testing.assert_allclose(new.variance, 1 + 4 * weight, rtol=1e-6)


@pytest.mark.parametrize("fresh", [False, True])
def test_returns_start_anew_where_an_episode_does(fresh):
    rng = np.random.default_rng(1)
    reward = rng.normal(size=(2, 6, 2))
    terminated, truncated = rng.random((2, 2, 6, 2)) < 0.25
    assert terminated[:, :-1].any() and truncated[:, :-1].any()
    returns = running.start(None, 2, "PPO").returns
    last, seen = np.zeros(2), []
    for i in range(2):
        trajectory = rljax.Transition(
            None, None, reward[i], terminated[i], truncated[i], None, None
        )
        returns = returns.take_in(trajectory, 0.9, fresh_episodes=fresh)
        done = terminated[i] | truncated[i]
        start = 0 * last if fresh else last
        past, last = oracle.past_returns(reward[i], done, 0.9, start)
        seen.append(past)
        np.testing.assert_allclose(returns.last, last, rtol=1e-5, atol=1e-6)
    mean, variance = oracle.moments(seen)
    np.testing.assert_allclose(returns.moments.mean, mean, rtol=1e-5)
    np.testing.assert_allclose(returns.moments.variance, variance, rtol=1e-5)


@struct.dataclass
class Watcher(rljax.ActorCritic):
    """Learns nothing, but compares what acted with what there is to learn from."""

    def act(self, state, obs, key):
        return super().act(state, obs, key)[0], {"value": self.value(state, obs)}

    def learn(self, state, trajectory, key):
        _, values = self.over_steps(state.params, trajectory.obs)
        place = trajectory.obs["place"], trajectory.next_obs["place"]
        return state, {
            "apart": jnp.max(jnp.abs(values - trajectory.extras["value"])),
            "largest": jnp.max(jnp.abs(jnp.stack(place))),
            "paid": jnp.max(jnp.abs(trajectory.reward)),
        }


AGENT = Watcher(
    num_envs=3,
    rollout_length=4,
    hidden_sizes=(),
    discount=0.0,
    normalize_observations=True,
    normalize_rewards=True,
)


@pytest.fixture(scope="module")
def trained():
    """On numbers around 100, 12 steps an update."""
    env = Scene("tree", shift=100.0)
    return env, *rljax.train(AGENT, env, jax.random.key(0), num_updates=3)


def test_what_acts_is_what_learns(trained):
    _, state, metrics = trained
    # So that the ratio of PPO starts at 1.
    np.testing.assert_allclose(metrics.agent["apart"], 0, atol=1e-5)
    # The first rollout is read as it is, within bounds; the others by its moments.
    largest = metrics.agent["largest"]
    assert largest[0] == 10
    assert (largest[1:] < 6).all()
    seen = state.agent_state.running
    assert seen.observations["place"].number == 3 * 12
    np.testing.assert_allclose(seen.observations["place"].mean, 100, atol=1)
    np.testing.assert_allclose(seen.observations["place"].variance, 1, atol=0.6)
    # Integers have ways of their own to be read.
    assert [seen.observations[n] for n in ("picture", "mode", "many")] == [()] * 3


def test_rewards_are_scaled_for_learning_alone(trained):
    _, state, metrics = trained
    # Of rewards ±1 and γ = 0 the variance is that of a coin with their mean.
    returns = state.agent_state.running.returns
    np.testing.assert_allclose(
        returns.moments.variance, 1 - returns.moments.mean**2, rtol=1e-5
    )
    total = metrics.episode_return_sum.sum()
    np.testing.assert_allclose(returns.moments.mean, total / 36, rtol=1e-5)
    assert metrics.num_episodes.sum() == 36
    assert total == round(float(total))  # as the environment pays them
    # Also those of the first rollout, of which nothing was known before.
    paid = metrics.agent["paid"]
    assert paid[0] > 1.001
    deviation = np.sqrt(returns.moments.variance)
    np.testing.assert_allclose(paid[2], 1 / deviation, rtol=1e-5)


def test_what_is_learned_holds_what_observations_are_read_by(trained):
    env, state, _ = trained
    agent_state = state.agent_state
    learned = AGENT.learned(agent_state)
    assert learned.running.observations is agent_state.running.observations
    assert learned.running.returns == ()  # [N], and no matter to a policy
    _, obs = env.reset(jax.random.key(1))
    plain = dataclasses.replace(AGENT, normalize_observations=False)

    @jax.jit
    def said(obs):
        read = agent_state.running.read(obs)
        return [
            (agent.logits(agent_state, x), agent.value(agent_state, x))
            for agent, x in ((AGENT, obs), (plain, read))
        ]

    ours, by_hand = said(obs)
    jax.tree.map(np.testing.assert_array_equal, ours, by_hand)
    moved = obs | {"place": obs["place"] + 1}
    assert said(moved)[0][1] != ours[1]


def test_without_it_the_state_holds_nothing_more(key):
    def init(agent):
        return jax.eval_shape(lambda key: agent.init(key, rljax.CartPole()), key)

    assert init(rljax.PPO(**SMALL)).running == ()
    rewards = rljax.Reinforce(**SMALL, normalize_rewards=True)
    state = init(rewards)
    assert state.running.observations == ()
    assert rewards.learned(state).running == ()
    with pytest.raises(TypeError, match=r"PPO.normalize_observations must be True or"):
        rljax.PPO(normalize_observations=1)
    for agent in (rljax.PPO, rljax.Reinforce):
        with pytest.raises(TypeError, match="normalize_rewards must be True or"):
            agent(normalize_rewards="yes")


@pytest.mark.parametrize("name", ["normalize_observations", "normalize_rewards"])
def test_an_agent_that_overrides_update_can_not_normalise(name):
    @struct.dataclass
    class Own(rljax.PPO):
        def update(self, state, trajectory, key):
            return super().update(state, trajectory, key)

    assert Own() == Own()
    for kind in (Own, rljax.PPOKL):
        with pytest.raises(
            TypeError, match=rf"{kind.__name__} can't .* overrides upda"
        ):
            kind(**{name: True})


def test_an_agent_must_learn_somehow():
    with pytest.raises(TypeError, match="PolicyAgent must define learn or update"):
        rljax.agents.PolicyAgent()


def test_observations_without_floating_numbers_are_refused(key):
    agent = rljax.PPO(**SMALL, normalize_observations=True)
    with pytest.raises(ValueError, match="PPO.normalize_observations has nothing to"):
        jax.eval_shape(lambda key: agent.init(key, Scene("pair")), key)


def test_kernels_neither_normalise_nor_encode(key):
    settings = ("normalize_observations", "normalize_rewards", "encoder", "kernels")
    modes = {}

    def look(key):
        plain = rljax.PPO(kernels="interpret")
        state = plain.init(key, rljax.CartPole())
        for name, value in zip(settings, (True, True, Plain(), "never"), strict=True):
            agent = dataclasses.replace(plain, **{name: value})
            modes[name] = agent._kernel_mode(state, jnp.zeros((16, 4)))
        modes[""] = plain._kernel_mode(state, jnp.zeros((16, 4)))

    jax.eval_shape(look, key)
    assert modes == {"": "interpret"} | dict.fromkeys(settings, "never")


class Plain:
    """An encoder that changes nothing."""

    def init(self, key, obs):
        return ()

    def apply(self, params, obs):
        return obs


BOTH = {"normalize_observations": True, "normalize_rewards": True}
PENDULUM = rljax.make("Pendulum-v1", max_steps=6)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("agent", "env"),
    [
        (rljax.PPO(**SMALL, **BOTH), Scene("tree")),
        (rljax.Reinforce(**SMALL, **BOTH), PENDULUM),
    ],
    ids=["PPO", "Reinforce"],
)
def test_normalising_agents_keep_the_contract(agent, env, key):
    testing.check_agent(agent, env, key)


def assert_equal(a, b, rtol=0.0):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(x, y, rtol=rtol, atol=rtol)


@pytest.mark.slow
def test_sweeps_with_statistics_go_on_from_checkpoints(tmp_path, key):
    agent = rljax.PPO(**SMALL, **BOTH)
    keep_best = rljax.KeepBest(every=2, num_episodes=2)
    arguments = {"num_seeds": 2, "keep_best": keep_best, "num_episodes": 2}
    checkpoints = rljax.experiment.Checkpoints(tmp_path)
    for num_updates in (2, 4):
        stopped = rljax.sweep(
            agent,
            PENDULUM,
            key,
            num_updates=num_updates,
            checkpoints=checkpoints,
            resume=True,
            **arguments,
        )
    whole = rljax.sweep(agent, PENDULUM, key, num_updates=4, **arguments)
    assert_equal(stopped[0].train_state.agent_state, whole[0].train_state.agent_state)
    assert_equal(stopped[0].train_state.best, whole[0].train_state.best)
    seen = whole[0].train_state.agent_state.running
    np.testing.assert_array_equal(seen.observations.number, [48, 48])
    assert seen.observations.mean[0, 2] != seen.observations.mean[1, 2]


@pytest.mark.slow
def test_vmapped_statistics_are_those_of_each_seed(key):
    agent = rljax.ActorCritic(**SMALL, **BOTH)

    def train(key):
        return rljax.train(agent, PENDULUM, key, num_updates=3)[0].agent_state

    keys = jax.random.split(key, 2)
    together = jax.vmap(train)(keys)
    for i in range(2):
        alone = jax.tree.map(lambda x, i=i: x[i], together)
        assert_equal(train(keys[i]), alone, rtol=1e-4)


@pytest.mark.slow
def test_evaluation_takes_nothing_in(key):
    agent = rljax.PPO(**SMALL, **BOTH)
    state, _ = rljax.train(agent, PENDULUM, key, num_updates=2)
    other = dataclasses.replace(PENDULUM, env=rljax.Pendulum(max_speed=50.0))

    def evaluated(num_envs, env=PENDULUM):
        # Of an agent with other environments: how many is nothing that was learned.
        again = dataclasses.replace(agent, num_envs=num_envs)
        state_ = state.agent_state
        return rljax.evaluate(again, state_, env, key, num_episodes=3).episode_returns

    before = evaluated(3)
    evaluated(3, other)
    np.testing.assert_array_equal(evaluated(3), before)
    np.testing.assert_array_equal(evaluated(4), before)


@pytest.mark.slow
def test_a_loaded_run_normalises_as_it_did(tmp_path):
    command = [sys.executable, "-m", "rljax", "train", "ppo", "--env", "Pendulum-v1"]
    command += ["--normalize-observations", "--normalize-rewards", "--num-updates", "2"]
    command += ["--num-envs", "2", "--rollout-length", "8", "--num-seeds", "2"]
    subprocess.run([*command, "--output", str(tmp_path)], check=True)
    run = rljax.load_run(next(tmp_path.iterdir()), seed=1)
    assert run.agent.normalize_observations and run.agent.normalize_rewards
    weights = run.save_weights(tmp_path / "weights.npz")
    seen = run.agent_state.running.observations
    obs = np.array([0.5, -0.5, 3.0], np.float32)
    x = oracle.normalised(
        obs,
        weights["running.observations.mean"],
        weights["running.observations.variance"],
    )
    assert weights["running.observations.number"] == seen.number == 32
    assert not any(x.shape == (2,) for x in weights.values())
    layers = "params.params.actor."
    for i in range(2):
        x = np.maximum(
            x @ weights[f"{layers}{i}.kernel"] + weights[f"{layers}{i}.bias"], 0
        )
    mean = x @ weights[f"{layers}2.kernel"] + weights[f"{layers}2.bias"]
    np.testing.assert_allclose(run.policy(obs), 2 * np.tanh(mean), rtol=1e-4)
    program = run.export()
    np.testing.assert_allclose(program.call(obs), run.policy(obs), rtol=1e-5)


@struct.dataclass
class BadlyScaled(rljax.Env):
    """The pendulum in units that make its numbers large and far from 0."""

    env: rljax.Env = dataclasses.field(default_factory=rljax.Pendulum)

    @property
    def observation_space(self):
        return rljax.spaces.Box(-jnp.inf, jnp.inf, (3,))

    @property
    def action_space(self):
        return self.env.action_space

    def reset(self, key):
        state, obs = self.env.reset(key)
        return state, 1e3 * obs + 5e3

    def step(self, state, action, key):
        state, time_step = self.env.step(state, action, key)
        return state, time_step._replace(obs=1e3 * time_step.obs + 5e3)


@pytest.mark.slow
def test_normalisation_makes_bad_units_do_no_harm(record_property):
    """On the pendulum a random policy earns some −1200, one that swings up −200."""
    settings = {"num_envs": 32, "rollout_length": 128, "num_epochs": 8}
    settings |= {"num_minibatches": 16, "learning_rate": 1e-3, "discount": 0.95}
    settings |= {"gae_lambda": 0.95, "entropy_coef": 0.0}
    env = rljax.TimeLimit(BadlyScaled(), 200)

    def earned(**more):
        agent = rljax.PPO(**settings, **more)

        def run(key):
            state, _ = rljax.train(agent, env, key, num_updates=60)
            return rljax.evaluate(
                agent, state.agent_state, env, key, num_episodes=32
            ).episode_returns.mean()

        return np.asarray(jax.vmap(run)(jax.random.split(jax.random.key(0), 3)))

    with_it, without = earned(**BOTH), earned()
    record_property("evidence", f"normalised {with_it}, as it is {without}")
    assert with_it.min() > without.max() + 300
