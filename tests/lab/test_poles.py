"""What the page shows of learning to balance a pole is what rljax says."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from bokeh.document import Document

import rljax
from rljax.lab import page, poles, stepwise
from rljax.lab.cartpole import RANGES, PoleTab
from tests.lab import controls

FIRST = next(iter(poles.METHODS))
METHODS = [
    FIRST,
    *(pytest.param(name, marks=pytest.mark.slow) for name in poles.METHODS),
]


@pytest.fixture
def tab():
    made = PoleTab()
    made._others.active = False
    return made


@pytest.fixture
def assert_same(request):
    """Bit for bit, but to rounding where conftest.py has programs compiled fast."""
    if request.config.getoption("markexpr") == "not slow":
        return functools.partial(chex.assert_trees_all_close, rtol=1e-4, atol=1e-5)
    return chex.assert_trees_all_equal


def trained(learner, seed):
    key = jax.random.key(seed)
    return rljax.train(learner.agent, learner.env, key, num_updates=learner.num_updates)


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_the_agent_is_that_of_train_bit_for_bit(method, assert_same):
    learner = poles.Learner(method, seed=3)
    for number in (1, 0, 1, 5, 300, 0, 450):  # single steps, pauses, longer spans
        assert learner.advance(number) == number
    assert learner.num_steps == 757
    assert learner.num_updates >= 2
    state, metrics = trained(learner, 3)
    mine = learner.training.train_state
    assert_same(mine.agent_state, state.agent_state)
    if method == FIRST:  # an update ends each episode
        assert learner.num_updates == learner.num_episodes
        assert learner.num_episodes == metrics.num_episodes.sum()
        lengths = metrics.episode_length_sum
        assert learner.num_steps == lengths.sum() + learner.steps_in_episode
        assert learner.longest == lengths.max()
        assert learner.last == lengths[-1]
    else:  # go on to the end of the rollout, where `train` stops too
        learner.advance(learner.agent.rollout_length - int(learner.training.time))
        state, metrics = trained(learner, 3)
        mine = learner.training.train_state
        assert_same(mine.agent_state, state.agent_state)
        assert_same(mine.rollout_state, state.rollout_state)
        assert learner.num_episodes == metrics.num_episodes.sum()
    assert int(mine.agent_state.num_updates) > 0


def test_one_step_at_a_time_or_many_is_the_same():
    one, many = poles.Learner(FIRST), poles.Learner(FIRST)
    for _ in range(60):
        one.advance(1)
    many.advance(60)
    chex.assert_trees_all_equal(one.training, many.training)
    for of_one, of_many in zip(one.curve.means(), many.curve.means(), strict=True):
        np.testing.assert_array_equal(of_one, of_many)
    assert one.longest == many.longest > 0
    np.testing.assert_array_equal(one.fallen, many.fallen)
    assert abs(one.fallen[2]) > rljax.CartPole().theta_threshold


def test_an_episode_is_finished_and_no_more():
    learner = poles.Learner(FIRST)
    learner.finish_episode()
    assert learner.num_episodes == 1
    assert learner.num_steps == learner.last == learner.longest > 0
    assert learner.steps_in_episode == 0


def test_a_push_changes_the_velocities_and_the_agent_sees_it():
    learner = poles.Learner(FIRST)
    learner.advance(4)
    before = learner.state
    learner.push(-1)
    pushed = learner.state
    assert pushed[1] < before[1] - 0.3
    assert pushed[3] > before[3] + 0.3  # a cart that is pushed left tilts right
    np.testing.assert_array_equal(pushed[[0, 2]], before[[0, 2]])
    rollout_state = learner.training.train_state.rollout_state
    np.testing.assert_array_equal(rollout_state.obs[0], pushed)
    # An impulse: as a strong force for one step, without what gravity does meanwhile.
    learner.advance(1)
    start = rljax.envs.cartpole.CartPoleState(*map(jnp.float32, pushed))
    after, _ = rljax.CartPole().step(start, learner.action, jax.random.key(0))
    np.testing.assert_allclose(learner.state, np.stack(after), rtol=1e-5, atol=1e-6)
    assert learner.steps_in_episode == 5


def test_a_push_before_the_first_step_counts():
    learner, other = poles.Learner(FIRST), poles.Learner(FIRST)
    learner.push(1)
    for one in (learner, other):
        one.advance(1)
    assert learner.state[1] > other.state[1] + 0.3


def test_physics_act_at_once_and_compile_nothing():
    learner = poles.Learner(FIRST)
    learner.advance(3)
    compiled = stepwise.advance._cache_size()
    start = rljax.envs.cartpole.CartPoleState(*map(jnp.float32, learner.state))
    learner.change(poles.Physics(gravity=20.0, length=0.4, force=3.0))
    learner.advance(1)
    env = rljax.CartPole(gravity=20.0, half_length=0.2, force=3.0)
    after, _ = env.step(start, learner.action, jax.random.key(0))
    np.testing.assert_allclose(learner.state, np.stack(after), rtol=1e-5, atol=1e-6)
    assert stepwise.advance._cache_size() == compiled


def test_the_programs_that_a_page_calls_are_compiled_aside(monkeypatch):
    called, steps = [], []

    def advance(*arguments):
        called.append(("advance", kind_of(arguments)))
        steps.append(arguments[3])
        return arguments[2], stepwise._nothing()

    def push(*arguments):
        called.append(("push", kind_of(arguments)))
        return arguments[1]

    def kind_of(arguments):
        """By which JAX chooses a program."""
        return jax.tree.flatten(jax.eval_shape(lambda *same: same, *arguments))

    learner = poles.Learner(FIRST)
    before = learner.training
    monkeypatch.setattr(stepwise, "advance", advance)
    monkeypatch.setattr(poles, "_push", push)
    learner.is_ready()
    learner._compiling.result()
    assert learner.is_ready() and learner.training is before
    assert steps == [0]  # which changes nothing
    compiled, called[:] = list(called), []
    learner.advance(7)
    learner.training = before._replace(time=before.time * 0)  # a rollout has begun
    learner.push(-1)
    assert steps == [0, 7]
    assert called == compiled


@pytest.mark.slow
@pytest.mark.parametrize("method", poles.METHODS)
def test_the_other_seeds_are_those_of_train_and_keep_up(method):
    learner = poles.Learner(method)
    while learner.num_updates < 3:
        learner.advance(100)
    while learner.advance_others(10**6):
        pass
    curve = learner.others_curve
    behind = learner.num_steps - int(learner.training.time) - curve.steps
    assert (behind <= 0).all()
    key = jax.random.split(jax.random.fold_in(jax.random.key(0), 1), 16)[7]
    other = jax.tree.map(lambda x: x[7], learner.others)
    number = int(other.agent_state.num_updates)
    state, metrics = rljax.train(learner.agent, learner.env, key, num_updates=number)
    # vmapped as they are, they agree to rounding, and so in every action so far.
    chex.assert_trees_all_close(
        other.agent_state.params, state.agent_state.params, rtol=1e-4, atol=1e-5
    )
    counts, sums = curve._counts[7].sum(), curve._sums[7].sum()
    assert counts == metrics.num_episodes.sum()
    assert sums == metrics.episode_length_sum.sum()
    ends, quartiles = curve.band()
    assert (np.diff(quartiles, axis=0) >= 0).all()
    assert (ends <= curve.steps.min()).all()


def test_a_curve_widens_its_bins_and_loses_nothing():
    curve, ends, lengths = poles.Curve(1, 4), [], []
    generator = np.random.default_rng(0)
    for _ in range(300):
        length = int(generator.integers(1, 30))
        curve.make_room(length)
        counts = np.zeros((1, stepwise.BINS), int)
        where = (curve.offsets()[0] + length - 1) // curve.width
        counts[0, where] = 1
        curve.add(counts, counts * length, [length])
        ends.append(curve.steps[0] - 1)
        lengths.append(length)
    assert curve.width > 4
    bins = np.array(ends) // curve.width
    upper, means = curve.means()
    for number in range(stepwise.BINS):
        found = np.array(lengths)[bins == number]
        expected = found.mean() if len(found) else np.nan
        np.testing.assert_allclose(means[0, number], expected)
        assert upper[number] == (number + 1) * curve.width


def test_the_band_is_of_all_seeds_where_all_have_got():
    curve = poles.Curve(4, 1)
    each = stepwise.BINS // poles.BAND_BINS
    counts = np.zeros((4, stepwise.BINS), int)
    counts[:, 0] = 1
    counts[:3, each] = 1
    lengths = np.array([[10], [20], [30], [40]])
    curve.add(counts, counts * lengths, np.array([2, 2, 2, 2]) * each)
    ends, quartiles = curve.band()
    np.testing.assert_array_equal(ends, [each, 2 * each])
    expected = np.quantile([10, 20, 30, 40], [0.25, 0.5, 0.75])
    np.testing.assert_array_equal(quartiles, np.stack([expected, expected], axis=1))


def test_methods_are_switched_and_each_keeps_its_training(tab):
    tab.advance(30)
    first = tab.learner
    tab._method.active = 2
    assert tab.method == "PPO"
    assert tab.learner.num_steps == 0
    assert "PPO" in tab.numbers.text
    tab._method.active = 0
    assert tab.learner is first
    assert first.num_steps == 30
    tab.reset()
    assert tab.learner.num_steps == 0
    tab.advance(30)
    chex.assert_trees_all_equal(tab.learner.training, first.training)
    tab.seed.value = 1
    assert tab.learner.num_steps == 0
    tab.advance(30)
    assert np.any(tab.learner.state != first.state)


def test_the_page_shows_what_the_learner_holds(tab):
    Document().add_root(tab.root)
    learner, picture = tab.learner, tab._picture
    assert np.isnan(picture._cart.data["force_x"][0])  # nobody has acted yet
    assert np.isnan(picture._fallen.data["x"][0])
    tab._go_on(120)
    way = picture._cart.data["force_x"][0] - learner.state[0]
    assert np.sign(way) == (-1, 1)[learner.action]
    assert picture._fallen.data["x"][0] == learner.fallen[0]
    assert picture._cart.data["x"][0] == learner.state[0]
    theta = np.arctan2(
        picture._cart.data["top_x"][0] - picture._cart.data["x"][0],
        picture._cart.data["top_y"][0] - picture._cart.data["y"][0],
    )
    np.testing.assert_allclose(theta, learner.state[2], atol=1e-6)
    curve = tab._curves_of[FIRST].data
    means = learner.curve.means()[1][0]
    np.testing.assert_array_equal(curve["y"], means[~np.isnan(means)])
    for name, value in (
        ("steps in all", learner.num_steps),
        ("episode", learner.num_episodes + 1),
        ("length", learner.steps_in_episode),
        ("best (most: 500)", learner.longest),
    ):
        assert f"<b>{value}</b><span>{name}</span>" in tab.numbers.text
    tab._sliders["length"].value = 0.4
    assert learner.env.env.half_length == 0.2
    tops = (picture._cart.data[name][0] for name in ("top_x", "top_y"))
    bottom = (picture._cart.data[name][0] for name in ("x", "y"))
    np.testing.assert_allclose(
        np.hypot(*np.subtract(list(tops), list(bottom))), 0.4, rtol=1e-6
    )


def test_keys_push_and_a_hostile_page_is_kept_in_bounds(tab):
    Document().add_root(tab.root)
    tab.advance(5)
    before = tab.learner.state
    for number, direction in enumerate(["x", None, 7, -0.5, [1], float("nan")]):
        tab._keys.data = {"direction": [direction], "number": [number]}
    tab._keys.data = {"direction": [], "number": []}
    tab._keys.data = {"other": [1]}
    np.testing.assert_array_equal(tab.learner.state, before)
    tab._keys.data = {"direction": [1], "number": [1]}
    assert tab.learner.state[1] > before[1] + 0.3
    assert tab._num_pushes == 1
    assert tab._picture._cart.data["push_x"][0] < tab.learner.state[0]
    controls.assert_all_can_be_moved(tab)
    for name, (low, high) in RANGES.items():
        slider = tab._sliders[name]
        assert (slider.start, slider.end) == (low, high)
        for wild, bounded in ((-1e30, low), (1e30, high)):
            slider.value = wild
            assert getattr(tab.learner.physics, name) == bounded
        slider.value = float("nan")
        assert getattr(tab.learner.physics, name) == getattr(poles.Physics(), name)
    for wild in (99, -5):
        tab._method.active = wild
        assert tab.method in poles.METHODS
    tab._method.active = 0
    tab.advance(50)
    assert np.isfinite(tab.learner.state).all()


def test_a_frame_plays_what_is_due_and_pausing_changes_nothing(tab):
    tab.learner.advance(0)  # compiled
    tab.learner.is_ready()
    tab.learner._compiling.result()
    while tab.learner.num_steps < 40:
        tab.frame(0.04)
    steps = tab.learner.num_steps
    expected = poles.Learner(FIRST)
    expected.advance(steps)
    chex.assert_trees_all_equal(tab.learner.training, expected.training)
    view = page.Page(
        Document(), [type("Same", (), {"title": "", "__new__": lambda _: tab})]
    )
    tab.play(True)
    assert view._ticking is not None
    tab.play(False)
    assert view._ticking is None
