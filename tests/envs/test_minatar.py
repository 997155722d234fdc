"""MinAtar's games in lockstep with plain Python's, and with the package itself."""

import contextlib
import functools
from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rljax
from rljax.envs import minatar, pictures
from rljax.envs.minatar.asterix import AsterixNoise
from rljax.envs.minatar.freeway import FreewayNoise
from tests.conftest import enable_x64
from tests.oracles import minatar as oracle

NAMES = ("Asterix", "Breakout", "Freeway", "SpaceInvaders")
RAMPED = ("Asterix", "SpaceInvaders")
MINIMAL = ("Asterix", "Freeway")  # the short plays of the others have all six actions
ALL_ACTIONS = "nlurdf"
LIKED = {"Freeway": "u", "SpaceInvaders": "f"}  # what a player does more often


class Played:
    """A game of the oracle, with its random numbers; `begin` changes its start."""

    def __init__(self, name, rng, *, begin=lambda game, rng: None, **settings):
        self.name, self.rng, self.begin, self.settings = name, rng, begin, settings
        self.restart()

    def restart(self):
        self.last, luck = 0, luck_of(self.name, self.rng)
        if self.name == "Breakout":
            luck = bool(self.rng.integers(2))
        self.game = getattr(oracle, self.name)(luck, **self.settings)
        self.begin(self.game, self.rng)
        self.fields, self.board = self.game.fields, self.game.board

    def play(self, index, letters):
        """(sticky, the rest of the noise, reward, over)."""
        sticky, luck = self.rng.random() < 0.1, luck_of(self.name, self.rng)
        self.last = self.last if sticky else index
        return sticky, luck, *self.game.play(letters[self.last], luck)


def luck_of(name, rng):
    if name == "Asterix":
        fraction = rng.integers(2**24) / 2**24
        return bool(rng.integers(2)), bool(rng.random() < 0.4), fraction
    if name == "Freeway":
        return tuple(int(x) for x in rng.integers(1, 6, 8) * rng.choice([-1, 1], 8))
    return None


def record(played, number, letters, immortal=()):
    """`number` transitions as arrays: before, action, sticky, luck, after, …

    At the steps in `immortal` a game goes on after its end, where it can.
    """
    rng, rows = np.random.default_rng(1), []
    for time in range(number):
        before = played.fields() | {"last_action": played.last}
        index = int(rng.integers(len(letters)))
        if played.name in LIKED and rng.random() < 0.8:
            index = letters.index(LIKED[played.name])
        if played.name == "Breakout" and rng.random() < 0.85:
            aim = before["column"] + before["right"] - before["paddle"]
            index = letters.index("nrl"[int(np.sign(aim))])
        sticky, luck, reward, over = played.play(index, letters)
        after = played.fields() | {"last_action": played.last}
        rows.append((before, index, sticky, luck, after, reward, over, played.board()))
        mortal = played.name in ("Breakout", "Freeway") or time not in immortal
        if over and mortal:
            played.restart()
    before, action, sticky, luck, after, *rest = zip(*rows, strict=True)
    columns = {name: np.array([x[name] for x in before]) for name in before[0]}
    expected = {name: np.array([x[name] for x in after]) for name in after[0]}
    noise = noise_of(played.name, np.array(sticky), luck)
    return columns, np.array(action, np.int32), noise, expected, *map(np.array, rest)


def noise_of(name, sticky, luck):
    if name == "Asterix":
        rightwards, gold, fraction = map(np.array, zip(*luck, strict=True))
        place = (fraction * 2**24).astype(np.int32)
        return AsterixNoise(sticky, rightwards, gold, place)
    return FreewayNoise(sticky, np.array(luck, np.int32)) if luck[0] else sticky


def state_of(env, fields):
    """The library's state from its fields' numbers: bool where it is, else int32."""
    arrays = {
        name: jnp.asarray(x if x.dtype == bool else x.astype(np.int32))
        for name, x in fields.items()
    }
    return env.State(**arrays)


def check(env, experience):
    """One step from each state before is the state after, and all that goes with it."""
    before, action, noise, expected, reward, over, board = experience
    step = jax.jit(jax.vmap(env.advance))
    after, time_step = step(state_of(env, before), action, noise)
    found = {name: np.asarray(x) for name, x in after._asdict().items()}
    if isinstance(env, minatar.Asterix):
        there = found["columns"] >= 0  # else direction and kind mean nothing
        found["directions"] = np.where(there, found["directions"], 1)
        found["gold"] = found["gold"] & there
    assert found.keys() == expected.keys()
    for name, values in found.items():
        np.testing.assert_array_equal(values, expected[name], err_msg=name)
    np.testing.assert_array_equal(time_step.obs, board)
    np.testing.assert_array_equal(time_step.reward, reward)
    np.testing.assert_array_equal(time_step.terminated, over)
    assert not time_step.truncated.any()
    assert time_step.obs.dtype == np.uint8


def make(name, **settings):
    return rljax.make(f"MinAtar/{name}-v1", **settings)


def letters_of(name, minimal):
    return getattr(oracle, name).actions if minimal else ALL_ACTIONS


def near_its_limits(game, rng):
    """So that a short play gets there."""
    if isinstance(game, oracle.Breakout):
        left = rng.permutation(sorted(game.bricks))[: rng.choice([2, 15])]
        game.bricks = {(int(row), int(column)) for row, column in left}
    if isinstance(game, oracle.Freeway):
        game.time = 2100
    if isinstance(game, oracle.SpaceInvaders):
        game.interval = 7


@functools.cache
def short_play(name):
    """1,500 steps, first of games that end, then of long ones."""
    played = Played(name, np.random.default_rng(0), begin=near_its_limits)
    letters = letters_of(name, name in MINIMAL)
    return record(played, 1500, letters, immortal=range(200, 1500))


@pytest.mark.parametrize("name", NAMES)
def test_lockstep(name):
    env = make(name, minimal_actions=name in MINIMAL)
    check(env, short_play(name))


def test_the_short_play_sees_what_there_is_to_see():
    before, _, _, after, reward, over, _ = short_play("Asterix")
    assert reward.sum() > 20 and over.sum() > 20
    assert before["time"].max() == 918
    assert (before["columns"] >= 0).sum(1).max() == 8  # no row is free
    before, _, _, after, reward, over, _ = short_play("Breakout")
    assert over.sum() > 5 and reward.sum() > 20
    assert ((before["bricks"] == 0) & (after["bricks"] != 0)).sum() > 2  # a new wall
    assert (after["in_brick"] & (reward == 0)).sum() > 2  # flown through
    at_corner = before["column"] != after["paddle"]
    assert (at_corner & (before["row"] == 8) & (after["row"] == 8)).sum() > 5
    before, _, _, after, reward, over, _ = short_play("Freeway")
    assert reward.sum() > 5 and over.sum() == 3
    assert ((before["row"] != 9) & (after["row"] == 9) & (reward == 0)).sum() > 20
    before, _, _, after, reward, over, _ = short_play("SpaceInvaders")
    assert over.sum() > 5
    cleared = (reward > 0) & (before["interval"] == 6) & wave_of(after)
    assert cleared.sum() and after["interval"].min() == 6


def wave_of(fields):
    return (fields["aliens"] == [0, 0, 15, 15, 15, 15, 15, 15, 0, 0]).all(1)


class Package(Played):
    """A game of the package minatar; its random numbers are recorded."""

    def restart(self):
        import minatar as package

        if not hasattr(self, "game"):
            snake = {"SpaceInvaders": "space_invaders"}.get(self.name, self.name)
            self.game = package.Environment(
                snake.lower(), difficulty_ramping=self.settings.get("ramping", True)
            )
            self.draws = Recorder(int(self.rng.integers(2**31)))
            self.game.random = self.game.env.random = self.draws
            self.board = self.game.state
        self.game.reset()
        self.game.last_action = 0
        self.last = 0

    def play(self, index, letters):
        self.draws.found.clear()
        self.game.env.terminal = False
        reward, over = self.game.act(ALL_ACTIONS.index(letters[index]))
        self.last = letters.index(ALL_ACTIONS[self.game.last_action])
        (sticky, _), *drawn = self.draws.found
        luck = luck_of(self.name, self.rng)
        if drawn and self.name == "Asterix":
            (side, _), (kind, _) = drawn[:2]
            fraction = luck[2]
            if drawn[2:]:  # there was a free row
                number, (many,) = drawn[2]
                fraction = int((number + 0.5) / many * 2**24) / 2**24
            luck = side < 1 / 2, kind < 1 / 3, fraction
        if drawn and self.name == "Freeway":
            (speeds, _), (ways, _) = drawn
            luck = tuple(speeds * np.where(ways > 0.5, 1, -1))
        return sticky < 0.1, luck, reward, over

    def fields(self):
        return globals()[f"fields_of_{self.name}"](self.game.env)


class Recorder(np.random.RandomState):
    def __init__(self, seed):
        super().__init__(seed)
        self.found = []

    def rand(self, *shape):
        self.found.append((super().rand(*shape), shape))
        return self.found[-1][0]

    def randint(self, *args):
        drawn = super().randint(*args)
        self.found.append((np.copy(drawn), args))  # Freeway multiplies it in place
        return drawn


def fields_of_Breakout(env):
    return {
        "paddle": env.pos,
        "row": env.ball_y,
        "column": env.ball_x,
        "last_row": env.last_y,
        "last_column": env.last_x,
        "down": (-1, -1, 1, 1)[env.ball_dir],
        "right": (-1, 1, 1, -1)[env.ball_dir],
        "bricks": int(env.brick_map[1:4].T.ravel() @ 2 ** np.arange(30)),
        "in_brick": env.strike,
    }


def fields_of_Asterix(env):
    things = [x or [-1, row + 1, True, False] for row, x in enumerate(env.entities)]
    columns, rows, rightwards, gold = zip(*things, strict=True)
    assert rows == tuple(range(1, 9))
    harder, left = env.ramp_index, env.ramp_timer
    assert env.spawn_speed == 10 - harder and env.move_speed == 5 - harder // 2
    return {
        "row": env.player_y,
        "column": env.player_x,
        "columns": columns,
        "directions": [1 if x else -1 for x in rightwards],
        "gold": gold,
        "spawn_timer": env.spawn_timer,
        "move_timer": env.move_timer,
        "time": 102 * harder + 100 - left,
    }


def fields_of_Freeway(env):
    columns, rows, timers, speeds = zip(*env.cars, strict=True)
    assert rows == tuple(range(1, 9))
    return {
        "row": env.pos,
        "columns": columns,
        "speeds": speeds,
        "timers": timers,
        "move_timer": env.move_timer,
        "time": 2500 - env.terminate_timer,
    }


def fields_of_SpaceInvaders(env):
    def rows(places):
        return (2 ** np.arange(10) @ places).astype(int)

    if env.ramping:
        assert env.ramp_index == 12 - env.enemy_move_interval
    return {
        "cannon": env.pos,
        "aliens": rows(env.alien_map),
        "bullets": rows(env.f_bullet_map),
        "bombs": rows(env.e_bullet_map),
        "direction": env.alien_dir,
        "interval": env.enemy_move_interval,
        "move_timer": env.alien_move_timer,
        "bomb_timer": env.alien_shot_timer,
        "shot_timer": env.shot_timer,
    }


@pytest.mark.slow
@pytest.mark.parametrize("reference", [Played, Package])
@pytest.mark.parametrize("easy", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_long_lockstep(name, easy, reference, record_property):
    """With all six actions, and with the minimal ones and no ramping."""
    if reference is Package:
        pytest.importorskip("minatar")
    ours, theirs = {}, {}
    if easy and name in RAMPED:
        ours, theirs = {"difficulty_ramping": False}, {"ramping": False}
    number = 15_000
    played = reference(name, np.random.default_rng(3), **theirs)
    experience = record(played, number, letters_of(name, easy), range(5000, number))
    check(make(name, minimal_actions=easy, **ours), experience)
    before, reward, over = experience[0], experience[4], experience[5]
    record_property(
        "evidence",
        f"{name} against {reference.__name__}, {number:,} transitions: all equal, "
        f"{reward.sum():.0f} rewards, {over.sum()} ends",
    )
    assert reward.sum() > 40
    if ours:
        assert before.get("time", np.zeros(1)).max() == 0
        assert before.get("interval", np.full(1, 12)).min() == 12
    elif name in RAMPED:
        limits = {"time": 918, "interval": 6}
        assert any(limit in before.get(x, ()) for x, limit in limits.items())


def test_the_actions_are_the_packages():
    assert make("Asterix").actions == "nlurd"
    assert make("Breakout").actions == "nlr"
    assert make("Freeway").actions == "nud"
    assert make("SpaceInvaders").actions == "nlrf"
    for name in NAMES:
        env = make(name)
        assert env.action_space.n == len(env.actions)
        assert env.actions == letters_of(name, True)
        assert env.sticky_action_prob == 0.1
        assert make(name, minimal_actions=False).actions == ALL_ACTIONS
        assert make(name, max_steps=7).max_steps == 7


@pytest.mark.parametrize("name", NAMES)
def test_games_start_as_the_oracles(name):
    env = make(name)
    states, boards = jax.jit(jax.vmap(env.reset))(jax.random.split(KEY, 2000))
    states = {x: np.asarray(y) for x, y in states._asdict().items()}
    for i in range(20):
        first = {x: y[i] for x, y in states.items()}
        luck = first["column"] == 9 if name == "Breakout" else first.get("speeds")
        game = getattr(oracle, name)(luck)
        for field, value in (game.fields() | {"last_action": 0}).items():
            np.testing.assert_array_equal(first[field], value, err_msg=field)
        np.testing.assert_array_equal(boards[i], game.board())
    if name == "Breakout":
        assert (states["column"] == 9).mean() == pytest.approx(0.5, abs=0.04)
    if name == "Freeway":
        are_uniform(states["speeds"])


KEY = jax.random.key(5)


def are_uniform(speeds):
    """In each lane alone, and in any two together."""
    kinds = np.where(speeds > 0, speeds - 1, 4 - speeds)
    assert kinds.min() == 0 and kinds.max() == 9
    for i in range(8):
        assert chi_square(kinds[:, i], 10) < 28  # of 9 degrees: 1 in 1,000
        for j in range(i):
            assert chi_square(10 * kinds[:, i] + kinds[:, j], 100) < 160


def chi_square(outcomes, number):
    counts, each = np.bincount(outcomes, minlength=number), len(outcomes) / number
    return ((counts - each) ** 2 / each).sum()


@pytest.mark.slow
def test_the_noise_has_the_packages_probabilities():
    number, probabilities = 50_000, np.array([0.0, 0.3, 1.0])

    @jax.jit
    def draw():
        draw_sticky = jax.vmap(lambda p: minatar.Breakout(p).draw((2000,), KEY))
        freeway = make("Freeway").draw((4, 1000), KEY)
        return make("Asterix").draw((number,), KEY), freeway, draw_sticky(probabilities)

    noise, freeway, by_probability = draw()
    place = np.asarray(noise.place)
    assert place.min() >= 0 and place.max() < 2**24
    counts = Counter(zip(*map(np.ravel, noise[:3]), (5 * place) >> 24, strict=True))
    for (sticky, _, gold, _), count in counts.items():
        share = (0.1 if sticky else 0.9) * (1 / 3 if gold else 2 / 3) / 2 / 5
        deviation = (share * (1 - share) / number) ** 0.5
        assert abs(count / number - share) < 4 * deviation
    assert len(counts) == 2 * 2 * 2 * 5
    are_uniform(np.reshape(freeway.speeds, (-1, 8)))
    assert freeway.sticky.shape == (4, 1000)
    assert freeway.sticky.mean() == pytest.approx(0.1, abs=0.02)
    np.testing.assert_allclose(by_probability.mean(1), probabilities, atol=0.045)


def test_without_ramping_nothing_becomes_faster():
    for name in RAMPED:
        env, game = make(name, difficulty_ramping=False), getattr(oracle, name)()
        if name == "SpaceInvaders":
            game.aliens, game.bullets = {(0, 4)}, {(1, 4)}
        fields = game.fields() | {"last_action": 0}
        state = state_of(env, {x: np.array(y) for x, y in fields.items()})
        noise = noise_of(
            name, np.array([True]), [(True, True, 0.0) if name == "Asterix" else None]
        )
        noise = jax.tree.map(lambda x: x[0], noise)

        @jax.jit
        def harder(env=env, state=state, noise=noise):
            after, time_step = env.advance(state, 0, noise)
            found = after.time if name == "Asterix" else after.interval
            return found, time_step.reward

        assert harder() == ((0, 0) if name == "Asterix" else (12, 1))


@pytest.mark.parametrize("name", NAMES)
def test_types_are_fixed_under_strict_rules_and_in_x64(name):
    env = make(name)
    strict = jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise")
    with contextlib.ExitStack() as stack:
        for context in (*strict, enable_x64()):
            stack.enter_context(context)
        first, obs = jax.eval_shape(env.reset, KEY)
        after, time_step = jax.eval_shape(env.step, first, jnp.int32(1), KEY)
        assert time_step.reward.dtype == np.float64
    assert after == first and time_step.obs == obs
    kinds = {str(leaf.dtype) for leaf in jax.tree.leaves(first)}
    assert kinds <= {"int32", "bool"}
    assert obs.shape == env.observation_space.shape
    assert not any(leaf.weak_type for leaf in jax.tree.leaves((after, time_step)))


@pytest.mark.parametrize("name", NAMES)
def test_a_picture_has_the_mark_of_each_channel_in_its_square(name):
    env, experience = make(name), short_play(name)
    before, boards = experience[0], experience[6]
    time = int(np.argmax(boards[:200].sum((1, 2, 3)))) + 1
    state = state_of(env, {x: y[time] for x, y in before.items()})
    picture, length = env.render(state, size=200), 20
    assert picture.shape == (200, 200, 3)
    for (row, column), things in np.ndenumerate(boards[time - 1].any(-1)):
        part = picture[row * length :, column * length :][:length, :length]
        middle = tuple(part[length // 2, length // 2])
        kinds = [
            pictures.MARKS[mark][0]
            for mark, there in zip(
                env.CHANNELS.values(), boards[time - 1, row, column], strict=True
            )
            if there
        ]
        assert bool(kinds) == bool(things)
        assert middle == tuple(bytes.fromhex([pictures.PAPER, *kinds][-1][1:]))


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (
            lambda: minatar.Breakout(sticky_action_prob=1.5),
            ValueError,
            r"Breakout.sticky_action_prob must be in \[0, 1\], got 1.5",
        ),
        (
            lambda: minatar.Freeway(minimal_actions=1),
            TypeError,
            "Freeway.minimal_actions must be True or False, got 1",
        ),
        (
            lambda: minatar.Asterix(difficulty_ramping=None),
            TypeError,
            "Asterix.difficulty_ramping must be True or False, got None",
        ),
        (
            lambda: minatar.SpaceInvaders(difficulty_ramping=0),
            TypeError,
            "SpaceInvaders.difficulty_ramping must be True or False, got 0",
        ),
        (
            lambda: minatar.Asterix().advance(None, 5, AsterixNoise(*[None] * 4)),
            ValueError,
            "Asterix's action must lie in",
        ),
        (
            lambda: minatar.Freeway(sticky_action_prob=jnp.ones(2)).reset(KEY),
            ValueError,
            "sticky_action_prob must be a scalar here",
        ),
        (
            lambda: minatar.Breakout().render(None),
            TypeError,
            "state must be a BreakoutState, such as",
        ),
    ],
)
def test_what_is_wrong_is_refused_by_name(make, error, message):
    with pytest.raises(error, match=message):
        make()
