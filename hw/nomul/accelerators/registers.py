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
        Register("DIGEST_LOW", 0x0C, "r", "digest of the configuration, bits 0 to 31; that of the image must equal it"),
        Register("DIGEST_HIGH", 0x10, "r", "digest of the configuration, bits 32 to 63"),
        Register("VOCABULARY", 0x14, "r", "tokens that exist"),
        Register("CONTEXT", 0x18, "r", "tokens that attention sees at most; PROMPT holds as many"),
        Register(
            "PROMPT_LENGTH", 0x20, "rw", "tokens of the next job's prompt: as many as PROMPT was given, 1 or more"
        ),
        Register("TOKENS", 0x24, "rw", "tokens that the next job generates, 1 or more"),
        Register(
            "POSITION",
            0x28,
            "rw",
            "tokens before the next job's prompt, whose keys and values are in the cache; 0 begins a new text; "
            "POSITION + PROMPT_LENGTH + TOKENS - 1 is at most CONTEXT",
        ),
        Register("START", 0x2C, "w", "starts a job", ("start: give the job of the three registers before",)),
        Register(
            "STATUS",
            0x30,
            "rw",
            "state; write 1 to clear done, fault, illegal, refused and lost",
            (
                "busy: a job waits or is in work",
                "ready: the machine can take a job",
                "done: the last token of a job is in RESULT or was",
                "fault: the weights are no weights",
                "illegal: START found no job in its registers and PROMPT, and emptied PROMPT",
                "refused: START came when not ready, or a base address outside of RESET; it did nothing",
                "lost: PROMPT was written when not ready, or full, or with no token that exists; it did nothing",
                "mismatch: the image in memory was not made for this machine; until RESET",
                "memory_error: the memory answered SLVERR or DECERR; until RESET",
                "token: RESULT has a token",
            ),
            ("done", "fault", "illegal", "refused", "lost"),
        ),
        Register(
            "INTERRUPT",
            0x34,
            "rw",
            "irq is up while a bit of STATUS is up that is enabled here",
            (
                "done: STATUS.done",
                "fault: STATUS.fault or illegal",
                "error: mismatch or memory_error",
                "token: a token",
            ),
        ),
        Register(
            "RESET",
            0x38,
            "rw",
            "reset of the machine at any time; its job ends, PROMPT and RESULT are empty; registers keep their values",
            (f"reset: the machine is held in reset; {1 if dram else 0} after power-on",),
        ),
        Register(
            "STOP",
            0x3C,
            "w",
            "ends a job early",
            ("stop: end the job in work, if any, at its token's end; empty PROMPT and RESULT; not ready until then",),
        ),
        Register("PROMPT", 0x40, "w", "a token of the next prompt, while the machine is ready"),
        Register("PROMPT_COUNT", 0x44, "r", "tokens of a prompt that the machine has not taken"),
        Register(
            "RESULT",
            0x48,
            "rw",
            f"bit {RESULT_LAST + 1}: there is a token, in the low bits; bit {RESULT_LAST}: its last; write: take it",
        ),
        Register("RESULT_COUNT", 0x4C, "r", "tokens that wait in RESULT; the machine waits while it is full"),
        Register("GENERATED", 0x50, "r", "tokens of the job until now"),
        Register("COUNTER", 0x54, "rw", f"a write keeps counter 0 to {len(COUNTERS) - 1}: {', '.join(COUNTERS)}"),
        Register("COUNTER_LOW", 0x58, "r", "what COUNTER kept, bits 0 to 31: cycles of the job until then"),
        Register("COUNTER_HIGH", 0x5C, "r", "what COUNTER kept, bits 32 to 47"),
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
        meaning = "byte address of the memory of port {}, a multiple of 4096; can be written while RESET is 1"
        registers += [
            Register(f"BASE{port}", 0x80 + 4 * port, "rw", meaning.format(port)) for port in range(config.ports)
        ]
    return tuple(registers)
