"""Charts as elements of the page."""

from __future__ import annotations

import matplotlib as mpl
from matplotlib.figure import Figure

from cimrobust.report.charts import STYLE, svg


def test_names_in_scripts_that_the_fonts_here_lack_stay_text() -> None:
    with mpl.rc_context(STYLE):
        figure = Figure()  # a warning would fail the test
        figure.add_subplot().set_title("层")
        assert "层" in svg(figure, "names", "A name.")
