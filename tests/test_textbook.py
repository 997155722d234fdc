"""The textbook's figures: each is drawn, and what the book says of it comes out."""

import csv
import io
import sys
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
import rich.console

SCRIPTS = Path(__file__).parents[1] / "scripts"
sys.path.insert(0, str(SCRIPTS))
try:
    import textbook
    from figures import common
finally:
    sys.path.remove(str(SCRIPTS))

LARGEST = 150_000
"""Bytes of a picture, and of a CSV file."""


def rows(path):
    return list(csv.reader(path.read_text(encoding="utf-8").splitlines()))


def test_statements_by_hand():
    """Each can hold and can fail; t(2) at 99.95 % is 31.599, t(4) is 8.610."""
    samples = np.array([1.0, 2.0, 3.0])
    half = 31.599 / 3**0.5
    said = common.above("x", samples, 2.0 - 1.01 * half)
    np.testing.assert_allclose(said[1:4], [2, 2 - half, 2 + half], rtol=1e-4)
    assert said.text == "x"
    assert said.num == 3
    assert said.holds
    assert not common.above("x", samples, 2.0 - 0.99 * half).holds
    assert common.below("x", samples, 2.0 + 1.01 * half).holds
    assert not common.below("x", samples, 2.0 + 0.99 * half).holds
    assert common.covers("x", samples, 2.0 + 0.99 * half).holds
    assert not common.covers("x", samples, 2.0 + 1.01 * half).holds
    half = 8.610 * (2 / 3) ** 0.5
    said = common.larger("x", samples + 1.01 * half, samples)
    np.testing.assert_allclose(said.low, 0.01 * half, rtol=0.02)
    assert said.holds
    assert not common.larger("x", samples + 0.99 * half, samples).holds
    assert common.equal("x", [1.0, 2.0], [1.0, 2.1], 0.11).holds
    said = common.equal("x", [1.0, 2.0], [1.0, 2.1], 0.09)
    assert said == ("x", pytest.approx(0.1), 0.0, 0.09, 0, False)


def test_shares_have_an_interval_even_where_all_are_alike():
    """Wilson's: of 20 in 20 it is [1 / (1 + z²/20), 1], z being 3.2905 at 99.9 %."""
    said = common.above("x", np.ones(20, bool), 0.64)
    np.testing.assert_allclose(said[1:4], [1, 1 / (1 + 3.2905**2 / 20), 1], rtol=1e-4)
    assert said.holds
    assert not common.below("x", np.zeros(20, bool), 0.35).holds
    assert common.below("x", np.zeros(20, bool), 0.36).holds
    assert common.covers("x", np.zeros(20), 0.0)[1:4] == (0, 0, 0)  # differences


def test_nothing_that_is_no_number_is_stated():
    """An empty or broken experiment must not pass as one that came out."""
    unknown = np.array([np.nan, 1.0, 2.0])
    assert not common.above("x", unknown, -1e9).holds
    assert not common.below("x", unknown, 1e9).holds
    assert not common.larger("x", unknown, unknown - 1e9).holds
    assert not common.covers("x", unknown, 1.0).holds
    assert not common.equal("x", unknown, unknown, 1e9).holds


def test_curves_by_hand():
    samples = np.array([[0.0, 1.0], [2.0, 1.0]])
    curve = common.mean_curve("x", [1, 2], samples)
    np.testing.assert_allclose(curve.y, [1, 1])
    np.testing.assert_allclose(curve.high - curve.y, [1.96, 0])  # of σ/√N = 1
    np.testing.assert_allclose(curve.y - curve.low, [1.96, 0])
    grid = common.grid("x", [[1, 2], [3, 4]])
    assert grid.x.tolist() == [0, 1, 2, 3]
    assert grid.y.tolist() == grid.low.tolist() == grid.high.tolist() == [1, 2, 3, 4]


def test_a_run_leaves_pictures_curves_and_statements(monkeypatch, tmp_path):
    """And its exit status says whether every statement holds."""
    panels = {"panel": [common.exact_curve("curve", [1, 2], [0.5, 1 / 3])]}
    picture = common.plot(panels, "x", "y")

    def draw(said):
        return lambda *, quick: common.Drawn(panels, [said(quick)], picture)

    drawn = {
        "0.1": draw(lambda quick: common.equal(f"quick {quick}", 1, 1, 0)),
        "0.2": draw(lambda quick: common.equal(f"quick {quick}", 1, 2, 0)),
    }
    figures = {n: common.Figure(n, "title", d) for n, d in drawn.items()}
    monkeypatch.setattr(textbook, "FIGURES", figures)
    monkeypatch.setattr(sys, "argv", ["textbook.py"])
    console = rich.console.Console(file=io.StringIO(), width=200)
    status = {}
    for numbers in (("0.1",), ("0.2",), ()):
        folder = tmp_path / "".join(numbers)
        folder.mkdir(exist_ok=True)
        config = textbook.Config(numbers, quick=True)
        status[numbers] = textbook.run(config, folder, console)
    assert status == {("0.1",): 0, ("0.2",): 1, (): 1}
    said = console.file.getvalue()
    assert "Figure 0.1: title" in said
    assert "quick True" in said
    assert "NO" in said
    found = rows(tmp_path / "0.1" / "0.1.csv")
    assert found[0] == ["panel", "curve", "x", "y", "low", "high"]
    assert found[2] == ["panel", "curve", "2", *["0.333333"] * 3]
    stated = rows(tmp_path / "statements.csv")
    assert [row[0] for row in stated] == ["figure", "0.1", "0.2"]
    assert [row[-1] for row in stated] == ["holds", "True", "False"]
    assert matplotlib.image.imread(tmp_path / "0.2.png").ndim == 3


def test_unknown_figures_are_refused(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "argv", ["textbook.py", "9.9", "--output", str(tmp_path)])
    with pytest.raises(SystemExit):
        textbook.main()
    said = capsys.readouterr().err
    assert "figures are 2.2" in said
    assert "'9.9'" in said
    assert not list(tmp_path.iterdir())


def test_every_figure_is_on_record():
    """With a picture, a CSV and statements that all hold, and shown in the README."""
    record = SCRIPTS / "records" / "textbook"
    page = (SCRIPTS / "README.md").read_text(encoding="utf-8")
    stated = rows(record / "statements.csv")[1:]
    assert {row[0] for row in stated} == set(textbook.FIGURES)
    assert {row[-1] for row in stated} == {"True"}
    assert f"The {len(stated)} statements" in page
    for number in textbook.FIGURES:
        for name in (f"{number}.png", f"{number}.csv"):
            assert 1000 < (record / name).stat().st_size <= LARGEST
        assert f"(records/textbook/{number}.png)" in page


@pytest.mark.slow
@pytest.mark.parametrize("number", textbook.FIGURES)
def test_what_the_book_says_comes_out(number, tmp_path):
    figure = textbook.FIGURES[number]
    drawn = figure.draw(quick=True)
    assert drawn.statements
    for said in drawn.statements:
        assert said.holds, said
        assert said.low <= said.value <= said.high
    textbook.write_curves(tmp_path / "curves.csv", drawn)
    numbers = np.array([row[2:] for row in rows(tmp_path / "curves.csv")[1:]], float)
    assert len(numbers) > 10
    drawn.picture.savefig(tmp_path / "picture.png", dpi=100)
    for written in tmp_path.iterdir():
        assert written.stat().st_size <= LARGEST, written
