"""Initial contents of memories that repeat themselves, written as a loop in place of one statement a word.

A memory of a million zeros is one line of a person's Verilog and 77 MB of Yosys'. Contents that are the same few words
over and over are taken out of the RTLIL before it is printed, and put into the Verilog as a loop. Zeros are there for
simulators alone: no design reads a word that it has not written, a loop costs a synthesiser minutes (Yosys unrolls it),
and what configures an FPGA's memories are zeros anyway.
"""

import re

__all__ = ["put_contents", "take_contents"]

MEMORY = re.compile(
    r"  cell \$meminit_v2 \S+\n"
    r'    parameter \\MEMID "\\(\\\S+)"\n'
    r"(?:    parameter \\(?!WIDTH|WORDS)\w+ \d+\n)*"
    r"    parameter \\WIDTH (\d+)\n"
    r"    parameter \\WORDS (\d+)\n"
    r"(?:    parameter \\\w+ \d+\n)*"
    r"    connect \\ADDR .*\n"
    r"    connect \\DATA \d+'([01]+)\n"
    r"    connect \\EN \d+'1+\n"
    r"  end\n"
)
LONGEST = 8
"""Words of the longest period that is looked for."""

Contents = dict[tuple[str, str], tuple[int, list[str]]]
"""Of a memory, by the names of its module and of itself: how many words it has, and those that repeat, in binary."""


def take_contents(text: str) -> tuple[str, Contents]:
    """Return RTLIL without the contents of memories that repeat themselves, and those contents."""
    taken: Contents = {}
    modules = re.split(r"^(?=module )", text, flags=re.MULTILINE)
    for index, module in enumerate(modules):
        name = module.partition("\n")[0].removeprefix("module \\")

        def take(found: re.Match[str], name: str = name) -> str:
            width, words, bits = int(found[2]), int(found[3]), found[4]
            period = next((count for count in range(1, LONGEST + 1) if _repeats(bits, count * width)), 0)
            if not period or words < 2 * period:
                return found[0]
            lowest = [bits[len(bits) - (word + 1) * width : len(bits) - word * width] for word in range(period)]
            taken[name, found[1].removeprefix("\\")] = (words, lowest)
            return ""

        modules[index] = MEMORY.sub(take, module)
    return "".join(modules), taken


def put_contents(text: str, contents: Contents) -> str:
    """Return Verilog whose memories begin with `contents`."""
    modules = re.split(r"^(?=module )", text, flags=re.MULTILINE)
    places = {re.split(r"[\s(]", module, maxsplit=2)[1]: index for index, module in enumerate(modules) if module}
    for (holder, memory), (words, repeated) in contents.items():
        place = places[holder]
        declared = re.search(
            rf"^  reg (?:\[[\d:]+\] )?(\\?{re.escape(memory)} ?) \[\d+:0\];\n", modules[place], re.MULTILINE
        )
        assert declared, (holder, memory)
        end = declared.end()
        modules[place] = modules[place][:end] + _loop(declared[1], words, repeated) + modules[place][end:]
    return "".join(modules)


def _repeats(bits: str, length: int) -> bool:
    """Tell whether each bit equals the one `length` before it."""
    return bits[length:] == bits[:-length]


def _loop(memory: str, words: int, repeated: list[str]) -> str:
    period = len(repeated)
    lines = [f"  initial begin : _fill_{memory.strip(' ').removeprefix(chr(92))}_", "    integer i;"]
    whole = words - words % period
    if period == 1:
        lines.append(f"    for (i = 0; i < {words}; i = i + 1) {memory}[i] = {_hexadecimal(repeated[0])};")
    else:
        lines.append(f"    for (i = 0; i < {whole}; i = i + {period}) begin")
        lines += [f"      {memory}[i + {word}] = {_hexadecimal(bits)};" for word, bits in enumerate(repeated)]
        lines.append("    end")
        lines += [f"    {memory}[{whole + word}] = {_hexadecimal(repeated[word])};" for word in range(words - whole)]
    lines.append("  end")
    if not any("1" in word for word in repeated):
        lines = ["`ifndef SYNTHESIS", *lines, "`endif"]
    return "\n".join(lines) + "\n"


def _hexadecimal(bits: str) -> str:
    return f"{len(bits)}'h{int(bits, 2):0{-(-len(bits) // 4)}x}"
