"""SVG of matplotlib made small enough for a page.

All that no browser needs is left out.
"""

from __future__ import annotations

import re


def small(text: str) -> str:
    """Return an SVG of matplotlib without what no browser needs: it becomes half as long.

    Left out are metadata, comments, a style for all elements, sizes in points, names that nothing
    refers to, digits beyond a tenth of a point, lines without a stroke, and rotations by
    nothing, and clipping: nothing is drawn outside of its axes. Groups that have no attribute left
    are left out as well.
    """
    text = re.sub(
        r"<metadata>.*?</metadata>|<!--.*?-->|<defs>\s*<style.*?</style>\s*</defs>|<clipPath.*?</clipPath>|"
        r" clip-path=\"[^\"]*\"",
        "",
        text,
        flags=re.DOTALL,
    )
    text = re.sub(r'(<svg[^>]*?) width="[\d.]+pt"', r"\1", text, count=1)
    text = re.sub(r'(<svg[^>]*?) height="[\d.]+pt"', r"\1", text, count=1)
    used = set(re.findall(r'(?:xlink:href="#|url\(#)([^")]+)', text))
    text = re.sub(
        r' id="([^"]*)"', lambda found: found.group(0) if found.group(1) in used else "", text
    )
    for number, name in enumerate(sorted(used)):
        text = re.sub(rf'((?:id="|#)){re.escape(name)}(?=["\)])', rf"\g<1>{number}", text)
    text = re.sub(r"<[^>]*>", lambda tag: _rounded(tag.group(0)), text)
    text = re.sub(r"font: (\d+(?:\.\d+)?)px [^;\"]*", r"font-size: \1px", text)
    text = re.sub(r' transform="rotate\(-?0[ )][^"]*"', "", text)
    text = re.sub(
        r"; (stroke-linejoin: miter|stroke-linecap: butt|stroke-miterlimit: \d+)(?=[;\"])", "", text
    )
    text = re.sub(
        r"(?<=[a-z]): (?=[^\"<>]*\")|(?<=;) (?=[a-z-]+:)",
        lambda found: ":" if found.group(0)[0] == ":" else "",
        text,
    )
    text = re.sub(r">\s+<", "><", text)
    text = re.sub(r'<path d="[^"]*" style="fill:none"/>', "", text)
    text = re.sub(r" ?\n(?=[LQCMz\"])|(?<=[MLQC]) (?=[-\d])", "", text)
    return _ungrouped(text)


def _rounded(tag: str) -> str:
    """Return a tag with its coordinates rounded.

    What stands between tags is for people to read, and stays.
    """
    return re.sub(
        r"(?<!scale\()-?\b\d+\.\d{2,}",
        lambda found: f"{float(found.group(0)):.1f}".removesuffix(".0"),
        tag,
    )


def _ungrouped(text: str) -> str:
    """Return an SVG without groups that have no attribute."""
    kept: list[str] = []
    opened: list[bool] = []
    for part in re.split(r"(<g>|<g [^>]*>|</g>)", text):
        if part.startswith("<g"):
            opened.append(part != "<g>")
            kept.append(part if opened[-1] else "")
        elif part == "</g>":
            kept.append(part if opened.pop() else "")
        else:
            kept.append(part)
    return "".join(kept)
