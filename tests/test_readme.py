"""The READMEs' Python runs as it stands, in order, but for fewer updates."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = ("README.md", "rljax/README.md", "scripts/README.md")


def run_blocks(page, number):
    """The names that a page's Python defines, run as by a reader of that page alone."""
    text = (ROOT / page).read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(blocks) == number
    names = {}
    for block in blocks:
        shorter = re.sub(r"num_updates=\d+", "num_updates=2", block)
        exec(compile(shorter, page, "exec"), names)
    return names


@pytest.mark.slow
def test_the_examples_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = run_blocks("README.md", 3)
    assert names["played"].episode_returns.mean() == 500
    assert names["grid"][1].num_episodes.shape == (3, 2)
    result = names["result"]
    assert result.scores.shape == (4, 4)
    assert result[0].metrics.num_episodes.shape == (4, 32)
    assert result[2].metrics.num_episodes.shape == (4, 2)
    assert {path.name for path in tmp_path.iterdir()} == {"metrics.csv", "checkpoints"}


@pytest.mark.slow
def test_the_examples_of_the_guide_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = run_blocks("rljax/README.md", 14)
    assert int(names["state"].agent_state.num_updates) == 3
    assert names["gaps"].shape == (2,)
    assert names["result"].scores.shape == (8, 4)
    assert names["confirmed"].result.scores.shape == (2, 8)
    assert names["frame"].shape == (200, 400, 3)
    written = {path.name for path in tmp_path.iterdir()}
    assert written == {"metrics.csv", "checkpoints", "episode.gif"}


def test_the_first_page_is_short():
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 150
    # A laptop's screen: the claim, the first code, the picture and the set-up lines.
    screen = "\n".join(lines[:36])
    for words in ("```python", "](scripts/pictures/", "scripts/train.py", "pytest -n"):
        assert words in screen


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    for link in re.findall(r"\]\((?!https?:)([^)]+)\)", text):
        path, _, section = link.partition("#")
        target = ROOT / Path(page).parent / path if path else ROOT / page
        assert target.exists()
        if not section:
            continue
        headings = re.findall(r"^#+ (.*)$", target.read_text("utf-8"), re.MULTILINE)
        slugs = [re.sub(r"[^\w -]", "", h).lower().replace(" ", "-") for h in headings]
        assert section in slugs


def test_readme_quotes_the_benchmark_as_the_page_of_the_scripts_does():
    def rows(page):
        text = (ROOT / page).read_text(encoding="utf-8")
        table = text.split("| against |")[1].split("\n\n")[0].splitlines()[2:]
        cells = [[cell.strip() for cell in row.split("|")[1:-1]] for row in table]
        return {
            (name, ratio.split(" ")[0], *figure.split(" ")[:2])
            for name, _, ratio, figure in cells
        }

    assert rows("README.md")
    assert rows("README.md") <= rows("scripts/README.md")
