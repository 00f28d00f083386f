"""Names as people type them: in any case, with hyphens, underscores or spaces, short or long."""

import re
from collections.abc import Iterable

__all__ = ["canonical"]

ALIASES = {
    "ulx3s": ("ULX3S-85F",),
    "bitnet-0.73b": ("0.73B",),
    "bitnet-2b-4t": ("2B-4T",),
    "bitnet-3b": ("3B",),
}
"""Further names of what has several; the key is the one that is printed."""


def _folded(name: str) -> str:
    return re.sub(r"[\s_-]+", "", name.casefold())


def canonical(name: str, names: Iterable[str]) -> str:
    """Return the one of `names` that a person means, or the name as it is if it is none of them."""
    wanted = _folded(name)
    for known in names:
        if wanted in (_folded(each) for each in (known, *ALIASES.get(known, ()))):
            return known
    return name
