"""A page as PDF/A-3u, to be kept and signed; needs the extra `pdf`."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cimrobust.certificate.extras import needing
from cimrobust.errors import UsageError

_VARIANT = "pdf/a-3u"
_CLOCK = "SOURCE_DATE_EPOCH"
_STYLE = Path(__file__).with_name("templates") / "style.css"


def pdf_of(page: str) -> bytes:
    """Return a page as PDF/A, as it is printed; the same page gives the same file.

    Args:
        page: The page, of which nothing outside is asked for.

    Raises:
        UsageError: The extra, or a library of the system that it needs, is not installed.
    """
    with needing("pdf", "a PDF"):
        try:
            import weasyprint  # noqa: PLC0415  # an extra
        except OSError as err:
            raise UsageError(
                f"a PDF must have Pango, got none ({str(err).splitlines()[0]}); install it with the"
                " package manager of the system"
            ) from err
    fetcher = weasyprint.URLFetcher(allowed_protocols=("data",))
    made = weasyprint.HTML(string=_with_print_colours(page), base_url=None, url_fetcher=fetcher)
    with _no_clock():
        return bytes(made.write_pdf(pdf_variant=_VARIANT))


@contextmanager
def _no_clock() -> Iterator[None]:
    """Let fonts that are cut down to the letters in use state no time at which that was done.

    fontTools takes the time from this variable, a convention of reproducible builds.
    """
    before = os.environ.get(_CLOCK)
    os.environ[_CLOCK] = before or "0"
    try:
        yield
    finally:
        if before is None:
            del os.environ[_CLOCK]


def _with_print_colours(page: str) -> str:
    """Return a page whose charts name the colours of print.

    Inside of pictures variables of a style sheet are not looked up.
    """
    printed = _STYLE.read_text(encoding="utf-8").partition("@media print")[2]
    colours = dict(re.findall(r"--([a-z]+): (#[0-9a-f]+);", printed))
    drawn = re.compile(r"var\(--([a-z]+)\)")
    return re.sub(
        r"<svg.*?</svg>",
        lambda picture: drawn.sub(lambda name: colours[name.group(1)], picture.group(0)),
        page,
        flags=re.DOTALL,
    ).replace("currentColor", colours["ink"])
