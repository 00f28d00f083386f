"""A C header for a machine's host: registers, their bits, the memory map, and the few functions that run a job."""

from typing import Any

__all__ = ["c_header"]

FUNCTIONS = """\
/* Define NOMUL_ACCESS, and these two, before this file if registers are not reached by an address. */
#ifndef NOMUL_ACCESS
static inline uint32_t nomul_read(volatile uint32_t *registers, uint32_t offset) { return registers[offset / 4]; }

static inline void nomul_write(volatile uint32_t *registers, uint32_t offset, uint32_t value) {
    registers[offset / 4] = value;
}
#endif

/* Whether the hardware is the one that this header was written for. */
static inline int nomul_is_ours(volatile uint32_t *registers) {
    return nomul_read(registers, NOMUL_ID) == NOMUL_ID_VALUE &&
           nomul_read(registers, NOMUL_VERSION) == NOMUL_VERSION_VALUE &&
           nomul_read(registers, NOMUL_DIGEST_LOW) == NOMUL_DIGEST_LOW_VALUE &&
           nomul_read(registers, NOMUL_DIGEST_HIGH) == NOMUL_DIGEST_HIGH_VALUE;
}

/* Reset the machine, and let it read its memory; it is ready when STATUS has NOMUL_STATUS_READY. */
static inline void nomul_begin(volatile uint32_t *registers@BASES_PARAMETER@) {
    nomul_write(registers, NOMUL_RESET, 1);
@BASES@    nomul_write(registers, NOMUL_STATUS, NOMUL_STATUS_CLEARABLE);
    nomul_write(registers, NOMUL_RESET, 0);
}

/* End the job in work, if there is one, at its token's end; return 0 when the machine is ready for another, or the bits
   of STATUS that say why it will not be. PROMPT and RESULT are empty then. */
static inline uint32_t nomul_stop(volatile uint32_t *registers) {
    uint32_t status;
    nomul_write(registers, NOMUL_STATUS, NOMUL_STATUS_FAULT);
    nomul_write(registers, NOMUL_STOP, 1);
    do {
        status = nomul_read(registers, NOMUL_STATUS);
    } while (!(status & (NOMUL_STATUS_READY | NOMUL_STATUS_ERRORS)) && !nomul_read(registers, NOMUL_RESET));
    return status & NOMUL_STATUS_ERRORS;
}

/* Give a job; return 0, or the bits of STATUS that say why it was not taken. What an earlier job left in PROMPT and
   RESULT is thrown away; a job in work goes on. */
static inline uint32_t nomul_start(volatile uint32_t *registers, const uint32_t *prompt, uint32_t length,
                                   uint32_t tokens, uint32_t position) {
    uint32_t place, status;
    nomul_write(registers, NOMUL_STATUS, NOMUL_STATUS_CLEARABLE);
    status = nomul_read(registers, NOMUL_STATUS);
    if (!(status & NOMUL_STATUS_READY)) return (status & NOMUL_STATUS_ERRORS) | NOMUL_STATUS_REFUSED;
    nomul_write(registers, NOMUL_STOP, 1);
    for (place = 0; place < length; place++) nomul_write(registers, NOMUL_PROMPT, prompt[place]);
    nomul_write(registers, NOMUL_PROMPT_LENGTH, length);
    nomul_write(registers, NOMUL_TOKENS, tokens);
    nomul_write(registers, NOMUL_POSITION, position);
    nomul_write(registers, NOMUL_START, 1);
    return nomul_read(registers, NOMUL_STATUS) & (NOMUL_STATUS_ILLEGAL | NOMUL_STATUS_REFUSED | NOMUL_STATUS_ERRORS);
}

/* Wait for a token; return 1 if there is another to come, 0 after the job's last, -1 if the job ended without one. */
static inline int nomul_token(volatile uint32_t *registers, uint32_t *token) {
    for (;;) {
        /* STATUS first: a token that came before the job's end is seen below. */
        uint32_t status = nomul_read(registers, NOMUL_STATUS);
        uint32_t result = nomul_read(registers, NOMUL_RESULT);
        if (result & NOMUL_RESULT_VALID) {
            *token = result & NOMUL_RESULT_TOKEN;
            nomul_write(registers, NOMUL_RESULT, 1);
            return !(result & NOMUL_RESULT_LAST);
        }
        if (!(status & NOMUL_STATUS_BUSY)) return -1;
    }
}
"""

CLEARABLE = ("DONE", "FAULT", "ILLEGAL", "REFUSED", "LOST")
ERRORS = ("FAULT", "MISMATCH", "MEMORY_ERROR")


def c_header(manifest: dict[str, Any]) -> str:
    """Return the header of a machine, from its manifest (`nomul.export.machine_manifest`)."""
    names = [register["name"] for register in manifest["registers"]]
    ports = sum(name.startswith("BASE") for name in names)
    digest = int(manifest["digest"], 16)
    lines = [
        f"/* {manifest['summary']}: its registers, written by Nomul. Offsets are in bytes. */",
        "#ifndef NOMUL_MACHINE_H",
        "#define NOMUL_MACHINE_H",
        "",
        "#include <stdint.h>",
        "",
        f"#define NOMUL_ID_VALUE 0x{manifest['id']:08x}u",
        f"#define NOMUL_VERSION_VALUE {manifest['version']}u",
        f"#define NOMUL_DIGEST_LOW_VALUE 0x{digest & 0xFFFFFFFF:08x}u",
        f"#define NOMUL_DIGEST_HIGH_VALUE 0x{digest >> 32:08x}u",
        f"#define NOMUL_PORTS {ports}",
        "",
    ]
    for register in manifest["registers"]:
        lines += [f"/* {register['meaning']} */", f"#define NOMUL_{register['name']} 0x{register['offset']:02x}u"]
        for bit in register["bits"]:
            name = f"NOMUL_{register['name']}_{bit['name'].upper()}"
            lines.append(f"#define {name} (1u << {bit['bit']}) /* {bit['meaning']} */")
    for name, bits in (("CLEARABLE", CLEARABLE), ("ERRORS", ERRORS)):
        lines.append(f"#define NOMUL_STATUS_{name} ({' | '.join(f'NOMUL_STATUS_{bit}' for bit in bits)})")
    lines += [
        "#define NOMUL_RESULT_VALID (1u << 31)",
        "#define NOMUL_RESULT_LAST (1u << 30)",
        "#define NOMUL_RESULT_TOKEN ((1u << 30) - 1)",
        "",
        "/* What COUNTER takes. */",
        *(f"#define NOMUL_COUNTER_{name} {number}u" for number, name in enumerate(manifest["counters"])),
        "",
    ]
    memory = manifest["memory"]
    if memory["kind"] == "axi":
        lines += [f"/* Memory of each port: {memory['stripe']}. */"]
        lines += [
            f"#define NOMUL_{name.upper()} {memory[name]}u" for name in ("bytes_per_port", "image_bytes_per_port")
        ]
        lines += [
            f"#define NOMUL_REGION_{name.upper()} {region['offset']}u" for name, region in memory["regions"].items()
        ]
        lines.append("")
    text = FUNCTIONS.replace("@BASES_PARAMETER@", ", const uint32_t *bases" if ports else "")
    bases = [f"    nomul_write(registers, NOMUL_BASE{port}, bases[{port}]);\n" for port in range(ports)]
    return "\n".join(lines) + "\n" + text.replace("@BASES@", "".join(bases)) + "\n#endif\n"
