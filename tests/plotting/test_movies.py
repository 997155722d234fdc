"""Movies: one frame a state of the very episode that `evaluate` plays."""

import base64
import io
import re
import sys
import types

import jax
import numpy as np
import pytest
from PIL import Image

import rljax
from rljax import plotting
from rljax.envs import pictures
from rljax.evaluation import play_episode
from rljax.rlhf.rewards import TableReward
from tests import probes
from tests.test_rollout import Pusher

POLE = rljax.TimeLimit(rljax.CartPole(), 500)
# The agent that always takes action 1 walks down to the goal.
COLUMN = rljax.GridWorld(("A", ".", ".", "G"))


def frames_of(data):
    """(frames, seconds of each, whether it plays again and again) of a GIF."""
    image = Image.open(io.BytesIO(data))
    assert image.format == "GIF"
    frames, durations = [], []
    for i in range(image.n_frames):
        image.seek(i)
        frames.append(np.asarray(image.convert("RGB")))
        durations.append(image.info["duration"] / 1000)
    return np.stack(frames), durations, image.info["loop"] == 0


@pytest.fixture(scope="module")
def fall():
    """A pole that is pushed to one side until it falls."""
    return plotting.animate(Pusher(), (), POLE, jax.random.key(3), size=100)


def test_there_is_a_frame_for_each_state_of_the_episode(fall):
    key = jax.random.key(3)
    played = rljax.evaluate(Pusher(), (), POLE, key, num_episodes=1)
    num_steps = int(played.episode_lengths[0])
    assert fall.frames.shape == (num_steps + 1, 50, 100, 3)
    assert fall.frames.dtype == np.uint8
    states = play_episode(Pusher(), (), POLE, key).env_states
    for i in (0, 3, num_steps):
        state = jax.tree.map(lambda x, i=i: x[i], states)
        np.testing.assert_array_equal(fall.frames[i], POLE.render(state, size=100))


def test_a_gif_has_the_frames_and_their_colours(fall):
    frames, seconds, again = frames_of(fall.gif)
    assert again
    # Some ten steps last ten seconds, but for the slowest speed; the end is held.
    assert fall.fps == 4
    seconds[-1] -= 1.0
    times = np.array(seconds) / 0.25
    np.testing.assert_array_equal(times, times.round())
    shown = np.repeat(frames, times.astype(int), axis=0)
    np.testing.assert_array_equal(shown, fall.frames)


def test_a_notebook_plays_the_gif(fall):
    ((kind, data),) = re.findall(r'src="data:(.*);base64,(.*)"', fall._repr_html_())
    assert kind == "image/gif"
    assert base64.b64decode(data) == fall.gif
    shape = f"{len(fall.frames)} frames of 100 × 50, 4 a second"
    assert repr(fall) == f"Movie({shape})"
    assert f'alt="Movie({shape})"' in fall._repr_html_()


def test_the_agent_walks_from_frame_to_frame(tmp_path, key):
    path = tmp_path / "walk.gif"
    path.write_bytes(b"an older one")
    movie = plotting.animate(Pusher(), (), COLUMN, key, path=path, fps=20, size=80)
    assert path.read_bytes() == movie.gif
    frames, seconds, _ = frames_of(movie.gif)
    assert len(frames) == 4
    assert seconds[:3] == [0.05] * 3
    blue = tuple(bytes.fromhex(pictures.AGENT[1:]))
    for i, frame in enumerate(frames):
        rows, _ = np.nonzero((frame[:, 5:15] == blue).all(-1))
        assert set(rows // 20) == {i}


@pytest.mark.parametrize(
    ("num_steps", "fps"), [(12, 4), (100, 10), (300, 30), (2000, 50)]
)
def test_an_episode_lasts_ten_seconds_if_it_can(num_steps, fps, monkeypatch, key):
    monkeypatch.setattr(
        rljax.plotting.movies,
        "play_episode",
        lambda *_, **__: rljax.evaluation.Episode(
            np.zeros(num_steps + 1, int), (), np.zeros(num_steps), True
        ),
    )
    movie = plotting.animate(Pusher(), (), COLUMN, key, size=16)
    assert movie.fps == fps


def test_frames_that_are_equal_are_one_longer_frame():
    dark, light = np.zeros((4, 4, 3), np.uint8), np.full((4, 4, 3), 255, np.uint8)
    movie = plotting.Movie(np.stack([dark, light, light, dark]), 10)
    frames, seconds, _ = frames_of(movie.gif)
    np.testing.assert_array_equal(frames, [dark, light, dark])
    assert seconds == [0.1, 0.2, 1.1]
    assert min(frames_of(plotting.Movie(movie.frames, 500).gif)[1]) == 0.02


def test_photographs_keep_their_colours_nearly():
    # A gradient with some thousand colours, brighter from frame to frame.
    x, y = np.meshgrid(np.arange(64), np.arange(48))
    one = np.stack([2 * x, 3 * y, x + y], -1)
    movie = plotting.Movie(np.stack([one, one + 20, one + 40]).astype(np.uint8), 10)
    frames, _, _ = frames_of(movie.gif)
    errors = np.abs(frames.astype(int) - movie.frames)
    assert errors.mean() < 6


def test_it_stops_at_max_steps_and_explores_if_asked(key):
    movie = plotting.animate(Pusher(), (), POLE, key, max_steps=3, size=40)
    assert len(movie.frames) == 4
    agent, maze = rljax.QLearning(), rljax.TimeLimit(rljax.GridWorld(), 9)
    state = agent.init(key, maze)
    for greedy in (True, False):
        movie = plotting.animate(agent, state, maze, key, greedy=greedy, size=40)
        episode = play_episode(agent, state, maze, key, greedy=greedy)
        last = jax.tree.map(lambda x: x[-1], episode.env_states)
        np.testing.assert_array_equal(movie.frames[-1], maze.render(last, size=40))


class Recorder:
    """What imageio-ffmpeg's writer is sent."""

    def __init__(self):
        self.frames, self.closed = [], False

    def write_frames(self, path, size, **settings):
        self.path, self.size, self.settings = path, size, settings
        return self

    def send(self, frame):
        self.frames.append(frame)

    def close(self):
        self.closed = True


def test_an_mp4_is_written_by_imageio_ffmpeg(monkeypatch, tmp_path):
    recorder = Recorder()
    module = types.SimpleNamespace(write_frames=recorder.write_frames)
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", module)
    frames = np.random.default_rng(0).integers(0, 256, (3, 5, 7, 3), np.uint8)
    path = tmp_path / "movie.MP4"
    plotting.Movie(frames, 25).save(path)
    assert (recorder.path, recorder.size) == (str(path), (8, 6))  # even numbers
    assert recorder.settings["fps"] == 25
    first, *sent = recorder.frames
    assert first is None
    assert recorder.closed
    np.testing.assert_array_equal(np.stack(sent)[:, :5, :7], frames)
    np.testing.assert_array_equal(np.stack(sent)[:, 5, :7], frames[:, 4])


def test_what_is_missing_is_named(monkeypatch, tmp_path, key):
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    with pytest.raises(ImportError, match="MP4 needs imageio-ffmpeg: pip install"):
        plotting.animate(Pusher(), (), POLE, key, path=tmp_path / "x.mp4")
    monkeypatch.setitem(sys.modules, "PIL", None)
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    with pytest.raises(ImportError, match=r"Pillow, .* 'rljax-core\[plot\]'"):
        plotting.animate(Pusher(), (), POLE, key, path=tmp_path / "x.gif")
    assert not list(tmp_path.iterdir())


def test_environments_without_a_picture_are_refused_before_anything_is_played(
    monkeypatch, key
):
    monkeypatch.setattr(rljax.plotting.movies, "play_episode", None)
    tokens = rljax.TokenMDP(TableReward(np.zeros((1, 4)), vocabulary_size=2), 2, 2)
    for env in (tokens, probes.Endless(), rljax.TimeLimit(probes.Endless(), 3)):
        name = type(getattr(env, "env", env)).__name__
        with pytest.raises(TypeError, match=f"{name} has no picture: .* define render"):
            plotting.animate(Pusher(), (), env, key)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"path": 3}, "path must be a path, got 3"),
        ({"path": "x.png"}, "path must end in .gif or .mp4, got 'x.png'"),
        ({"fps": 0}, "fps must be a number of frames per second, such as 30, got 0"),
        ({"fps": "fast"}, "fps must be a number of frames .* got 'fast'"),
        ({"max_steps": 0}, "max_steps must be at least 1, got 0"),
        ({"greedy": 1}, "greedy must be True or False, got 1"),
        ({"size": 3}, "size must be at least 16, got 3"),
        ({"env": 3}, "env must be an environment"),
        ({"agent": 3}, "agent must be an agent"),
    ],
)
def test_wrong_arguments_are_refused_by_name(arguments, message, key):
    usual = {"agent": Pusher(), "agent_state": (), "env": POLE, "key": key}
    with pytest.raises((TypeError, ValueError), match=message):
        plotting.animate(**{**usual, **arguments})
