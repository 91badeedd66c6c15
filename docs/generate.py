"""Write the reference pages, and the types of keywords, from the code: `python docs/generate.py`.

With --check: say which are not up to date.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from generator import commands, errors, keys, python_api, typed_options

REFERENCE = Path(__file__).with_name("reference")
OPTIONS = REFERENCE.parents[1] / "cimrobust" / "settings" / "typed_options.py"
NOTE = "<!-- Made by `python docs/generate.py` from the code; change the code, not this page. -->\n"

PAGES: dict[str, Callable[[], str]] = {
    "commands": commands.page,
    "policy": keys.policy_page,
    "profile": keys.profile_page,
    "data": keys.data_page,
    "schemas": keys.schemas_page,
    **{f"schema-{name}": page for name, page in keys.schema_pages().items()},
    "python": python_api.page,
    "errors": errors.page,
}


def main() -> int:
    """Write or check every file; return the exit code."""
    stale = []
    for path, text in _files():
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        stale.append(path.name)
        if "--check" not in sys.argv[1:]:
            path.write_text(text, encoding="utf-8")
    if stale and "--check" in sys.argv[1:]:
        sys.stderr.write(
            f"not what the code says: {', '.join(stale)}; run `python docs/generate.py`\n"
        )
        return 1
    return 0


def _files() -> Iterator[tuple[Path, str]]:
    """Yield every file that is made from the code, with its text; code first, as pages show it."""
    yield OPTIONS, typed_options.page()
    for name, page in PAGES.items():
        title, _, rest = page().partition("\n")
        yield REFERENCE / f"{name}.md", f"{title}\n\n{NOTE}{rest}".rstrip("\n") + "\n"


if __name__ == "__main__":
    sys.exit(main())
