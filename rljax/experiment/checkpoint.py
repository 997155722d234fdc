"""Checkpoints of any pytree of arrays, through Orbax. Needs the extra `checkpoint`.

Orbax writes a checkpoint to a temporary folder and renames that folder when it is
complete, so that an interrupted one does not count. It stores plain arrays and JSON, so
nothing is unpickled. A description beside the arrays has every leaf's shape, dtype and
digest, and everything that is read is checked against it.
"""

import asyncio
import contextlib
import errno
import hashlib
import itertools
import json
import logging
import operator
import reprlib
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rljax import checks
from rljax.random import is_typed_key

FORMAT = 2
"""Number of the format, to be increased when older versions would misread a new one."""
_MARKS = ("description", "arrays", "_CHECKPOINT_METADATA", "commit_success.txt")
"""Any of these names in a folder marks it as a checkpoint, even a damaged one."""
_OF_THE_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EFBIG)
"""Of errors that say nothing against what was saved before."""


class CheckpointError(RuntimeError):
    """A checkpoint is not there, can't be read, or is not what was asked for."""


class SaveError(OSError):
    """A checkpoint could not be written; older ones are untouched."""


class Checkpoint(NamedTuple):
    """What `Checkpoints.restore` returns."""

    step: int
    tree: Any
    """As it was saved: NumPy arrays, and typed keys."""
    description: dict[str, Any]
    """As it was saved."""
    skipped: tuple[str, ...]
    """Why newer checkpoints were passed over, newest first."""


class Checkpoints:
    """A folder with the last checkpoints of one run, each a folder named by its step.

    With several processes, each of them must make the same calls on one folder that all
    can reach.
    """

    def __init__(
        self,
        folder: Any,
        *,
        keep: int = 3,
        interval: float = 60.0,
        fall_back: bool = False,
    ):
        """Nothing is read or written yet.

        Args:
          folder: the folder of the checkpoints, created when it is needed.
          keep: how many checkpoints to keep; older ones are deleted once a newer one is
            complete.
          interval: seconds after a save until `due` is True; with 0 it always is.
          fall_back: whether `restore` goes on to the next older checkpoint if one can't
            be used.

        Raises:
          TypeError, ValueError: an argument is wrong; the message names it.
          ImportError: Orbax is not installed.
        """
        self._orbax = _import_orbax()
        self.folder = checks.path("folder", folder).absolute()
        self.keep = checks.integer("keep", keep, minimum=1)
        if isinstance(interval, bool) or not isinstance(interval, int | float):
            raise TypeError(f"interval must be seconds, got {interval!r}.")
        if not interval >= 0:
            raise ValueError(f"interval must be 0 seconds or more, got {interval!r}.")
        self.interval = interval
        self.fall_back = checks.boolean("fall_back", fall_back)
        self._last_save = time.monotonic()

    def steps(self) -> list[int]:
        """The steps of all complete checkpoints, in ascending order.

        An empty folder does not count: a process that is killed while it deletes an old
        checkpoint leaves one.

        Raises:
          CheckpointError: the folder can't be read.
        """
        try:
            if not self.folder.is_dir():
                return []
            paths = [path for path in self.folder.iterdir() if path.is_dir()]
        except OSError as error:
            raise CheckpointError(
                f"{self.folder} can't be read: {error.strerror}."
            ) from error
        names = (path.name for path in paths if not _is_empty(path))
        # 007 does not count: as a step it is 7, which would be looked for in folder 7.
        return sorted(int(n) for n in names if n.isdecimal() and str(int(n)) == n)

    def due(self) -> bool:
        """Whether `interval` has passed since the last save, or at first since init."""
        return time.monotonic() - self._last_save >= self.interval

    def save(
        self, step: int, tree: Any, description: Mapping[str, Any] | None = None
    ) -> None:
        """Writes a checkpoint and returns when it is complete.

        Args:
          step: number of the checkpoint, larger than those of all existing ones.
          tree: pytree of NumPy or JAX arrays, typed keys included.
          description: anything else to be stored, as JSON.

        Raises:
          TypeError, ValueError: `step` is no integer of 0 or more, `tree` has no leaf,
            or one that is no array of numbers or keys, or `description` can't be
            written as JSON.
          SaveError: the checkpoint can't be written, `step` is not larger than existing
            ones, or a folder that is no checkpoint is named like one. Nothing that
            existed before is lost.
        """
        step = _as_step(step)
        steps = self.steps()
        # Orbax takes any folder with a number as its name for a checkpoint, and would
        # delete the oldest of them.
        for there in steps:
            path = self.folder / str(there)
            try:
                is_ours = any((path / name).exists() for name in _MARKS)
            except OSError as error:
                raise SaveError(f"{path} can't be read: {error.strerror}.") from error
            if not is_ours:
                raise SaveError(
                    f"{path} is no checkpoint of rljax, but named like one. Choose "
                    "another folder, or move it away."
                )
        if steps and step <= steps[-1]:
            raise SaveError(
                f"step must be above those in {self.folder}, the last of which is "
                f"{steps[-1]}, got {step}. Does another run write there?"
            )
        arrays, leaves = _flatten(tree)
        try:
            user = dict(description or {})
            content = {"format": FORMAT, "step": step, "leaves": leaves, "user": user}
            content = json.loads(json.dumps(content))  # keys become strings
            content["digest"] = _digest_json(content)
        except (TypeError, ValueError, RecursionError) as error:
            raise TypeError(
                "description must be a dictionary that JSON can hold, got "
                f"{reprlib.repr(description)}: {error}."
            ) from None
        args = self._orbax.args
        try:
            self._check_space(sum(array.nbytes for array in arrays.values()))
            with _quietly(), self._manager() as manager:
                manager.save(
                    step,
                    args=args.Composite(
                        arrays=args.StandardSave(arrays),
                        description=args.JsonSave(content),
                    ),
                    force=True,
                )
                manager.wait_until_finished()
        except Exception as error:
            for path in self.folder.glob(f"{step}.orbax-checkpoint-tmp*"):
                shutil.rmtree(path, ignore_errors=True)
            kept = f"step {steps[-1]} is there" if steps else "there is none"
            remedy = "See that there is space and that the folder can be written"
            if steps and _is_of_the_disk(error):
                kept += " and whole"
            elif steps:
                remedy += (
                    "; or an older one is damaged: move it away, or pass fall_back=True"
                )
            raise SaveError(
                f"checkpoint {step} could not be written in {self.folder}: "
                f"{_first_line(error)}. Of older ones, {kept}. {remedy}. Then resume."
            ) from error
        self._last_save = time.monotonic()

    def restore(
        self, like: Any | Callable[[int], Any], step: int | None = None
    ) -> Checkpoint:
        """Reads a checkpoint; those that `fall_back` passes over for it are renamed.

        Args:
          like: tree of arrays or `jax.ShapeDtypeStruct`s, with keys of the kind that
            were saved; or a function that returns such a tree for a step.
          step: the step of the checkpoint; None: the last one.

        Raises:
          TypeError, ValueError: `step` is no integer of 0 or more.
          CheckpointError: the checkpoint does not exist, can't be read, was not written
            by rljax, has another format, or its leaves differ from those of `like`. The
            message names the folder and what is wrong. With `fall_back`, this is raised
            only if no older checkpoint can be used either.
        """
        steps = self.steps()
        if step is not None:
            step = _as_step(step)
            steps = [s for s in steps if s <= step]
        if not steps or step not in (None, steps[-1]):
            found = ", ".join(map(str, self.steps())) or "none"
            wanted = "checkpoint" if step is None else f"checkpoint {step}"
            raise CheckpointError(
                f"no {wanted} in {self.folder}; there are: {found}. Checkpoints are "
                "folders named by their step."
            )
        skipped: list[str] = []
        for candidate in reversed(steps):
            try:
                wanted = like(candidate) if callable(like) else like
                tree, description = self._read(candidate, wanted)
                self._set_aside(steps[steps.index(candidate) + 1 :])
                return Checkpoint(candidate, tree, description, tuple(skipped))
            except CheckpointError as error:
                skipped.append(str(error))
                if not self.fall_back and candidate == steps[0]:
                    raise
                if not self.fall_back:
                    raise CheckpointError(
                        f"{str(error).rstrip('.')}. Pass fall_back=True (--fall-back) "
                        "to go on from an older checkpoint."
                    ) from error
        raise CheckpointError("no checkpoint can be used. " + " ".join(skipped))

    def describe(self, step: int) -> dict[str, Any]:
        """The description that was saved with a checkpoint.

        Raises:
          TypeError, ValueError: `step` is no integer of 0 or more.
          CheckpointError: the checkpoint can't be read, was not written by rljax or has
            another format.
        """
        return self._describe(_as_step(step))["user"]

    def _describe(self, step: int) -> dict[str, Any]:
        path = self.folder / str(step)
        try:
            is_described = (path / "description").is_dir()
        except OSError as error:
            raise CheckpointError(f"{path} can't be read: {error.strerror}.") from error
        if not is_described:
            raise CheckpointError(
                f"{path} is no checkpoint of rljax: it has no description."
            )
        args = self._orbax.args
        content = self._load(step, description=args.JsonRestore()).description
        if not isinstance(content, dict) or "format" not in content:
            raise CheckpointError(
                f"{path} is no checkpoint of rljax: its description has no format."
            )
        if content["format"] != FORMAT:
            raise CheckpointError(
                f"{path} has format {content['format']}, this version of rljax reads "
                f"format {FORMAT}. Resume with the version that wrote it."
            )
        if content.pop("digest", None) != _digest_json(content):
            raise CheckpointError(
                f"{path} is damaged: its description is not what was saved."
            )
        if content.get("step") != step:
            raise CheckpointError(
                f"{path} is the checkpoint of step {content.get('step')}, copied or "
                "renamed."
            )
        return content

    def _read(self, step: int, like: Any) -> tuple[Any, dict[str, Any]]:
        path = self.folder / str(step)
        content = self._describe(step)
        saved = content["leaves"]
        expected = {
            jax.tree_util.keystr(at): leaf
            for at, leaf in jax.tree_util.tree_leaves_with_path(like)
        }
        for name in [*expected, *saved]:
            if name not in saved or name not in expected:
                there, here = ("", "not ") if name in saved else ("not ", "")
                raise CheckpointError(
                    f"{path}: the leaf {name} is {there}in the checkpoint but {here}"
                    "in what is to be restored. Was it another configuration?"
                )
        expected = {name: _as_array(name, leaf) for name, leaf in expected.items()}
        for name, leaf in expected.items():
            there = (tuple(saved[name]["shape"]), saved[name]["dtype"])
            here = (tuple(leaf.shape), str(leaf.dtype))
            if there != here:
                raise CheckpointError(
                    f"{path}: the leaf {name} has shape {there[0]} and dtype "
                    f"{there[1]} in the checkpoint, {here[0]} and {here[1]} in what is "
                    "to be restored. Was it another configuration?"
                )
        restore = self._orbax.args.PyTreeRestore()
        arrays = self._load(step, arrays=restore).arrays
        leaves = []
        for name, leaf in expected.items():
            entry = saved[name]
            array = arrays.get(name) if isinstance(arrays, dict) else None
            if array is None and 0 in leaf.shape:
                leaves.append(np.zeros(leaf.shape, leaf.dtype))
                continue
            if array is None or _digest(np.asarray(array)) != entry["digest"]:
                raise CheckpointError(
                    f"{path} is damaged: the leaf {name} is not what was saved."
                )
            leaves.append(_wrap(np.asarray(array), leaf))
        return jax.tree.unflatten(jax.tree.structure(like), leaves), content["user"]

    def _load(self, step: int, **items: Any) -> Any:
        path = self.folder / str(step)
        try:
            with _quietly(), self._orbax.Checkpointer(_reader(self._orbax)) as reader:
                return reader.restore(path, args=self._orbax.args.Composite(**items))
        except Exception as error:
            raise CheckpointError(
                f"{path} can't be read: {_first_line(error)}"
            ) from error

    def _manager(self) -> Any:
        options = self._orbax.CheckpointManagerOptions(
            max_to_keep=self.keep,
            create=True,
            cleanup_tmp_directories=True,
            enable_async_checkpointing=False,
        )
        return self._orbax.CheckpointManager(self.folder, options=options)

    def _check_space(self, needed: int) -> None:
        """Raises OSError if the disk is too full; Orbax's own message is less clear."""
        self.folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(self.folder).free
        if free < needed:
            raise OSError(
                errno.ENOSPC,
                f"No space left on device: {needed / 2**20:.1f} MiB are needed, "
                f"{free / 2**20:.1f} MiB are free",
            )

    def _set_aside(self, steps: list[int]) -> None:
        """Renames checkpoints that can't be used, so that their steps can be reused."""
        for step in steps:
            if jax.process_index() == 0 and self.fall_back:
                path = self.folder / str(step)
                names = (f"{step}.unusable{i or ''}" for i in itertools.count())
                free = (p for p in map(path.with_name, names) if not p.exists())
                path.rename(next(free))


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Turns off Orbax's log, which would bury the error that is raised on a failure."""
    logger = logging.getLogger("absl")
    disabled, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = disabled


def _import_orbax() -> Any:
    try:
        import orbax.checkpoint as orbax
    except ImportError as error:
        raise ImportError(
            "checkpoints need Orbax: pip install 'rljax-core[checkpoint]'."
        ) from error
    return orbax


def _reader(orbax: Any) -> Any:
    """A handler that fails only when it does not read anything any more.

    Orbax's own fails with the first array that can't be read and closes its event loop
    while others are on their way, each of which then prints a traceback.
    """

    class Arrays(orbax.type_handlers.NumpyHandler):
        async def deserialize(self, infos, args=None):
            read = super().deserialize
            each = zip(infos, args or [orbax.RestoreArgs()] * len(infos), strict=True)
            found = await asyncio.gather(
                *(read([info], [arg]) for info, arg in each), return_exceptions=True
            )
            arrays = []
            for result in found:
                if isinstance(result, BaseException):
                    raise result
                arrays += result
            return arrays

    registry = orbax.type_handlers.create_type_handler_registry((np.ndarray, Arrays()))
    return orbax.CompositeCheckpointHandler(
        arrays=orbax.PyTreeCheckpointHandler(type_handler_registry=registry),
        description=orbax.JsonCheckpointHandler(),
    )


def _is_empty(path: Any) -> bool:
    try:
        return not any(path.iterdir())
    except OSError:
        return False  # there is something that can't be read


def _is_of_the_disk(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, OSError) and error.errno in _OF_THE_DISK:
            return True
        error = error.__cause__ or error.__context__
    return False


def _as_step(step: Any) -> int:
    try:
        index = operator.index(step)
    except TypeError:
        index = None
    if index is None or isinstance(step, bool | np.bool_):
        raise TypeError(f"step must be an integer, got {step!r}.")
    if index < 0:
        raise ValueError(f"step must be 0 or more, got {index}.")
    return index


def _flatten(tree: Any) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The tree's arrays by name, and what the description says of each leaf."""
    arrays, leaves = {}, {}
    if not jax.tree.leaves(tree):
        raise ValueError(f"tree must have leaves to save, got {tree!r}.")
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        name = jax.tree_util.keystr(path)
        if name in leaves:
            raise ValueError(f"tree has two leaves named {name}.")
        leaf = _as_array(name, leaf)
        array = np.asarray(jax.random.key_data(leaf) if is_typed_key(leaf) else leaf)
        if array.size:  # Orbax refuses empty arrays
            arrays[name] = array
        leaves[name] = {
            "shape": list(leaf.shape),
            "dtype": str(leaf.dtype),
            "digest": _digest(array),
        }
    return arrays, leaves


def _as_array(name: str, leaf: Any) -> Any:
    """The leaf, or a Python number as an array."""
    leaf = leaf if hasattr(leaf, "dtype") else np.asarray(leaf)
    if isinstance(leaf, np.ndarray) and leaf.dtype.kind not in "biufcV":
        raise TypeError(
            f"the leaf {name or 'of the tree'} must be an array of numbers, got dtype "
            f"{leaf.dtype}: {leaf!r}."
        )
    if isinstance(leaf, np.ndarray) and not leaf.dtype.isnative:
        return leaf.astype(leaf.dtype.newbyteorder("="))  # as storage returns it
    return leaf


def _wrap(array: np.ndarray, like: Any) -> Any:
    if not is_typed_key(like):
        return array
    impl = jax.random.key_impl(jnp.empty((), like.dtype))
    return jax.random.wrap_key_data(jnp.asarray(array), impl=impl)


def _digest(array: np.ndarray) -> str:
    kind = f"{array.dtype.str} {array.shape} ".encode()
    return hashlib.sha256(kind + np.ascontiguousarray(array).tobytes()).hexdigest()


def _digest_json(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:800] if lines else 'no message'}"
