"""Charts as elements of the page."""

from __future__ import annotations

import matplotlib as mpl
from matplotlib.figure import Figure

from cimrobust.report.chart_parts import STYLE, svg
from cimrobust.report.small_svg import small


def test_names_in_scripts_that_the_fonts_here_lack_stay_text() -> None:
    with mpl.rc_context(STYLE):
        figure = Figure()  # a warning would fail the test
        figure.add_subplot().set_title("层")
        assert "层" in svg(figure, "names", "A name.")


def test_numbers_that_people_read_are_not_rounded() -> None:
    drawn = (
        '<svg><path d="M 1.23456 7.891 \nL 2.5 3.25 \n" style="stroke: currentColor"/><text'
        ' x="1.234">0.0117 %</text></svg>'
    )
    assert (
        small(drawn)
        == '<svg><path d="M1.2 7.9L2.5 3.2" style="stroke:currentColor"/><text x="1.2">0.0117'
        " %</text></svg>"
    )
