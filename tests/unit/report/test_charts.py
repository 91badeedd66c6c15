"""Charts as elements of the page."""

from __future__ import annotations

from matplotlib.figure import Figure

from cimrobust.report.charts import svg


def test_names_in_scripts_that_the_fonts_here_lack_stay_text() -> None:
    figure = Figure()  # a warning would fail the test
    figure.add_subplot().set_title("层")
    assert "层" in svg(figure, "names", "A name.")
