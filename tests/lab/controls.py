"""What the controls of every tab have in common."""

from bokeh.models import Slider, Widget


def assert_all_can_be_moved(tab):
    """Nothing is too narrow to be hit, and sliders have somewhere to go."""
    for widget in tab.root.select({"type": Widget}):
        assert widget.width is None or widget.width >= 60, widget
    sliders = [*tab.root.select({"type": Slider})]
    assert sliders
    for slider in sliders:
        assert slider.start <= slider.value <= slider.end, slider.title
        assert 0 < slider.step <= (slider.end - slider.start) / 10, slider.title
