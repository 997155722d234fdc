"""Checkpoints: whole or not at all, and what is wrong with a bad one."""

import errno
import gc
import json
import os
import shutil
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rljax.experiment.checkpoint import CheckpointError, Checkpoints, SaveError

TREE = {
    "a": [np.arange(3.0), jax.random.key(1)],
    "keys": jax.random.split(jax.random.key(0), 4),
    "empty": np.zeros((0, 2), np.float32),
    "big": np.random.default_rng(0).normal(size=(64, 64)),
    "flag": np.array(True),
}


def equal(first, second):
    def words(x):
        is_key = jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
        return np.asarray(jax.random.key_data(x) if is_key else x)

    pairs = zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True)
    return all(
        a.dtype == b.dtype and np.array_equal(words(a), words(b)) for a, b in pairs
    )


@pytest.fixture
def saved(tmp_path):
    """Steps 2 and 3, the oldest of three deleted."""
    checkpoints = Checkpoints(tmp_path / "checkpoints", keep=2)
    for step in (1, 2, 3):
        checkpoints.save(step, TREE, {"note": f"step {step}"})
    return checkpoints


def test_the_last_ones_are_kept_and_come_back_bit_for_bit(saved):
    assert saved.steps() == [2, 3]
    for step in (None, 2):
        found = saved.restore(TREE, step)
        assert found.step == (step or 3)
        assert found.description == {"note": f"step {step or 3}"}
        assert equal(found.tree, TREE)
    abstract = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), TREE)
    assert equal(saved.restore(lambda step: abstract).tree, TREE)
    assert saved.describe(3) == {"note": "step 3"}


def test_due_when_the_interval_has_passed(tmp_path):
    assert Checkpoints(tmp_path, interval=0.0).due()
    assert not Checkpoints(tmp_path, interval=60.0).due()


@pytest.mark.parametrize(
    ("like", "message"),
    [
        (
            {**TREE, "new": np.ones(2)},
            r"the leaf \['new'\] is not in the checkpoint but",
        ),
        ({"a": TREE["a"]}, r"the leaf \['big'\] is in the checkpoint but not in what"),
        ({**TREE, "big": np.ones((64, 2))}, r"has shape \(64, 64\) and dtype float64"),
        (
            {**TREE, "flag": np.array(1)},
            r"dtype bool in the checkpoint, \(\) and int64",
        ),
    ],
)
def test_leaves_that_do_not_fit_are_named(saved, like, message):
    with pytest.raises(CheckpointError, match=message) as error:
        saved.restore(like)
    assert str(saved.folder / "3") in str(error.value)


def files_of(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


def damages(content):
    yield b""
    yield content[: len(content) // 2]
    flipped = bytearray(content)
    flipped[len(content) * 3 // 4] ^= 0x55
    yield bytes(flipped)


def test_no_damaged_file_gives_a_wrong_tree(saved):
    """Each file in turn emptied, cut, a byte changed: an error, or the truth."""
    refused = []
    for path in files_of(saved.folder / "3"):
        content = path.read_bytes()
        for damaged in damages(content):
            path.write_bytes(damaged)
            message = None
            try:
                found = saved.restore(TREE)
            except CheckpointError as error:
                message = str(error)
            if message is None:
                assert equal(found.tree, TREE)
                assert found.description == {"note": "step 3"}
            else:
                assert str(saved.folder / "3") in message
                refused.append(path.name)
        path.write_bytes(content)
        assert equal(saved.restore(TREE).tree, TREE)
    assert len(refused) >= 9, "most files hold something that matters"


def newest_data_file(folder):
    return max(files_of(folder / "arrays"), key=lambda path: path.stat().st_size)


def test_an_older_one_is_used_when_asked(saved):
    path = newest_data_file(saved.folder / "3")
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(CheckpointError, match="/3 can't be read: "):
        saved.restore(TREE)
    careful = Checkpoints(saved.folder, keep=2, fall_back=True)
    found = careful.restore(TREE)
    assert found.step == 2 and equal(found.tree, TREE)
    assert len(found.skipped) == 1 and "/3 can't be read: " in found.skipped[0]
    # It is out of the way, not lost, and its step can be saved anew.
    assert (saved.folder / "3.unusable").is_dir()
    careful.save(3, TREE)
    assert careful.restore(TREE).step == 3
    shutil.rmtree(saved.folder / "3" / "arrays")
    assert careful.restore(TREE).step == 2
    assert (saved.folder / "3.unusable1").is_dir()
    careful.save(3, TREE)
    (saved.folder / "007").mkdir()
    assert careful.steps() == [2, 3]
    shutil.rmtree(saved.folder / "2" / "description")
    shutil.rmtree(saved.folder / "3" / "arrays")
    with pytest.raises(
        CheckpointError, match="no checkpoint can be used. .*/3 .*/2 is n"
    ):
        careful.restore(TREE)


def test_a_refused_restore_does_not_complain_besides(tmp_path, monkeypatch):
    """Nor does what is still being read when the first of many arrays fails."""
    complaints = []
    for hook in ("unraisablehook", "excepthook"):
        monkeypatch.setattr(sys, hook, lambda *args: complaints.append(args))
    tree = {f"{i}": np.random.default_rng(i).normal(size=(64, 64)) for i in range(64)}
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, tree)
    (tmp_path / "1" / "arrays" / "manifest.ocdbt").write_bytes(b"")
    for _ in range(8):
        with pytest.raises(CheckpointError, match="1 can't be read: "):
            checkpoints.restore(tree)
    time.sleep(0.1)  # late complaints
    gc.collect()
    assert not complaints


def rewrite_description(folder, **changes):
    path = folder / "description" / "metadata"
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | changes))


def test_foreign_and_older_ones_are_refused(saved, tmp_path):
    folder = saved.folder / "3"
    rewrite_description(folder, format=0)
    with pytest.raises(
        CheckpointError, match="/3 has format 0, this version .* format 2"
    ):
        saved.restore(TREE)
    rewrite_description(folder, format=2, user={"note": "forged"})
    with pytest.raises(CheckpointError, match="/3 is damaged: its description is not"):
        saved.restore(TREE)
    (folder / "description" / "metadata").write_text('{"something": "else"}')
    with pytest.raises(
        CheckpointError, match="is no checkpoint of rljax: its descripti"
    ):
        saved.restore(TREE)
    shutil.rmtree(folder / "description")
    with pytest.raises(
        CheckpointError, match="is no checkpoint of rljax: it has no des"
    ):
        saved.restore(TREE)
    with pytest.raises(CheckpointError, match="no checkpoint 7 in .*there are: 2, 3"):
        saved.restore(TREE, 7)
    with pytest.raises(CheckpointError, match="no checkpoint in .*there are: none"):
        Checkpoints(tmp_path / "nowhere").restore(TREE)


def test_a_half_written_one_does_not_count(saved):
    shutil.copytree(saved.folder / "3", saved.folder / "4.orbax-checkpoint-tmp-7")
    assert saved.steps() == [2, 3]
    saved.save(4, TREE)
    assert saved.steps() == [3, 4]
    assert {path.name for path in saved.folder.iterdir()} == {"3", "4"}


def error_with(cause=None, context=None):
    """A ValueError that another one caused, or that came while it was handled."""
    error = ValueError("the outer one")
    error.__cause__, error.__context__ = cause, context
    return error


FULL = OSError(errno.ENOSPC, "No space left on device")


def test_only_errors_of_the_disk_leave_no_doubt_of_older_ones(saved, monkeypatch):
    for error, of_the_disk in (
        (FULL, True),
        (OSError(errno.EROFS, "Read-only file system"), True),
        (PermissionError(errno.EACCES, "Permission denied"), True),
        (error_with(cause=FULL), True),
        (error_with(context=FULL), True),
        (error_with(cause=FULL, context=KeyError("x")), True),
        (error_with(cause=error_with(context=FULL)), True),
        (FileNotFoundError(errno.ENOENT, "No such file"), False),
        (error_with(), False),
        (error_with(cause=KeyError("x")), False),
    ):

        def fail(*_):
            raise error

        monkeypatch.setattr(saved, "_check_space", fail)
        with pytest.raises(SaveError, match="checkpoint 4 could not be writ") as found:
            saved.save(4, TREE)
        words = str(found.value)
        assert ("step 3 is there and whole. See that" in words) == of_the_disk, error
        assert ("or an older one is damaged: move it" in words) != of_the_disk, error
        assert saved.steps() == [2, 3]


def test_nothing_is_overwritten(saved):
    with pytest.raises(SaveError, match=r"step must be above .* which is 3, got 2"):
        saved.save(2, TREE)
    assert equal(saved.restore(TREE, 2).tree, TREE)


def test_bad_arguments_are_refused(tmp_path):
    with pytest.raises(ValueError, match="keep must be at least 1, got 0"):
        Checkpoints(tmp_path, keep=0)
    with pytest.raises(ValueError, match="interval must be 0 seconds or more, got -1"):
        Checkpoints(tmp_path, interval=-1)


@pytest.fixture
def disk(tmp_path):
    """A file system of 1 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("only root can mount a small disk")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_leaves_what_is_saved_intact_and_says_so(disk):
    checkpoints = Checkpoints(disk / "checkpoints", keep=2)
    checkpoints.save(1, TREE)
    noise = np.random.default_rng(0).integers(0, 256, 2**20, np.uint8)
    with pytest.raises(
        SaveError, match="checkpoint 2 could .*No space left.* step 1 is the"
    ):
        checkpoints.save(2, {**TREE, "noise": noise})
    assert checkpoints.steps() == [1]
    assert equal(checkpoints.restore(TREE).tree, TREE)
    checkpoints.save(2, TREE)  # the failed one has left no rubbish in the way
    assert checkpoints.steps() == [1, 2]


def test_a_folder_that_turns_read_only_leaves_what_is_saved_intact(disk):
    checkpoints = Checkpoints(disk / "checkpoints")
    checkpoints.save(1, TREE)
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    with pytest.raises(SaveError, match="Read-only file system.* step 1 is there and"):
        checkpoints.save(2, TREE)
    assert equal(checkpoints.restore(TREE).tree, TREE)


def test_a_kill_in_the_middle_of_a_deletion_does_not_stop_the_next_save(saved):
    # The old checkpoint's folder is emptied first; what is left of it may be nothing,
    # or the last file of all.
    shutil.rmtree(saved.folder / "2")
    (saved.folder / "2").mkdir()
    assert saved.steps() == [3]
    saved.save(4, TREE)
    assert saved.steps() == [3, 4]
    for path in (saved.folder / "3").iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    (saved.folder / "3" / "commit_success.txt").touch()
    saved.save(5, TREE)
    assert saved.restore(TREE).step == 5


def test_a_checkpoint_knows_its_step(saved):
    shutil.copytree(saved.folder / "2", saved.folder / "9")
    with pytest.raises(CheckpointError, match="9 is the checkpoint of step 2, copied"):
        saved.restore(TREE)
    saved.fall_back = True
    assert saved.restore(TREE).step == 3


def test_what_json_and_storage_change_comes_back_all_the_same(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    tree = {"big_endian": np.arange(3, dtype=">f4")}
    checkpoints.save(1, tree, {"scores": {9: 0.1, 10: 0.2}})
    found = checkpoints.restore(tree)
    np.testing.assert_array_equal(found.tree["big_endian"], [0, 1, 2])
    assert found.description == {"scores": {"9": 0.1, "10": 0.2}}


def test_a_description_that_is_nested_too_deeply_is_refused(tmp_path):
    nested = []
    for _ in range(5000):
        nested = [nested]
    with pytest.raises(TypeError, match="description must be a dictionary that JSON"):
        Checkpoints(tmp_path).save(1, TREE, {"x": nested})


def test_two_leaves_of_one_name_are_refused(tmp_path):
    class Key:
        def __init__(self, number):
            self.number = number

        def __repr__(self):
            return "key"

        def __lt__(self, other):
            return self.number < other.number

    with pytest.raises(ValueError, match=r"tree has two leaves named \[key\]"):
        Checkpoints(tmp_path).save(1, {Key(1): np.ones(1), Key(2): np.ones(1)})


def test_what_this_user_may_not_read_is_passed_over_or_said(saved, monkeypatch):
    original = type(saved.folder).is_dir

    def is_dir(path):
        if path.parent.name == "3":
            raise PermissionError(13, "Permission denied", str(path))
        return original(path)

    monkeypatch.setattr(type(saved.folder), "is_dir", is_dir)
    with pytest.raises(CheckpointError, match="3 can't be read: Permission.*fall_back"):
        saved.restore(TREE)
    saved.fall_back = True
    assert saved.restore(TREE).step == 2


def test_damage_says_how_to_go_on(saved):
    shutil.rmtree(saved.folder / "3" / "description")
    with pytest.raises(CheckpointError, match=r"no description. Pass fall_back=True"):
        saved.restore(TREE)


def test_folders_of_others_are_not_counted_and_deleted(tmp_path):
    for year in range(2020, 2025):
        (tmp_path / str(year)).mkdir()
        (tmp_path / str(year) / "picture").write_text("precious")
    with pytest.raises(SaveError, match="2020 is no checkpoint of rljax, but named"):
        Checkpoints(tmp_path).save(2025, {"a": np.ones(2)})
    assert len(list(tmp_path.glob("*/picture"))) == 5


def test_a_damaged_one_of_our_own_does_not_stop_the_next_save(saved):
    shutil.rmtree(saved.folder / "2" / "description")
    saved.save(4, TREE)
    assert saved.steps() == [3, 4]


@pytest.mark.parametrize("kind", [jnp.int32, np.int64, np.array])
def test_a_counter_is_a_step(saved, kind):
    saved.save(kind(7), TREE)
    assert saved.steps() == [3, 7]
    assert saved.restore(TREE, kind(7)).step == 7


def test_a_run_may_be_saved_before_its_first_step(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(0, TREE)
    assert checkpoints.steps() == [0]
    assert checkpoints.restore(TREE, 0).step == 0


@pytest.mark.parametrize("step", [-1, 1.5, True, None, "x"])
def test_a_step_is_an_integer(saved, step):
    with pytest.raises((TypeError, ValueError), match="step must be"):
        saved.save(step, TREE)
    assert saved.steps() == [2, 3]
    if step is not None:
        with pytest.raises((TypeError, ValueError), match="step must be"):
            saved.restore(TREE, step)


def test_python_s_numbers_come_back_and_other_leaves_are_refused(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, {"a": 1.5, "b": 2})
    tree = checkpoints.restore({"a": 0.0, "b": 0}).tree
    assert (tree["a"], tree["b"]) == (1.5, 2)
    with pytest.raises(TypeError, match=r"\['name'\] must be an array of numbers, got"):
        checkpoints.save(2, {"name": "adam"})
    with pytest.raises(ValueError, match="tree must have leaves to save, got {}"):
        checkpoints.save(2, {})
    with pytest.raises(TypeError, match="folder must be a path, got None"):
        Checkpoints(None)
    with pytest.raises(TypeError, match="fall_back must be True or False, got 1"):
        Checkpoints(tmp_path, fall_back=1)
    for description in (3, ["a", "b"], {"a": {1}}, np.ones(2)):
        with pytest.raises(TypeError, match="description must be a dictionary that JS"):
            checkpoints.save(2, {"a": 1.0}, description)
    with pytest.raises(TypeError, match="step must be an integer, got '1'"):
        checkpoints.describe("1")
