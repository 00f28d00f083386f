"""Puts a design into a top module that reads the payloads of wide streams from files.

Writing a wide port costs a simulator more than the engine behind it: Verilator takes a vector bit by bit, 2,240 bits in
20 microseconds, where a cycle of the engine takes 4. So the bench says only the number of a payload, and the top module
reads it from the file `STREAM.bin` in the folder in which the simulation runs. Valid and ready stay with the bench.

The top module's ports are those of the design, but STREAM__payload is an output, and STREAM__number is an input.
Payload number k, from 1 up, is the k-th of the file. Nothing happens at number 0, nor before the first number.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from nomul.sim.runner import ports

__all__ = ["add_replay", "append_payloads"]


def add_replay(verilog: str, top: str, streams: Sequence[str]) -> tuple[str, str]:
    """Return the text and the name of a top module around `top` in which `streams` are read from files.

    Raises
    ------
    ToolError
        If the text has no module `top`.
    """
    outer = f"{top}_replay"
    declared, body, connected = [], [], []
    for direction, width, name in ports(verilog, top):
        stream, _, part = name.rpartition("__")
        connected.append(f".{name}({name})")
        if part == "payload" and stream in streams:
            declared += [f"output {_range(width)}{name}", f"input [31:0] {stream}__number"]
            body.append(_reader(stream, width))
        else:
            declared.append(f"{direction} {_range(width)}{name}")
    declared_text, connected_text = ",\n  ".join(declared), ",\n    ".join(connected)
    body.append(f"  {top} engine (\n    {connected_text}\n  );\n")
    return f"{verilog}\nmodule {outer}(\n  {declared_text}\n);\n{''.join(body)}endmodule\n", outer


def _range(width: int) -> str:
    return "" if width == 1 else f"[{width - 1}:0] "


def _reader(stream: str, width: int) -> str:
    """Return the process that reads a payload when its number changes."""
    size = -(-width // 8)
    return f"""  reg [{8 * size - 1}:0] {stream}__word;
  reg [31:0] {stream}__held;
  integer {stream}__file, {stream}__status;
  assign {stream}__payload = {stream}__word[{width - 1}:0];
  initial {stream}__held = 0;
  always @({stream}__number)
    if ({stream}__number != {stream}__held) begin
      if ({stream}__held == 0) {stream}__file = $fopen("{stream}.bin", "rb");
      {stream}__status = $fseek({stream}__file, ({stream}__number - 1) * {size}, 0);
      {stream}__status = $fread({stream}__word, {stream}__file);
      if ({stream}__status != {size}) $display("{stream}.bin ends before payload %0d", {stream}__number);
      {stream}__held = {stream}__number;
    end
"""


def append_payloads(file: Path, payloads: npt.NDArray[np.uint8], width: int) -> range:
    """Write payloads, uint8 [transfers, bytes] little-endian, at the end of a file; return their numbers.

    The simulator may have the file open: what is in it never changes.

    Raises
    ------
    ValueError
        If a payload is not one of `width` bits.
    """
    size = -(-width // 8)
    if payloads.ndim != 2 or payloads.shape[1] != size:
        raise ValueError(f"{file.name}: payloads of shape {list(payloads.shape)}; {width} bits want [*, {size}]")
    if width % 8 and (payloads[:, -1] >> width % 8).any():
        raise ValueError(f"{file.name}: a payload has more than {width} bits")
    with file.open("ab") as stream:
        first = stream.tell() // size + 1
        # $fread takes the highest byte first.
        stream.write(payloads[:, ::-1].tobytes())
    return range(first, first + len(payloads))
