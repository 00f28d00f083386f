"""The top module that reads payloads from files: what is written for it, and its ports."""

import re

import numpy as np
import pytest

from nomul.errors import ToolError
from nomul.sim.replay import add_replay, append_payloads
from nomul.sim.runner import ports

DESIGN = """module core(clk, a__payload, a__valid, a__ready, b__payload);
  (* src = "x" *)
  input clk;
  wire clk;
  input [11:0] a__payload;
  input a__valid;
  output a__ready;
  reg a__ready;
  output [1:0] b__payload;
endmodule
"""


def test_payloads_are_numbered_on_and_their_highest_byte_comes_first(tmp_path):
    file = tmp_path / "a.bin"
    assert append_payloads(file, np.array([[1, 2], [3, 4]], np.uint8), 12) == range(1, 3)
    assert append_payloads(file, np.array([[5, 15]], np.uint8), 12) == range(3, 4)
    assert file.read_bytes() == bytes([2, 1, 4, 3, 15, 5])


@pytest.mark.parametrize(
    ("payloads", "message"),
    [
        ([[1, 16]], "a.bin: a payload has more than 12 bits"),
        ([[1, 2, 3]], "a.bin: payloads of shape [1, 3]; 12 bits want [*, 2]"),
    ],
)
def test_payloads_of_another_width_are_refused(tmp_path, payloads, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        append_payloads(tmp_path / "a.bin", np.array(payloads, np.uint8), 12)
    assert not (tmp_path / "a.bin").exists()


def test_the_top_module_has_a_number_for_each_payload_it_reads():
    inner = [("input", 1, "clk"), ("input", 12, "a__payload"), ("input", 1, "a__valid"), ("output", 1, "a__ready")]
    assert ports(DESIGN, "core") == [*inner, ("output", 2, "b__payload")]
    text, top = add_replay(DESIGN, "core", ["a"])
    assert text.startswith(DESIGN)
    assert ports(text, top) == [
        inner[0], ("output", 12, "a__payload"), ("input", 32, "a__number"), *inner[2:], ("output", 2, "b__payload")
    ]  # fmt: skip


def test_a_missing_module_is_named():
    with pytest.raises(ToolError, match=r"^the Verilog text has no module shell$"):
        add_replay(DESIGN, "shell", ["a"])
