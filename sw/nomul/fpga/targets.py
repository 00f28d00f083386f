"""The FPGA targets: how Yosys is asked for each, and what each of its primitives costs.

What counts as a LUT: every look-up table that the primitive takes away from other logic. A dual-output LUT6 counts
once, a carry chain's look-up tables count where the vendor's primitive contains them (ECP5's CCU2C, Gowin's ALU), and
a LUTRAM counts the look-up tables that it occupies, those that its write port blocks included. Wide multiplexers
(MUXF7, PFUMX, ...) are free: they sit behind the look-up tables.

The options of each synthesis command are the ones that gave the fewest LUTs on four designs (a population count of
128 bits, a ternary dot product of 32 lanes, four look-up tables of seven rows, an 8 x 8 bit multiplier; Yosys 0.70):

* ABC9, which is Yosys' default: 362 / 837 / 380 / 134 LUTs on xcup, against 423 / 837 / 368 / 150 with ABC.
* `-nowidelut` on ECP5 and Gowin: 408 LUTs for the population count on ECP5 instead of 755, 184 instead of 306 for the
  multiplier; without it Yosys spends two LUTs to save a level. On xcup it changes little (349 and 136) and costs speed.

Multipliers (DSP blocks) are used only when asked for, pins and clock buffers never: a core is measured, not a chip.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from nomul.errors import InputError


@dataclass(frozen=True)
class Cost:
    """What one primitive takes: look-up tables (`lutram` of them as memory), flip-flops, and blocks.

    `carry` counts carry primitives as the target has them (CARRY4 or CARRY8, CCU2C, ALU, SB_CARRY). `bram` counts the
    target's own blocks: 36 kbit on Xilinx (a RAMB18 is half of one), 18 kbit on ECP5 and Gowin, 4 kbit on iCE40.
    `uram` counts URAM288 (288 kbit) on UltraScale+ and SPRAM (256 kbit) on iCE40.
    """

    lut: int = 0
    lutram: int = 0
    ff: int = 0
    carry: int = 0
    dsp: int = 0
    bram: float = 0
    uram: int = 0


@dataclass(frozen=True)
class FpgaTarget:
    """An FPGA family as Yosys and nextpnr see it."""

    name: str
    description: str
    synthesis: str
    """The Yosys command, without `-top` and `-json`."""
    second_step: str
    """The label that its `help` gives the step after the first, which reads the primitives and the hierarchy."""
    no_dsp: str
    """The option that keeps multipliers out, or an empty string where they are out unless asked for."""
    use_dsp: str
    """The option that lets multipliers in, or an empty string where they are in unless kept out."""
    costs: Mapping[str, Cost]
    """Every primitive that a result may contain; anything else is refused."""
    latches: frozenset[str]
    """Primitives that are latches; a result with one is refused."""

    def command(self, top: str, *, dsp: bool = False) -> str:
        """Return the Yosys command that synthesises module `top`."""
        option = self.use_dsp if dsp else self.no_dsp
        return " ".join(word for word in (self.synthesis, option, f"-top {top}") if word)


def _each(names: Iterable[str] | str, cost: Cost) -> dict[str, Cost]:
    """Return the same cost for each of several primitives, given as a list or as words."""
    return dict.fromkeys(names.split() if isinstance(names, str) else names, cost)


_FREE = Cost()
_LUT = Cost(lut=1)
_FF = Cost(ff=1)


def _lutram(luts: int) -> Cost:
    return Cost(lut=luts, lutram=luts)


# Look-up tables per LUTRAM: UG574, UltraScale Architecture CLB, table "Distributed RAM Primitives"; UG474 for 7 series.
_XILINX = {
    **_each("LUT1 LUT2 LUT3 LUT4 LUT5 LUT6 LUT6_2 CFGLUT5", _LUT),
    "INV": _LUT,  # Yosys leaves an inverter only where no look-up table can absorb it: at a carry chain or a block
    **_each("MUXF7 MUXF8 MUXF9 VCC GND BUFG IBUF OBUF", _FREE),
    **_each("CARRY4 CARRY8", Cost(carry=1)),
    **_each("FDRE FDSE FDCE FDPE FDRE_1 FDSE_1 FDCE_1 FDPE_1", _FF),
    **_each("SRL16 SRL16E SRLC16 SRLC16E SRLC32E", _lutram(1)),
    **_each("RAM16X1S RAM16X1S_1 RAM32X1S RAM32X1S_1 RAM64X1S RAM64X1S_1", _lutram(1)),
    **_each("ROM16X1 ROM32X1 ROM64X1", _LUT),
    **_each("RAM16X1D RAM16X1D_1 RAM32X1D RAM32X1D_1 RAM64X1D RAM64X1D_1 RAM128X1S RAM128X1S_1", _lutram(2)),
    **_each("RAM32M RAM64M RAM128X1D RAM256X1S", _lutram(4)),
    **_each("RAM32M16 RAM64M8 RAM256X1D RAM512X1S RAM64X8SW RAM32X16DR8", _lutram(8)),
    **_each("DSP48E1 DSP48E2", Cost(dsp=1)),
    **_each("RAMB18E1 RAMB18E2", Cost(bram=0.5)),
    **_each("RAMB36E1 RAMB36E2", Cost(bram=1)),
    "URAM288": Cost(uram=1),
}

# A DPR16X4 takes four look-up tables and blocks the two of the slice that decodes its write address (TRELLIS_RAMW in
# nextpnr, which says "RAM LUTs" and "RAMW LUTs"); a CCU2C is both look-up tables of a slice.
_ECP5 = {
    "LUT4": _LUT,
    "CCU2C": Cost(lut=2, carry=1),
    **_each("PFUMX L6MUX21 VHI VLO TRELLIS_IO EHXPLLL", _FREE),
    "TRELLIS_FF": _FF,
    "TRELLIS_DPR16X4": _lutram(6),
    **_each("MULT18X18D", Cost(dsp=1)),
    "ALU54B": Cost(dsp=2),
    **_each("DP16KD PDPW16KD", Cost(bram=1)),
}

# Gowin's own reports count six look-up tables for a RAM16 ("CFU Logics 1137 (983 LUTs, 46 ALUs, 18 SSRAMs)").
_GOWIN_FFS = [f"DFF{edge}{reset}{enable}" for edge in ("", "N") for reset in ("", *"SRPC") for enable in ("", "E")]
_GOWIN = {
    **_each("LUT1 LUT2 LUT3 LUT4 INV", _LUT),
    "ALU": Cost(lut=1, carry=1),
    **_each("MUX2 MUX2_LUT5 MUX2_LUT6 MUX2_LUT7 MUX2_LUT8 VCC GND GSR IBUF OBUF TBUF IOBUF rPLL", _FREE),
    **_each(_GOWIN_FFS, _FF),
    **_each("RAM16S1 RAM16S2 RAM16S4 RAM16SDP1 RAM16SDP2 RAM16SDP4", _lutram(6)),
    "ROM16": _LUT,
    **_each("SP SPX9 SDP SDPX9 SDPB SDPX9B DP DPX9 DPB DPX9B pROM pROMX9", Cost(bram=1)),
    **_each("MULT9X9 MULT18X18 MULT36X36 MULTALU36X18 MULTADDALU18X18 MULTALU18X18 ALU54D PADD9 PADD18", Cost(dsp=1)),
}

_ICE40_FFS = [
    f"SB_DFF{edge}{enable}{reset}" for edge in ("", "N") for enable in ("", "E") for reset in ("", "SR", "R", "SS", "S")
]
_ICE40 = {
    "SB_LUT4": _LUT,
    "SB_CARRY": Cost(carry=1),  # in the logic cell of the look-up table that it feeds
    **_each(_ICE40_FFS, _FF),
    **_each("SB_RAM40_4K SB_RAM40_4KNR SB_RAM40_4KNW SB_RAM40_4KNRNW", Cost(bram=1)),
    "SB_SPRAM256KA": Cost(uram=1),
    "SB_MAC16": Cost(dsp=1),
    **_each("SB_GB SB_GB_IO SB_IO SB_PLL40_PAD SB_PLL40_CORE", _FREE),
}

_GOWIN_LATCHES = frozenset(
    f"DL{edge}{reset}{enable}" for edge in ("", "N") for reset in ("", "C", "P") for enable in ("", "E")
)

TARGETS = {
    target.name: target
    for target in (
        FpgaTarget(
            "xcup",
            "AMD UltraScale+ (Kria KV260)",
            "synth_xilinx -family xcup -flatten -noiopad -noclkbuf",
            "prepare",
            "-nodsp",
            "",
            _XILINX,
            frozenset({"LDCE", "LDPE"}),
        ),
        FpgaTarget(
            "xc7",
            "AMD 7 series",
            "synth_xilinx -family xc7 -flatten -noiopad -noclkbuf",
            "prepare",
            "-nodsp",
            "",
            _XILINX,
            frozenset({"LDCE", "LDPE"}),
        ),
        FpgaTarget(
            "ecp5",
            "Lattice ECP5 (ULX3S-85F)",
            "synth_lattice -family ecp5 -nowidelut -noiopad",
            "coarse",
            "-nodsp",
            "",
            _ECP5,
            frozenset(),
        ),
        FpgaTarget(
            "gowin",
            "Gowin GW2A (Tang Nano 20K)",
            "synth_gowin -family gw2a -nowidelut -noiopads",
            "coarse",
            "-nodsp",
            "",
            _GOWIN,
            _GOWIN_LATCHES,
        ),
        FpgaTarget(
            "ice40",
            "Lattice iCE40 UltraPlus (iCEBreaker)",
            "synth_ice40 -device u -spram",
            "flatten",
            "",
            "-dsp",
            _ICE40,
            frozenset(),
        ),
    )
}


def find_target(name: str) -> FpgaTarget:
    """Return the target of that name; InputError if there is none."""
    try:
        return TARGETS[name]
    except KeyError:
        raise InputError(f"target '{name}' is unknown; choose one of {', '.join(TARGETS)}") from None
