"""`rljax lab` from its flags to what they ask for; nothing is served or trained."""

import errno
import types
from pathlib import Path

import pytest

from rljax.commands import lab
from rljax.lab import page, recording


@pytest.fixture
def main(monkeypatch, capsys):
    """Calls the command with these words; returns its status and what it said."""
    monkeypatch.setattr(lab.parallel, "fuse_small_loops", lambda: None)

    def call(*words):
        monkeypatch.setattr(lab.sys, "argv", ["rljax lab", *map(str, words)])
        return lab.main(), capsys.readouterr()

    return call


@pytest.fixture
def server(monkeypatch):
    """In the place of a server: what it was asked for, and whether it ran."""
    asked = types.SimpleNamespace(started=[], opened=[], runs=0, found=True)

    def start(*arguments):
        asked.started.append(arguments)
        return types.SimpleNamespace(port=1234, run_until_shutdown=run)

    def run():
        asked.runs += 1
        raise KeyboardInterrupt  # Ctrl-C

    def open_browser(url):
        asked.opened.append(url)
        return asked.found

    monkeypatch.setattr(lab.server, "start", start)
    monkeypatch.setattr(lab.server, "open_browser", open_browser)
    return asked


@pytest.fixture
def written(monkeypatch):
    """In the place of recordings: what was asked for; each file is of 1.5 MiB."""
    asked = []

    def write(path, kind, **settings):
        asked.append((path, kind, settings))
        path.write_bytes(bytes(1_572_864))

    monkeypatch.setattr(recording, "write", write)
    return asked


def test_without_flags_the_page_is_served_to_this_machine(main, server):
    status, said = main()
    assert status == 0
    assert server.started == [(5006, "127.0.0.1", ())]
    assert server.opened == ["http://127.0.0.1:1234/"]
    assert server.runs == 1
    assert said.out == "http://127.0.0.1:1234/  (Ctrl-C ends it)\n"


def test_flags_say_where_it_listens(main, server):
    main("--port", 0, "--address", "::1", "--origin", "a:1", "b:2", "--no-browser")
    assert server.started == [(0, "::1", ("a:1", "b:2"))]
    assert server.opened == [] and server.runs == 1


def test_a_browser_that_is_missing_is_said(main, server):
    server.found = False
    _, said = main()
    assert "No browser was found here: open the address in one." in said.out
    assert server.runs == 1


def test_a_port_in_use_is_said(main, monkeypatch):
    def start(*_):
        raise OSError(errno.EADDRINUSE, "Address already in use")

    monkeypatch.setattr(lab.server, "start", start)
    status, said = main("--port", 80)
    assert status == 2
    assert "cannot listen on 127.0.0.1:80 (Address already in use)" in said.err
    assert "Choose another --port" in said.err


def test_a_recording_is_written_as_the_flags_say(main, written, tmp_path):
    path = tmp_path / "lesson.html"
    status, said = main("record", path)
    assert status == 0
    settings = {"num_steps": 6000, "num_frames": 150, "seed": 0}
    assert written == [(path, "gridworld", settings)]
    assert said.out == f"{path}: 1.5 MiB, opens in any browser.\n"
    # No more frames than there are steps.
    flags = ("--tab", "rlhf", "--num-steps", 20, "--num-frames", 30, "--seed", 7)
    main("record", tmp_path / "other.html", *flags)
    settings = {"num_steps": 20, "num_frames": 20, "seed": 7}
    assert written[1:] == [(tmp_path / "other.html", "rlhf", settings)]


def test_each_tab_is_recorded_for_as_long_as_suits_it(written, tmp_path):
    for tab, (_, num_steps) in recording.KINDS.items():
        lab._record(lab.Record(tmp_path / tab, tab))
        assert written[-1][1:] == (
            tab,
            {"num_steps": num_steps, "num_frames": min(150, num_steps), "seed": 0},
        )


def test_a_file_that_is_there_stays(main, written, tmp_path):
    path = tmp_path / "lesson.html"
    path.write_text("mine")
    status, said = main("record", path)
    assert status == 2
    assert "is there already. Choose another name." in said.err
    assert path.read_text() == "mine" and written == []


@pytest.mark.parametrize("port", [-1, 65_536, 10**9])
def test_ports_that_there_are_not_are_refused(port):
    with pytest.raises(ValueError, match=f"must be from 0 to 65535, got {port}"):
        lab.Serve(port=port)


@pytest.mark.parametrize("port", [0, 1, 65_535])
def test_all_others_are_taken(port):
    assert lab.Serve(port=port).port == port


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"num_steps": 0}, "--num-steps must be at least 1, got 0"),
        ({"num_frames": 0}, "--num-frames must be at least 1, got 0"),
        ({"seed": page.LARGEST_SEED + 1}, "--seed must be at most 2147483647, got 21"),
    ],
)
def test_recordings_that_there_are_not_are_refused(flags, message):
    with pytest.raises(ValueError, match=message):
        lab.Record(Path("x.html"), **flags)
    lab.Record(Path("x.html"), num_steps=1, num_frames=1, seed=page.LARGEST_SEED)


def test_what_is_wrong_with_a_flag_is_said(main, server, written, capsys):
    for words, message in (
        (("--port", 70_000), "--port must be from 0 to 65535"),
        (("record", "x.html", "--num-frames", 0), "--num-frames must be at least 1"),
    ):
        with pytest.raises(SystemExit, match="2"):  # as of any command
            main(*words)
        assert message in capsys.readouterr().err
    assert server.started == [] and written == []
