"""The registers by which a host runs a machine (`nomul.accelerators.axi_top`): 32 bits each, little-endian words.

To run a machine whose memory is DRAM: write the image, write BASE0, BASE1 ..., write 0 to RESET, and wait for
STATUS.ready. To run a job: write its prompt to PROMPT, token by token, then PROMPT_LENGTH, TOKENS and POSITION, then 1
to START. Each token is in RESULT as soon as it is there; writing RESULT takes it away. STATUS says how the job ended.
Writing 1 to STOP ends a job before its last token, and empties PROMPT and RESULT.

No read has an effect, so that a host may read anything at any time and as often as it likes.
"""

from nomul.accelerators.config import AcceleratorConfig
from nomul.accelerators.lm_head import logit_bits
from nomul.accelerators.sequencer import Step
from nomul.bus.axi_lite import Register

__all__ = [
    "COUNTERS",
    "LANE_BITS",
    "MAGIC",
    "RESULT_LAST",
    "VERSION",
    "has_logits",
    "machine_registers",
]

MAGIC = int.from_bytes(b"NOMM", "big")
"""What ID holds."""

VERSION = 2

COUNTERS = (*(step.name for step in Step), "BETWEEN", "TOTAL", "FIRST_TOKEN")
"""Counters of cycles of a job, by the number that COUNTER takes: those of each step; of what is between passes, such as
a result that waits; of the whole job; until its first token."""

RESULT_LAST = 30
"""Bit of RESULT that is set with a job's last token; the one above it is set with any."""

LANE_BITS = 8
"""Bits of LOGIT_INDEX below the transfer."""

LOGIT_BITS_MAX = 1 << 18
"""Bits of logits that are kept."""


def has_logits(config: AcceleratorConfig) -> bool:
    """Return whether the logits of the last token can be read: they take 2**18 bits of memory at most."""
    return config.head_blocks * config.lanes * logit_bits(config) <= LOGIT_BITS_MAX


def machine_registers(config: AcceleratorConfig) -> tuple[Register, ...]:
    """Return the registers of a machine, in order of addresses."""
    dram = config.memory == "axi"
    registers = [
        Register("ID", 0x00, "r", f"0x{MAGIC:08x}, 'NOMM'"),
        Register("VERSION", 0x04, "r", "version of this register map"),
        Register("ENGINE", 0x08, "r", "number of the engine of the projections"),
        Register(
            "DIGEST_LOW", 0x0C, "r", "hash of the configuration, bits 31:0; the image in memory must carry the same"
        ),
        Register("DIGEST_HIGH", 0x10, "r", "hash of the configuration, bits 63:32"),
        Register("VOCABULARY", 0x14, "r", "size of the vocabulary"),
        Register("CONTEXT", 0x18, "r", "longest context in tokens; also the depth of the PROMPT FIFO"),
        Register(
            "PROMPT_LENGTH",
            0x20,
            "rw",
            "length of the next job's prompt, 1 or more: the number of tokens written to PROMPT",
        ),
        Register("TOKENS", 0x24, "rw", "number of tokens that the next job generates, 1 or more"),
        Register(
            "POSITION",
            0x28,
            "rw",
            "number of tokens already in the key/value cache before the next job's prompt; 0 starts a new text; "
            "POSITION + PROMPT_LENGTH + TOKENS - 1 must not exceed CONTEXT",
        ),
        Register(
            "START",
            0x2C,
            "w",
            "starts a job",
            ("start: start the job described by PROMPT_LENGTH, TOKENS and POSITION",),
        ),
        Register(
            "STATUS",
            0x30,
            "rw",
            "state; write 1 to clear done, fault, illegal, refused and lost",
            (
                "busy: a job is pending or running",
                "ready: the machine can accept a job",
                "done: the last token of a job has been put into RESULT",
                "fault: the weight stream could not be decoded",
                "illegal: START was refused: job registers or tokens in PROMPT are invalid; PROMPT was emptied",
                "refused: START was written while not ready, or BASE while RESET was 0; the write was ignored",
                "lost: PROMPT was written while not ready or full, or with an invalid token; the write was ignored",
                "mismatch: the image in memory was made for another machine; cleared by RESET",
                "memory_error: the memory answered SLVERR or DECERR; cleared by RESET",
                "token: RESULT holds a token",
            ),
            ("done", "fault", "illegal", "refused", "lost"),
        ),
        Register(
            "INTERRUPT",
            0x34,
            "rw",
            "interrupt enable: irq is high while an enabled bit of STATUS is set",
            (
                "done: STATUS.done",
                "fault: STATUS.fault or illegal",
                "error: STATUS.mismatch or memory_error",
                "token: STATUS.token",
            ),
        ),
        Register(
            "RESET",
            0x38,
            "rw",
            "reset of the machine at any time: ends the job, empties PROMPT and RESULT; registers keep their values",
            (f"reset: the machine is held in reset; {1 if dram else 0} after power-on",),
        ),
        Register(
            "STOP",
            0x3C,
            "w",
            "ends the running job early",
            ("stop: end the running job after its current token, and empty PROMPT and RESULT; not ready until then",),
        ),
        Register("PROMPT", 0x40, "w", "FIFO of the next prompt: write a token while the machine is ready"),
        Register("PROMPT_COUNT", 0x44, "r", "tokens in the PROMPT FIFO"),
        Register(
            "RESULT",
            0x48,
            "rw",
            f"FIFO of generated tokens: token in the low bits, last of its job in bit {RESULT_LAST}, valid in bit "
            f"{RESULT_LAST + 1}; write: remove it",
        ),
        Register("RESULT_COUNT", 0x4C, "r", "tokens in the RESULT FIFO; the machine stalls while it is full"),
        Register("GENERATED", 0x50, "r", "tokens that the job has generated so far"),
        Register("COUNTER", 0x54, "rw", f"write: latch cycle counter 0 to {len(COUNTERS) - 1}: {', '.join(COUNTERS)}"),
        Register("COUNTER_LOW", 0x58, "r", "latched counter, bits 31:0: cycles of the job so far"),
        Register("COUNTER_HIGH", 0x5C, "r", "latched counter, bits 47:32"),
    ]
    if has_logits(config):
        registers += [
            Register(
                "LOGIT_INDEX",
                0x60,
                "rw",
                f"whose logit LOGIT holds: token % {config.lanes}, and from bit {LANE_BITS} on token / {config.lanes}",
            ),
            Register("LOGIT", 0x64, "r", "logit of the last token generated, two's complement; 0 if there is none"),
        ]
    if dram:
        meaning = "byte address of the memory of port {}, a multiple of 4096; writable while RESET is 1"
        registers += [
            Register(f"BASE{port}", 0x80 + 4 * port, "rw", meaning.format(port)) for port in range(config.ports)
        ]
    return tuple(registers)
