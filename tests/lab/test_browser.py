"""The page as a person uses it, in a headless browser: every control of every tab."""

import contextlib
import http.client
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from bokeh.util.token import generate_jwt_token, generate_session_id

pytestmark = pytest.mark.slow
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
ROOT = Path(__file__).parents[2]


@contextlib.contextmanager
def serving(*flags):
    """The address of a page that is served."""
    process = subprocess.Popen(
        [sys.executable, "-m", "rljax", "lab", "--no-browser", "--port", "0", *flags],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        yield re.match(r"http://\S+", line)[0], process
    finally:
        process.terminate()
        process.wait(timeout=30)
        process.stdout.close()
        process.stderr.close()


@pytest.fixture(scope="module")
def address():
    with serving() as (url, _):
        yield url


@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("no browser was found: apt-get install chromium")
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox"]
        )
        yield chromium
        chromium.close()


@pytest.fixture
def visit(browser):
    """Opens a page; at the end, none has complained or asked another host."""
    complaints, visitors = [], []

    def open_page(url):
        visitor = browser.new_page(viewport={"width": 1280, "height": 800})
        visitors.append(visitor)
        host = url.split("/")[2]
        visitor.on("pageerror", lambda error: complaints.append(str(error)))
        visitor.on(
            "console",
            lambda said: said.type == "error" and complaints.append(said.text),
        )
        visitor.on(
            "request",
            lambda asked: (
                asked.url.split("/")[2] == host
                or asked.url.startswith(("data:", "blob:"))
                or complaints.append(asked.url)
            ),
        )
        visitor.goto(url)
        visitor.get_by_role("button", name="play").first.wait_for(timeout=120_000)
        return visitor

    yield open_page
    for visitor in visitors:
        visitor.close()
    assert complaints == []


def readouts(visitor):
    """The numbers that are seen, by what stands below them."""
    read = """all => all.map(
        e => [e.querySelector("span").innerText, e.querySelector("b").innerText])"""
    found = visitor.locator(".readout:visible").evaluate_all(read)
    return {name.split(" (")[0]: value for name, value in found}


def until(what, timeout=60.0):
    """Waits until something holds, and returns it."""
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        found = what()
        if found:
            return found
        time.sleep(0.1)
    raise AssertionError("it never happened")


def settled(visitor):
    """The numbers, as soon as they stand still."""
    before = None
    while (now := readouts(visitor)) != before:
        before = now
        time.sleep(0.5)
    return now


def number(visitor, name):
    return float(readouts(visitor)[name].replace(",", ""))


def press(visitor, name):
    visitor.get_by_role("button", name=name).locator("visible=true").click()


def slide(visitor, title, key, times=1):
    """Moves a slider by keys."""
    group = visitor.locator(f".bk-slider-title:visible:has-text('{title}')")
    handle = group.locator("xpath=..").locator(".noUi-handle")
    handle.focus()
    for _ in range(times):
        handle.press(key)


def test_gridworld(visit, address):
    page = visit(address)
    assert readouts(page)["steps in all"] == "0"
    press(page, "one step")
    until(lambda: number(page, "steps in all") == 1)
    press(page, "one episode")
    until(lambda: number(page, "episode") == 2)
    press(page, "play")
    seen = number(page, "steps in all")
    until(lambda: number(page, "steps in all") > seen + 20)
    press(page, "pause")
    still = settled(page)
    time.sleep(1)
    assert readouts(page) == still
    press(page, "reset")
    until(lambda: readouts(page)["steps in all"] == "0")
    slide(page, "a second", "End")
    press(page, "play")
    until(lambda: readouts(page)["best path"] == "12")
    best = number(page, "J(π*)")
    until(lambda: number(page, "J of the greedy policy, exact") == pytest.approx(best))
    seen = number(page, "steps in all")
    time.sleep(2)
    assert number(page, "steps in all") > seen + 10_000
    press(page, "pause")
    # Other settings act at once, other agents, rules and maps start anew.
    slide(page, "slip", "End")
    until(lambda: number(page, "J(π*)") < best - 0.05)
    slide(page, "slip", "Home")
    until(lambda: number(page, "J(π*)") == best)
    slide(page, "discount", "Home")
    until(lambda: number(page, "J(π*)") != best)
    assert number(page, "steps in all") > 0
    select = page.get_by_label("agent", exact=True)
    for title, choice in (
        ("agent", "double Q-learning"),
        ("rule of exploration", "UCB"),
        ("map", "FrozenLake-8x8"),
        ("map", "GridWorld-5x5"),
    ):
        press(page, "one step")
        until(lambda: number(page, "steps in all") > 0)
        select = page.get_by_label(title, exact=True)
        select.select_option(choice)
        until(lambda: number(page, "steps in all") == 0)
    boxes = page.locator("input[type=checkbox]:visible")
    for i in range(boxes.count()):
        boxes.nth(i).click()


def test_a_map_is_drawn_by_clicks(visit, address):
    page = visit(address)
    page.get_by_label("map", exact=True).select_option("GridWorld-5x5")
    until(lambda: "8" in page.locator(".readout:visible").nth(4).inner_text())
    plot = page.locator(".bk-Figure:visible").first.bounding_box()
    left, top, side = plot["x"], plot["y"] + plot["height"] - 500, 490 / 5

    def click(row, column):
        x, y = left + (column + 0.3) * side, top + (row + 0.3) * side
        time.sleep(0.5)  # or two clicks are one double click
        page.mouse.click(x, y)

    press(page, "goal")
    click(0, 2)
    shortest = page.locator(".readout:visible").nth(4)
    until(lambda: "(shortest: 2)" in shortest.inner_text())
    press(page, "wall")
    click(0, 1)
    until(lambda: "(shortest: 8)" in shortest.inner_text())
    click(1, 0)
    notice = page.locator(".notice:visible")
    until(lambda: "no goal is reachable" in notice.inner_text())
    # Where no way leads to the goal one can walk about all the same.
    press(page, "play")
    until(lambda: number(page, "steps in all") > 20)
    press(page, "pause")
    assert readouts(page)["best path"] == "–"
    press(page, "one episode")
    until(lambda: number(page, "steps in all") > 100_000)
    assert settled(page)["episode"] == "1"
    press(page, "free")
    click(1, 0)
    until(lambda: notice.count() == 0)
    press(page, "start")
    click(0, 1)
    until(lambda: "(shortest: 1)" in shortest.inner_text())
    press(page, "pit")
    click(0, 2)  # one goal is left
    until(lambda: "(shortest: 9)" in shortest.inner_text())
    press(page, "wall")
    click(4, 4)
    until(lambda: "goal" in notice.inner_text())


def test_the_largest_map(visit, address):
    page = visit(address)
    page.get_by_label("map", exact=True).select_option("your own")
    for title in ("rows", "columns"):
        field = page.get_by_label(title, exact=True)
        field.fill("50")
        field.press("Enter")
    shortest = page.locator(".readout:visible").nth(4)
    until(lambda: "(shortest: 98)" in shortest.inner_text())
    slide(page, "a second", "End")
    press(page, "play")
    until(lambda: number(page, "steps in all") > 100_000)
    press(page, "pause")
    still = settled(page)
    best = 0.99**97 - 0.01 * sum(0.99**k for k in range(97))
    assert number(page, "J(π*)") == pytest.approx(best, abs=1e-4)
    time.sleep(1)
    assert readouts(page) == still


def test_without_exploration_the_agent_walks_one_way(visit, address):
    page = visit(address)
    slide(page, "ε", "End")
    slide(page, "ε", "Home")
    slide(page, "a second", "End")
    page.get_by_label("map", exact=True).select_option("GridWorld-5x5")
    press(page, "play")
    until(lambda: readouts(page)["best path"] == "8")
    press(page, "pause")
    for _ in range(2):
        episode, before = (
            float(settled(page)[name].replace(",", ""))
            for name in ("episode", "steps in all")
        )
        press(page, "one episode")
        until(lambda: number(page, "episode") == episode + 1)
    assert number(page, "steps in all") == before + 8


def open_tab(page, title):
    page.get_by_text(title, exact=True).click()
    page.get_by_role("button", name="play").locator("visible=true").wait_for()


def check(page, label):
    """Ticks a box, or unticks it."""
    said = page.locator(f".bk-label:visible:has-text('{label}')")
    said.locator("xpath=preceding-sibling::input").click()


def test_slot_machines(visit, address):
    page = visit(address)
    open_tab(page, "Five slot machines")
    pulls = "pull of 1,000"
    table = page.locator("table:visible")
    until(lambda: number(page, pulls) == 0)
    press(page, "one pull")
    until(lambda: number(page, pulls) == 1)
    until(lambda: "Compiling" not in page.locator("body").inner_text(), 180)
    slide(page, "a second", "End")
    press(page, "play")
    until(lambda: number(page, pulls) == 1000)  # where it pauses by itself
    page.get_by_role("button", name="play").locator("visible=true").wait_for()
    until(lambda: "…" not in table.inner_text(), 180)  # of other bandits: on its way
    played = table.inner_text()
    press(page, "reset")
    until(lambda: number(page, pulls) == 0)
    press(page, "play")
    until(lambda: number(page, pulls) == 1000)
    until(lambda: table.inner_text() == played)
    # Sliders play the same pulls again with another setting.
    for title in ("ε of", "τ of", "c of"):
        before = table.inner_text()
        slide(page, title, "ArrowRight", 3)
        until(lambda before=before: table.inner_text() != before)
        assert number(page, pulls) == 1000
    for label in ("show the true means", "1,000 other bandits", "logarithmic regret"):
        check(page, label)
    press(page, "softmax")
    until(lambda: page.get_by_role("button", name="softmax").is_visible())
    before = table.inner_text()
    page.get_by_label("seed").locator("visible=true").fill("7")
    page.keyboard.press("Enter")
    until(lambda: number(page, pulls) == 0)
    page.get_by_label("arms").select_option("Bernoulli")
    until(lambda: "Compiling" not in page.locator("body").inner_text(), 180)
    press(page, "play")
    until(lambda: number(page, pulls) == 1000)
    assert table.inner_text() != before


def test_pole(visit, address):
    page = visit(address)
    open_tab(page, "Pole balancer")
    steps = "steps in all"
    check(page, "16 other seeds")
    press(page, "one step")
    until(lambda: number(page, steps) == 1)
    press(page, "one episode")
    until(lambda: number(page, "episode") == 2)
    at_rest = settled(page)
    time.sleep(1)
    assert readouts(page) == at_rest
    # A person's pushes, by buttons and by keys.
    press(page, "push →")
    until(lambda: number(page, "your pushes") == 1)
    page.locator("body").press("ArrowLeft")
    until(lambda: number(page, "your pushes") == 2)
    # With gravity at its lowest the pole falls later: of the agents, each its own.
    lengths = {}
    for method in ("PPO", "actor-critic", "REINFORCE"):
        press(page, method)
        until(lambda method=method: method in readouts(page)["method"])
        press(page, "one episode")
        until(lambda: number(page, "episode") >= 2)
        lengths[method] = number(page, steps)
    press(page, "PPO")
    until(lambda: number(page, steps) == lengths["PPO"])
    for title in ("gravity", "pole length", "force"):
        slide(page, title, "ArrowRight", 3)
    slide(page, "a second", "End")
    press(page, "play")
    until(lambda: number(page, "best") > 100, 120)
    until(lambda: number(page, "updates") > 10)
    press(page, "pause")
    check(page, "16 other seeds")
    press(page, "reset")
    until(lambda: number(page, steps) == 0)


def test_rlhf(visit, address):
    page = visit(address)
    open_tab(page, "RLHF")
    until(lambda: readouts(page)["updates"] == "0")
    start = readouts(page)
    press(page, "one update")
    until(lambda: number(page, "updates") == 1)
    press(page, "play")
    until(lambda: number(page, "updates") > 100)
    press(page, "pause")
    after = settled(page)
    gap = "of the gap to J(π*) is left"
    assert float(after[gap].rstrip(" %")) < 10
    assert after["J(π*)"] == start["J(π*)"]
    # Another price: the optimum moves at once, the policy stays.
    slide(page, "β", "ArrowRight", 5)
    until(lambda: readouts(page)["J(π*)"] != after["J(π*)"])
    assert readouts(page)["updates"] == after["updates"]
    assert readouts(page)["E[r], expected reward"] == after["E[r], expected reward"]
    slide(page, "step size", "ArrowRight", 5)
    for algorithm in ("PPO-KL", "GRPO", "DPO"):
        page.get_by_label("algorithm").select_option(algorithm)
        until(lambda: readouts(page)["updates"] == "0")
        press(page, "one update")
        until(lambda: number(page, "updates") == 1)
    check(page, "16 other seeds")
    press(page, "one update")
    until(lambda: number(page, "updates") >= 1)
    press(page, "reset")
    until(lambda: readouts(page)["updates"] == "0")


def test_ten_visitors_and_one_that_leaves(visit, address):
    pages = [visit(address) for _ in range(10)]
    for page in pages:
        slide(page, "a second", "End")
        press(page, "play")
    pages.pop().close()
    seen = [number(page, "steps in all") for page in pages]
    until(
        lambda: all(
            number(page, "steps in all") > before
            for page, before in zip(pages, seen, strict=True)
        )
    )
    # A slider that is dragged as fast as it can be.
    box = pages[0].locator(".noUi-handle:visible").nth(1).bounding_box()
    pages[0].mouse.move(box["x"] + 5, box["y"] + 5)
    pages[0].mouse.down()
    for i in range(200):
        pages[0].mouse.move(box["x"] + 5 + 100 * (i % 2), box["y"] + 5)
    pages[0].mouse.up()
    seen = number(pages[0], "steps in all")
    until(lambda: number(pages[0], "steps in all") > seen)


def test_a_recording_plays_without_python(visit, tmp_path):
    path = tmp_path / "lesson.html"
    command = [sys.executable, "-m", "rljax", "lab", "record", str(path)]
    flags = ["--num-steps", "4000", "--num-frames", "40"]
    subprocess.run([*command, *flags], check=True, cwd=ROOT, timeout=300)
    assert path.stat().st_size < 5 * 2**20
    page = visit(path.as_uri())
    assert readouts(page)["steps in all"] == "0"
    slider = page.locator(".noUi-handle:visible").first
    slider.focus()
    slider.press("End")
    until(lambda: readouts(page)["steps in all"] == "4,000")
    slider.press("Home")
    until(lambda: readouts(page)["steps in all"] == "0")
    press(page, "play")
    until(lambda: number(page, "steps in all") >= 500)
    again = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert again.returncode == 2
    assert "is there already" in again.stderr


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("http://elsewhere.example", 403),
        ("http://localhost:1", 403),
        ("http://127.0.0.1:{port}", 101),
        ("http://localhost:{port}", 101),
    ],
)
def test_pages_of_other_origins_are_refused(address, origin, status):
    host = address.split("/")[2]
    port = host.split(":")[1]
    token = generate_jwt_token(generate_session_id())
    connection = http.client.HTTPConnection(host)
    headers = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Origin": origin.format(port=port),
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "cmxqYXggdGVzdHMgaXRzIGxhYg==",
        "Sec-WebSocket-Protocol": f"bokeh, {token}",
    }
    connection.request("GET", "/ws", headers=headers)
    assert connection.getresponse().status == status
    connection.close()


def test_only_the_loopback_address_is_listened_on(address):
    port = int(address.rstrip("/").rsplit(":", 1)[1])
    others = [
        found[4][0]
        for found in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)
        if not found[4][0].startswith("127.")
    ]
    for other in others:
        with socket.socket() as one, pytest.raises(OSError, match="refused"):
            one.connect((other, port))


def test_without_a_browser_the_address_is_said():
    hidden = {"DISPLAY", "WAYLAND_DISPLAY", "BROWSER"}
    variables = {k: v for k, v in os.environ.items() if k not in hidden}
    process = subprocess.Popen(
        [sys.executable, "-m", "rljax", "lab", "--port", "0"],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=variables | {"PATH": ""},
    )
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(2)]
    process.terminate()
    process.wait(timeout=30)
    process.stdout.close()
    assert re.match(r"http://127.0.0.1:\d+/  \(Ctrl-C ends it\)", lines[0])
    assert "No browser was found" in lines[1]


def test_a_port_in_use_and_bad_flags_are_said(address):
    port = address.rstrip("/").rsplit(":", 1)[1]
    for flags, words in (
        (["--port", port], "Choose another --port"),
        (["--port", "70000"], "--port must be from 0 to 65535"),
        (["record", "x.html", "--num-steps", "0"], "--num-steps must be at least 1"),
    ):
        done = subprocess.run(
            [sys.executable, "-m", "rljax", "lab", "--no-browser", *flags]
            if flags[0] != "record"
            else [sys.executable, "-m", "rljax", "lab", *flags],
            capture_output=True,
            text=True,
            cwd=ROOT,
            timeout=120,
        )
        assert done.returncode == 2
        assert words in done.stderr
        assert "Traceback" not in done.stderr
