"""A testbench in plain Verilog for a core: it drives two small jobs, compares every result, and says PASS or FAIL.

It needs nothing but a simulator: the vectors are in its text. Every stream waits now and then, by a shift register.
"""

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["testbench"]


def testbench(
    manifest: Mapping[str, Any],
    jobs: Sequence[Mapping[str, int]],
    inputs: Mapping[str, Sequence[int]],
    outputs: Mapping[str, Sequence[int]],
    lasts: Mapping[str, Sequence[int]],
    cycles: int,
) -> str:
    """Return the testbench of the core that a manifest describes.

    Parameters
    ----------
    manifest
        Of the core, bare or behind AXI.
    jobs
        What is written to the registers for each job, by field; for a bare core, which has no registers, none: its jobs
        are the input `jobs`.
    inputs, outputs
        Payloads of each stream, in order.
    lasts
        The `tlast` of each transfer of the outputs of a core behind AXI.
    cycles
        That the jobs take where nothing waits.

    """
    top, ports = manifest["top"], manifest["ports"]
    axi = "aclk" in ports
    clock, reset = ("aclk", "aresetn") if axi else ("clk", "rst")
    parts = ("tdata", "tvalid", "tready") if axi else ("payload", "valid", "ready")
    names = {
        **{name: f"s_axis_{name}_" if axi else f"{name}__" for name in inputs},
        **{name: f"m_axis_{name}_" if axi else f"{name}__" for name in outputs},
    }
    total = sum(map(len, outputs.values()))
    lines = [
        f"// Self-checking testbench of {top}: two small jobs, {total} transfers to compare. It prints PASS or FAIL.",
        f"//   $ iverilog -g2005 -o {top}_tb {top}_tb.v FILES && vvp {top}_tb",
        f"//   $ verilator --binary --timing -Wno-fatal --top-module {top}_tb {top}_tb.v FILES && obj_dir/V{top}_tb",
        "// FILES are the core, and models of its target's primitives if it instantiates any. After FAIL, the exit",
        "// status is not 0.",
        "`timescale 1ns / 1ps",
        f"module {top}_tb;",
        "  reg clock = 0, reset = 1, failed = 0;",
        "  reg [15:0] chance = 16'hace1;  // what makes streams wait",
        "  integer compared = 0, cycle = 0;",
        "  always #5 clock = ~clock;",
        "  always @(posedge clock) chance <= {chance[14:0], chance[15] ^ chance[13] ^ chance[12] ^ chance[10]};",
    ]
    connections = {clock: "clock", reset: "~reset" if axi else "reset"}
    for number, (name, payloads) in enumerate(inputs.items()):
        data, valid, ready = (f"{names[name]}{part}" for part in parts)
        lines += _memory(name, payloads, ports[data]["width"])
        lines += [
            f"  integer {name}_sent = 0;",
            f"  reg {name}_valid = 0;",
            f"  wire {name}_ready;",
            "  always @(posedge clock)",
            f"    if (reset) {name}_valid <= 0;",
            f"    else if (!{name}_valid || {name}_ready) begin",
            f"      {name}_valid <= {name}_sent < {len(payloads)} && chance[{number}];",
            f"      if ({name}_sent < {len(payloads)} && chance[{number}]) begin",
            f"        {name}_data <= {name}_items[{name}_sent];",
            f"        {name}_sent <= {name}_sent + 1;",
            "      end",
            "    end",
        ]
        connections |= {data: f"{name}_data", valid: f"{name}_valid", ready: f"{name}_ready"}
        if axi:
            connections[f"{names[name]}tlast"] = "1'b0"
    for number, (name, payloads) in enumerate(outputs.items()):
        data, valid, ready = (f"{names[name]}{part}" for part in parts)
        width = ports[data]["width"]
        last = f", {name}_last" if axi else ""
        items = [(item << 1) | mark for item, mark in zip(payloads, lasts[name], strict=True)] if axi else payloads
        lines += [line for line in _memory(name, items, width + axi) if "_data" not in line]
        lines += [
            f"  wire [{width - 1}:0] {name}_data;",
            f"  wire {name}_valid{last};",
            f"  integer {name}_got = 0;",
            f"  reg {name}_ready = 0;",
            "  always @(posedge clock) begin",
            f"    {name}_ready <= !reset && chance[{8 + number}];",
            f"    if (!reset && {name}_valid && {name}_ready) begin",
            f"      {name}_got <= {name}_got + 1;",
            "      compared = compared + 1;",
            f"      if ({name}_got >= {len(payloads)}) begin",
            "        failed = 1;",
            f'        $display("FAIL: {name} has more than {len(payloads)} transfers");',
            f"      end else if ({{{name}_data{last}}} !== {name}_items[{name}_got]) begin",
            "        failed = 1;",
            f'        $display("FAIL: transfer %0d of {name} is %h, expected %h", {name}_got,',
            f"                 {{{name}_data{last}}}, {name}_items[{name}_got]);",
            "      end",
            "    end",
            "  end",
        ]
        connections |= {data: f"{name}_data", valid: f"{name}_valid", ready: f"{name}_ready"}
        if axi:
            connections[f"{names[name]}tlast"] = f"{name}_last"
    if axi:
        lines += _registers(manifest, jobs)
        connections |= {name: name for name in ports if name.startswith("s_axi_")} | {"irq": ""}
    connections |= {"fault": "fault"} if "fault" in ports else {}
    lines += ["  wire fault;"] if "fault" in ports else []
    pins = ",\n".join(f"    .{name}({connections[name]})" for name in ports)
    lines += [
        f"  {top} core (\n{pins}\n  );",
        "  initial begin",
        "    repeat (4) @(posedge clock);",
        "    reset <= 0;",
        "  end",
        "  always @(posedge clock) begin",
        "    cycle <= cycle + 1;",
        f"    if (compared == {total} && cycle[5:0] == 0 || failed || cycle > {16 * cycles + 20_000}) begin",
        f"      if (!failed && compared == {total}) begin",
        f'        $display("PASS: {top}, %0d transfers in %0d cycles", compared, cycle);',
        "        $finish;",
        "      end else begin",
        f'        $display("FAIL: {top}, %0d of {total} transfers in %0d cycles", compared, cycle);',
        "`ifdef __ICARUS__",
        "        $finish_and_return(1);",
        "`else",
        "        $stop;",
        "`endif",
        "      end",
        "    end",
        "  end",
        "endmodule",
    ]
    return "\n".join(lines) + "\n"


def _memory(name: str, items: Sequence[int], width: int) -> list[str]:
    """Return a stream's payloads and the register that drives them."""
    words = [f"    {name}_items[{index}] = {width}'h{item:x};" for index, item in enumerate(items)]
    return [
        f"  reg [{width - 1}:0] {name}_items[0:{max(len(items), 1) - 1}];",
        f"  reg [{width - 1}:0] {name}_data = 0;",
        "  initial begin",
        *words,
        "  end",
    ]


def _registers(manifest: Mapping[str, Any], jobs: Sequence[Mapping[str, int]]) -> list[str]:
    """Return what writes the jobs to the registers, waiting before each START until no other is pending."""
    offsets = {register["name"]: register["offset"] for register in manifest["registers"]}
    ports, steps = manifest["ports"], []
    for job in jobs:
        fields = {name: value for name, value in job.items() if name.upper() in offsets}
        steps += [f"    write({offsets[name.upper()]}, {value});" for name, value in fields.items()]
        steps += [
            "    pending = 1;",
            f"    while (pending) read({offsets['STATUS']});",
            f"    write({offsets['START']}, 1);",
        ]
    driven = [name for name, port in ports.items() if name.startswith("s_axi_") and port["direction"] == "input"]
    others = [name for name in ports if name.startswith("s_axi_") and name not in driven]
    return [
        *(f"  reg [{ports[name]['width'] - 1}:0] {name} = 0;" for name in driven),
        *(f"  wire [{ports[name]['width'] - 1}:0] {name};" for name in others),
        "  reg pending;",
        "  task write(input integer address, input integer value);",
        "    begin",
        "      s_axi_awaddr <= address; s_axi_wdata <= value; s_axi_wstrb <= 4'hf;",
        "      s_axi_awvalid <= 1; s_axi_wvalid <= 1; s_axi_bready <= 1;",
        "      @(posedge clock);",
        "      while (s_axi_awvalid || s_axi_wvalid) begin",
        "        if (s_axi_awready) s_axi_awvalid <= 0;",
        "        if (s_axi_wready) s_axi_wvalid <= 0;",
        "        @(posedge clock);",
        "      end",
        "      while (!s_axi_bvalid) @(posedge clock);",
        "      s_axi_bready <= 0;",
        "      @(posedge clock);",
        "    end",
        "  endtask",
        "  task read(input integer address);",
        "    begin",
        "      s_axi_araddr <= address; s_axi_arvalid <= 1; s_axi_rready <= 1;",
        "      @(posedge clock);",
        "      while (!s_axi_arready) @(posedge clock);",
        "      s_axi_arvalid <= 0;",
        "      while (!s_axi_rvalid) @(posedge clock);",
        "      pending = s_axi_rdata[1];",
        "      s_axi_rready <= 0;",
        "      @(posedge clock);",
        "    end",
        "  endtask",
        "  initial begin",
        "    while (reset) @(posedge clock);",
        *steps,
        "  end",
    ]
