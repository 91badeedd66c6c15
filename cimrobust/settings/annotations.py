"""Types of settings as they are written in code."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cimrobust.settings.described_settings import DescribedSetting

_MODULE = re.compile(r"\b(?:[a-z_]+\.)+(?=[A-Z])")


def annotation_text(setting: DescribedSetting) -> str:
    """Return the type of a setting as written in a signature, where None means: not given."""
    if setting.option.takes is not None:
        return f"{setting.option.takes}{' | None' if setting.default is None else ''}"
    kind = setting.annotation
    text = kind.__name__ if isinstance(kind, type) else _MODULE.sub("", str(kind)).replace("'", '"')
    return f"{text} | None" if setting.default is None and "None" not in text else text
