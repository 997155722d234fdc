"""One contract test over every environment that `make` knows, and the probes."""

import dataclasses
import warnings
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rljax
from rljax import testing
from rljax.envs.registry import ENVS
from rljax.testing.environments import _check_no_reset_inside, _Step
from tests import probes
from tests.conftest import enable_x64

PROBES = [
    probes.OneStep(),
    probes.TwoSteps(),
    probes.ObsDependent(),
    probes.ActionDependent(),
    probes.ObsActionDependent(),
    rljax.TimeLimit(probes.Endless(), 3),
]


@pytest.mark.slow
@pytest.mark.parametrize("name", ENVS)
def test_every_name_keeps_the_contract(name, key):
    testing.check_env(rljax.make(name), key)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["CartPole-v1", "FrozenLake-4x4", "GaussianBandit-5"])
def test_names_keep_the_contract_in_x64(name):
    with enable_x64():
        testing.check_env(rljax.make(name), jax.random.key(0), num_steps=20)


def test_keys_that_can_not_tell_right_from_wrong_are_refused():
    env, agent = rljax.make("GridWorld-5x5"), rljax.QLearning()
    key = jax.random.key(0, impl="rbg")
    with pytest.raises(ValueError, match="the same under vmap and without, .* 'rbg'"):
        testing.check_env(env, key)
    with pytest.raises(ValueError, match="the same under vmap and without, .* 'rbg'"):
        testing.check_agent(agent, env, key)


@pytest.mark.parametrize("name", ENVS)
def test_legacy_keys_give_the_same_numbers(name):
    env = rljax.make(name)
    typed = env.reset(jax.random.key(7))
    jax.tree.map(np.testing.assert_array_equal, typed, env.reset(jax.random.PRNGKey(7)))


@pytest.mark.parametrize("env", PROBES, ids=lambda env: type(env).__name__)
def test_probes_keep_the_contract(env, key):
    testing.check_env(env, key, num_steps=20)


class Broken(rljax.CartPole):
    """CartPole with one part of the contract broken."""


def broken(**changes):
    """An environment whose TimeStep has `changes` applied to it."""

    class Env(Broken):
        def step(self, state, action, key):
            state, time_step = super().step(state, action, key)
            return state, time_step._replace(
                **{name: change(time_step) for name, change in changes.items()}
            )

    return rljax.struct.dataclass(Env)()


@pytest.mark.parametrize(
    ("env", "message"),
    [
        (broken(reward=lambda _: 1.0), r"step must return arrays, but \[1\]\[1\]"),
        (broken(truncated=lambda _: False), "step must return arrays"),
        (broken(reward=lambda t: jnp.asarray(1.0)), "reward is weakly typed"),
        (broken(obs=lambda t: {"x": t.obs}), "obs has structure"),
        (broken(reward=lambda t: t.obs), "reward must be a floating scalar"),
        (broken(reward=lambda t: t.terminated), "reward must be a floating scalar"),
        (broken(terminated=lambda t: t.reward), "terminated must be a bool"),
        (broken(obs=lambda t: t.obs[:2]), "obs is .* after step, but"),
        (broken(obs=lambda t: t.obs + 100), "outside its space"),
        (broken(reward=lambda t: t.reward * jnp.nan), "not finite"),
        (
            broken(obs=lambda t: jnp.where(t.terminated, jnp.nan, t.obs)),
            "the obs of step .* is not finite",
        ),
    ],
)
def test_a_broken_contract_is_named(env, message, key):
    with pytest.raises(AssertionError, match=message):
        testing.check_env(env, key)


@pytest.mark.parametrize(
    ("methods", "message"),
    [
        (
            {"step": lambda self, action, state, key: None},
            r"step takes \['action', 'state', 'key'\], but rollouts call it with "
            r"\['state', 'action', 'key'\], in this order",
        ),
        ({"step": lambda self, state, action: None}, "step takes .*'action'], but"),
        ({"reset": lambda self: None}, r"reset takes \[\], but .* with \['key'\]"),
        ({"reset": lambda self, key, seed: None}, r"reset takes \['key', 'seed'\]"),
    ],
)
def test_arguments_in_another_order_or_number_are_named(methods, message, key):
    env = rljax.struct.dataclass(type("Env", (probes.OneStep,), methods))()
    with pytest.raises(AssertionError, match=message):
        testing.check_env(env, key)


@rljax.struct.dataclass
class AutoReset(rljax.CartPole):
    """Resets within step, as many libraries do."""

    def step(self, state, action, key):
        state, time_step = super().step(state, action, key)
        fresh = self.reset(key)
        state, obs = jax.tree.map(
            lambda new, old: jnp.where(time_step.terminated, new, old),
            fresh,
            (state, time_step.obs),
        )
        return state, time_step._replace(obs=obs)


@rljax.struct.dataclass
class InlinedReset(rljax.CartPole):
    """The same without a call of reset, and with the true observation."""

    def step(self, state, action, key):
        state, time_step = super().step(state, action, key)
        drawn = jax.random.uniform(key, (4,), minval=-0.05, maxval=0.05)
        fresh = type(state)(*drawn)
        state = jax.tree.map(
            lambda new, old: jnp.where(time_step.terminated, new, old), fresh, state
        )
        return state, time_step


@rljax.struct.dataclass
class BackToStart(rljax.TimeLimit):
    """Around a grid: a done step leads to the state of a reset."""

    def advance(self, state, action, noise):
        state, time_step = super().advance(state, action, noise)
        done = time_step.terminated | time_step.truncated
        start = jax.tree.map(jnp.zeros_like, state)
        state = jax.tree.map(lambda a, b: jnp.where(done, a, b), start, state)
        return state, time_step


@rljax.struct.dataclass
class NumPyNoise(rljax.CartPole):
    """Draws from a generator that no key governs."""

    def step(self, state, action, key):
        state, time_step = super().step(state, action, key)
        noise = np.random.default_rng().normal()
        return state, time_step._replace(reward=time_step.reward + noise)


@rljax.struct.dataclass
class Remembers(rljax.CartPole):
    """Keeps what it traced."""

    seen: ClassVar[list] = []

    def step(self, state, action, key):
        state, time_step = super().step(state, action, key)
        self.seen.append(time_step.obs)
        return state, time_step


@rljax.struct.dataclass
class Branching(rljax.CartPole):
    """Branches on a leaf."""

    def reset(self, key):
        return super().reset(key) if self.gravity > 0 else None


@rljax.struct.dataclass
class PaysMoreInAdvance(rljax.GridWorld):
    """Its advance is not its step where the episode ends."""

    def step(self, state, action, key):
        return super().advance(state, action, self.draw((), key))

    def advance(self, state, action, noise):
        state, time_step = super().advance(state, action, noise)
        bonus = jnp.where(time_step.terminated, 77.0, 0.0).astype(float)
        return state, time_step._replace(reward=time_step.reward + bonus)


@rljax.struct.dataclass
class Ring(probes.Probe):
    """Right ways round a ring; the episode ends where it began."""

    def reset(self, key):
        return probes.start(0.0)

    def step(self, state, action, key):
        place = (state.time + 1) % 4
        obs = jnp.reshape(place / 4, (1,)).astype(float)
        end = place == 0
        reward = jnp.where(end, jax.random.uniform(key), 0.0)
        state = state._replace(obs=obs, time=place.astype(jnp.int32))
        return state, probes.time_step(obs, reward, end)


@rljax.struct.dataclass
class NoModel(probes.Probe):
    """Discrete observations, and nothing that enumerates them."""

    @property
    def observation_space(self):
        return rljax.spaces.Discrete(2)

    def reset(self, key):
        obs = jnp.zeros((), jnp.int32)
        return obs, obs

    def step(self, state, action, key):
        ends = jnp.asarray(True)
        return state, rljax.TimeStep(state, jnp.zeros((), float), ends, ~ends)


def test_what_only_looks_like_a_break_passes(key):
    testing.check_env(rljax.TimeLimit(NoModel(), 5), key, num_steps=20)
    with pytest.warns(UserWarning, match="If episodes truly end where they begin, all"):
        testing.check_env(Ring(), key, num_steps=20)


@rljax.struct.dataclass
class BackByItself(probes.Probe):
    """Deterministic, and resets state and observation within step."""

    def reset(self, key):
        return probes.start(0.0)

    def step(self, state, action, key):
        done = state.time >= 3
        place = jnp.where(done, 0, state.time + 1).astype(jnp.int32)
        obs = jnp.reshape(place / 4, (1,)).astype(float)
        return state._replace(obs=obs, time=place), probes.time_step(obs, 1.0, done)


def test_a_reset_of_state_and_observation_within_step_is_found(key):
    with pytest.warns(UserWarning, match="all 5 done steps, and no other one, lead to"):
        testing.check_env(BackByItself(), key, num_steps=20)


def played(*steps):
    """Steps by hand: the next state, that of another key, and the observation."""
    return [
        _Step(t, 1, 1, 0, None, state, rljax.TimeStep(obs, 0.0, done, False), (other,))
        for t, (done, state, other, obs) in enumerate(steps)
    ]


# Where reset gives the state 0 and the observation 0.
PLAIN, END = (False, 1, 1, 1), (True, 2, 2, 2)
DRAWN, DRAWN_END = (False, 1, 7, 1), (True, 2, 7, 2)
FRESH, FRESH_END = (False, 0, 0, 1), (True, 0, 0, 2)
START, START_END = (False, 0, 0, 0), (True, 0, 0, 0)


@pytest.mark.parametrize(
    ("steps", "broken"),
    [
        ([PLAIN, END], None),
        ([PLAIN, DRAWN_END], "step 1, which ended the episode, depends on its key"),
        ([PLAIN, PLAIN, DRAWN_END, END], None),
        ([DRAWN, DRAWN_END], None),
        ([PLAIN, DRAWN, DRAWN_END, DRAWN_END], None),  # one of them is enough
        ([PLAIN, FRESH_END], "after step 1, which ended the episode, the state is one"),
        ([PLAIN, FRESH_END, END], None),
        ([FRESH, FRESH_END], None),
        ([PLAIN, FRESH, FRESH_END], "after step 2, which ended the episode, the state"),
        ([FRESH, START, START_END], None),
        ([PLAIN, PLAIN, START_END, FRESH_END], "after step 2, which ended the episode"),
        ([DRAWN_END, FRESH_END], None),  # nothing to compare them with
        ([PLAIN, DRAWN], None),
    ],
)
def test_a_reset_is_told_from_an_end_by_the_steps_that_do_not_end(steps, broken):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        if broken is None:
            _check_no_reset_inside(played(*steps), [(3, 3), (0, 0)])
            return
        with pytest.raises(AssertionError, match=broken):
            _check_no_reset_inside(played(*steps), [(3, 3), (0, 0)])


def test_episodes_that_all_end_where_they_begin_are_warned_of():
    with pytest.warns(UserWarning, match="all 2 done steps, and no other one"):
        _check_no_reset_inside(played(PLAIN, FRESH, START_END, START_END), [(0, 0)])


@rljax.struct.dataclass
class Asking(probes.Probe):
    """Asks for the value of a traced array."""

    where: str = rljax.struct.static(default="step")

    def reset(self, key):
        if self.where == "reset" and jax.random.uniform(key) > 2:
            return probes.start(1.0)
        return probes.start(0.0)

    def step(self, state, action, key):
        if self.where == "step" and state.time > 3:
            return state, probes.time_step(state.obs, 1.0, True)
        array = np.asarray if self.where == "numpy" else jnp.asarray
        return state, probes.time_step(array(state.obs), 1.0, False)


@pytest.mark.parametrize("where", ["reset", "step", "numpy"])
def test_a_python_branch_on_a_traced_array_is_named(where, key):
    env = Asking(where)
    method = "reset" if where == "reset" else "step"
    line = "return state, .*array" if where == "numpy" else "if self.where"
    message = rf"Asking.{method} \(.*test_environments.py:\d+: {line}.*where\("
    agent = rljax.ActorCritic(num_envs=2, rollout_length=3, hidden_sizes=(2,))
    with pytest.raises(TypeError, match=message):
        rljax.train(agent, env, key, num_updates=1)
    with pytest.raises(AssertionError, match=message):
        testing.check_env(env, key, num_steps=20)


class WrongModel(rljax.GridWorld):
    """Says what its `change` makes of the model."""

    change = "rewards"

    def to_mdp(self, sparse=False):
        mdp = super().to_mdp(sparse=sparse)
        changed = {
            "rewards": lambda: mdp.rewards + 0.1,
            "terminal": lambda: ~mdp.terminal,
            "transitions": lambda: jnp.roll(mdp.transitions, 1, -1),
            "initial": lambda: jnp.roll(mdp.initial, 1),
        }[self.change]()
        return dataclasses.replace(mdp, **{self.change: changed})


def wrong_model(part):
    cls = type("Wrong", (WrongModel,), {"change": part})
    return rljax.struct.dataclass(cls)(("A..", "#.."[::-1], "..G"))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (AutoReset, "step calls reset"),
        (lambda: rljax.TimeLimit(AutoReset(), 500), "step calls reset"),
        (
            InlinedReset,
            "ended the episode, depends on its key, while no other step does",
        ),
        (
            lambda: BackToStart(rljax.make("GridWorld-5x5"), 9),
            "ended the episode, the state is one that reset returns",
        ),
        (
            NumPyNoise,
            r"step differs without and with jit: \[1\].reward is",
        ),
        pytest.param(
            *(Remembers, "leaves a traced value behind"),
            marks=pytest.mark.slow,  # JAX searches the heap for who holds it
        ),
        (Branching, "Branching can't be an argument of a jitted function"),
        (lambda: PaysMoreInAdvance(("AG",)), "advance instead of step differs at step"),
        (lambda: wrong_model("rewards"), r"pays .*, to_mdp\(\).rewards is"),
        (lambda: wrong_model("terminal"), r"has terminated .*to_mdp\(\).terminal is"),
        (lambda: wrong_model("transitions"), r"has probability 0 in to_mdp"),
        (lambda: wrong_model("initial"), r"where to_mdp\(\).initial is 0"),
    ],
)
def test_a_broken_promise_is_found_by_playing(make, message, key):
    with pytest.raises(AssertionError, match=message):
        testing.check_env(make(), key)


class Drawing(rljax.BernoulliBandit):
    """A bandit whose noise is not what its step uses, or has the wrong shape."""


class OtherNoise(Drawing):
    def step(self, state, action, key):
        return super().step(state, action, jax.random.fold_in(key, 1))

    def advance(self, state, action, noise):
        return super().advance(state, action, noise)


class OneShape(Drawing):
    def draw(self, shape, key):
        return super().draw((), key)


@pytest.mark.parametrize(
    ("env_class", "message"),
    [(OtherNoise, "advance instead of step"), (OneShape, r"draw\(\(2, 3\), key\)")],
)
def test_a_draw_that_is_not_the_step_s_is_named(env_class, message):
    env = rljax.struct.dataclass(env_class)(drift_scale=0.1, means=jnp.full(5, 0.5))
    with pytest.raises(AssertionError, match=message):
        testing.check_env(env, jax.random.key(0))


def test_a_step_that_rollouts_would_pass_by_is_refused():
    with pytest.raises(TypeError, match="overrides step but inherits advance"):

        class OnlyStep(Drawing):
            def step(self, state, action, key):
                return super().step(state, action, key)


class RandomWalk(probes.Probe):
    """Its step draws for itself."""

    def reset(self, key):
        return probes.start(0.0)

    def step(self, state, action, key):
        obs = jax.random.uniform(key, minval=-1.0, maxval=1.0)
        return state, probes.time_step(obs, obs, False)


def test_a_time_limit_around_an_environment_without_draw_keeps_the_contract(key):
    walk = rljax.struct.dataclass(RandomWalk)()
    testing.check_env(rljax.TimeLimit(walk, 5), key, num_steps=20)
