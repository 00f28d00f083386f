"""Moves small memories of a design from block RAM to look-up tables, where the blocks are needed for large ones."""

import itertools
import re

__all__ = ["distribute"]

MODULE = re.compile(r"(?m)^module ")
MEMORY = re.compile(
    r"(?P<attributes>(?:  attribute .*\n)*)(?P<memory>  memory width \d+ size (?P<words>\d+) (?P<name>\S+)\n)"
)
WRITTEN = re.compile(r'  cell \$memwr_v2 \S+\n    parameter \\MEMID "\\(\\\S+)"\n')
STYLE = re.compile(r"  attribute \\ram_style .*\n")


def distribute(text: str, words: int) -> str:
    """Return Amaranth's RTLIL with every memory of up to `words` words in look-up tables, read-only ones excepted."""
    starts = [found.start() for found in MODULE.finditer(text)] + [len(text)]
    modules = [_module(text[start:end], words) for start, end in itertools.pairwise(starts)]
    return text[: starts[0]] + "".join(modules)


def _module(text: str, words: int) -> str:
    written = set(WRITTEN.findall(text))

    def styled(found: re.Match[str]) -> str:
        if int(found["words"]) > words or found["name"] not in written:
            return found[0]
        return STYLE.sub("", found["attributes"]) + '  attribute \\ram_style "distributed"\n' + found["memory"]

    return MEMORY.sub(styled, text)
