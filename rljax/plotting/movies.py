"""Movies of episodes: GIFs by Pillow, MP4s by imageio-ffmpeg."""

import base64
import dataclasses
import functools
import importlib
import io
import os
from pathlib import Path
from typing import Any

import jax
import numpy as np

from rljax import checks, contract
from rljax.envs import pictures
from rljax.evaluation import play_episode
from rljax.types import Agent, EnvLike

_SECONDS = 10
_HELD = 1.0  # seconds of the last picture of a GIF, which then starts anew


@dataclasses.dataclass(frozen=True, eq=False)
class Movie:
    """Pictures of an episode, which a notebook plays."""

    frames: np.ndarray
    """[T + 1, H, W, 3] uint8: before the first step, and after each one."""
    fps: float
    """Frames per second."""

    def __repr__(self) -> str:
        count, height, width, _ = self.frames.shape
        return f"Movie({count} frames of {width} × {height}, {self.fps:g} a second)"

    def _repr_html_(self) -> str:
        data = base64.b64encode(self.gif).decode()
        return f'<img alt="{self!r}" src="data:image/gif;base64,{data}">'

    @functools.cached_property
    def gif(self) -> bytes:
        """The movie as a GIF, which plays again and again.

        GIFs count hundredths of a second, and browsers slow down what has less than
        two of them a frame, so no more than 50 frames a second are kept apart. A frame
        that equals the one before is kept as a longer one.
        """
        file = io.BytesIO()
        first, *rest = _with_one_palette(self.frames)
        shown = max(round(100 / self.fps), 2) * 10
        durations = [shown] * len(rest) + [round(1000 * _HELD) + shown]
        first.save(
            file,
            "GIF",
            save_all=True,
            append_images=rest,
            duration=durations,
            loop=0,
        )
        return file.getvalue()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the movie to a file that ends in .gif or .mp4, and replaces one there.

        Raises:
          TypeError, ValueError: the path is none, or ends otherwise.
          ImportError: imageio-ffmpeg is missing, which MP4 needs.
        """
        path = check_path(path)
        if path.suffix.lower() == ".gif":
            path.write_bytes(self.gif)
            return
        height, width = self.frames.shape[1:3]
        # Most players know nothing but colours in blocks of two by two.
        edges = ((0, 0), (0, height % 2), (0, width % 2), (0, 0))
        frames = np.pad(self.frames, edges, mode="edge")
        writer = ffmpeg().write_frames(
            str(path),
            (frames.shape[2], frames.shape[1]),
            fps=self.fps,
            macro_block_size=2,
            quality=8,
        )
        writer.send(None)
        for frame in frames:
            writer.send(np.ascontiguousarray(frame))
        writer.close()


def animate(
    agent: Agent,
    agent_state: Any,
    env: EnvLike,
    key: jax.Array,
    *,
    path: str | os.PathLike[str] | None = None,
    max_steps: int = 500,
    fps: float | None = None,
    greedy: bool = True,
    size: int = 400,
) -> Movie:
    """Plays an episode and draws it by `env.render`, for a file or a notebook.

    The episode is that of `evaluation.play_episode`, and so the one that `evaluate`
    plays with the same key and `num_episodes=1`.

        movie = rljax.plotting.animate(agent, state.agent_state, env, key)

    Args:
      agent: learning rule, the one of training.
      agent_state: from training, `train_state.agent_state`.
      env: environment with a picture: one that defines `render`.
      key: random key.
      path: file to write, ending in .gif or .mp4, replaced if it is there; None: none.
      max_steps: steps after which the episode is given up.
      fps: frames per second, 1 to 50 for a GIF; None: so many that the episode lasts
        ten seconds, but 4 at least and 50 at most.
      greedy: whether the greedy policy plays, or else the one that explores.
      size: about how many pixels the longer side has.

    Returns:
      The movie. As the last line of a notebook's cell it is played there.

    Raises:
      TypeError, ValueError: an argument is wrong, or the environment has no picture;
        the message says which.
      ImportError: Pillow is missing, or imageio-ffmpeg, which MP4 needs.
    """
    contract.require(agent, env, key)
    if path is not None:
        path = check_path(path)
    if fps is not None:
        number = isinstance(fps, int | float) and not isinstance(fps, bool)
        if not number or not 0 < fps <= 1000:
            raise (ValueError if number else TypeError)(
                f"fps must be a number of frames per second, such as 30, got {fps!r}."
            )
    # Before the episode is compiled and played, as it may have no picture.
    contract.render(env, contract.reset(env, key)[0], size=size)
    episode = play_episode(
        agent, agent_state, env, key, max_steps=max_steps, greedy=greedy
    )
    num_steps = len(episode.rewards)
    states = [
        jax.tree.map(lambda x, i=i: x[i], episode.env_states)
        for i in range(num_steps + 1)
    ]
    frames = np.stack([contract.render(env, state, size=size) for state in states])
    if fps is None:
        fps = float(np.clip(num_steps / _SECONDS, 4, 50))
    movie = Movie(frames, fps)
    if path is not None:
        movie.save(path)
    return movie


def _with_one_palette(frames: np.ndarray) -> list[Any]:
    """The frames as Pillow's images with at most 256 colours, the same for all.

    What is drawn has no more colours, and keeps them exactly. Photographs have the 256
    that suit some of the frames best.
    """
    pil = pictures.pillow()

    def packed(frame):
        red, green, blue = np.moveaxis(frame.astype(np.uint32), -1, 0)
        return red << 16 | green << 8 | blue

    colors = np.unique(np.concatenate([np.unique(packed(x)) for x in frames]))
    if len(colors) > 256:
        some = pil.Image.fromarray(np.concatenate(frames[:: len(frames) // 8 + 1]))
        palette = some.quantize(256)
        images = [pil.Image.fromarray(frame) for frame in frames]
        return [image.quantize(palette=palette, dither=0) for image in images]
    numbers = np.zeros(2**24, np.uint8)
    numbers[colors] = np.arange(len(colors))
    images = [pil.Image.fromarray(numbers[packed(frame)]) for frame in frames]
    palette = np.stack([colors >> 16, colors >> 8 & 255, colors & 255], -1)
    for image in images:
        image.putpalette(palette.astype(np.uint8).tobytes())
    return images


def check_path(path: Any) -> Path:
    """`path` as a Path.

    Raises:
      TypeError, ValueError: it is no path of a GIF or MP4.
      ImportError: it is of an MP4, and imageio-ffmpeg is missing.
    """
    path = checks.path("path", path)
    if path.suffix.lower() not in (".gif", ".mp4"):
        raise ValueError(f"path must end in .gif or .mp4, got {str(path)!r}.")
    if path.suffix.lower() == ".mp4":
        ffmpeg()
    return path


def ffmpeg() -> Any:
    """The package imageio_ffmpeg, which brings a program that writes MP4.

    Raises:
      ImportError: it is missing.
    """
    try:
        return importlib.import_module("imageio_ffmpeg")
    except ImportError as error:
        raise ImportError(
            "an MP4 needs imageio-ffmpeg: pip install imageio-ffmpeg. A path that ends "
            "in .gif needs nothing more."
        ) from error
