"""Runs a Nomul machine from a host, over whatever reads and writes its registers.

    import json, machine_driver
    machine = machine_driver.Machine(pynq.MMIO(address, 4096), json.load(open("manifest.json")))
    machine.begin(bases=[buffer.physical_address])      # without bases if the weights are on the chip
    for token in machine.generate([1, 2, 3], tokens=20):
        print(token)

It needs nothing but Python: copy it to the host together with the manifest.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

__all__ = ["Machine", "MachineError", "Mmio"]

NOT_READY = "the machine is not ready for a job: one is in work, or it is in reset"


class Mmio(Protocol):
    """What reads and writes 32 bits at a byte offset, as `pynq.MMIO` does."""

    def read(self, offset: int) -> int:
        """Return a register."""
        ...

    def write(self, offset: int, value: int) -> None:
        """Write a register."""
        ...


class MachineError(Exception):
    """The hardware is not the one of the manifest, refused a job, stopped, or takes too long."""


class Machine:
    """A machine, by its registers.

    Parameters
    ----------
    mmio : Mmio
    manifest : dict
        What `nomul accelerator verilog` wrote beside the machine: `registers`, `digest`, `counters`, `config`.
    sleep : function of seconds
        Called while something is awaited, between two looks at it.

    Raises
    ------
    MachineError
        If the hardware is not the one of the manifest.
    """

    def __init__(self, mmio: Mmio, manifest: dict[str, Any], sleep: Callable[[float], None] = time.sleep) -> None:
        self.mmio, self.manifest, self._sleep = mmio, manifest, sleep
        self.offsets = {register["name"]: register["offset"] for register in manifest["registers"]}
        (status,) = (register for register in manifest["registers"] if register["name"] == "STATUS")
        self._status_bits = [bit["name"] for bit in status["bits"]]
        for name in ("ID", "VERSION"):
            if self.read(name) != manifest[name.lower()]:
                found, wanted = self.read(name), manifest[name.lower()]
                raise MachineError(f"the hardware's {name} is 0x{found:08x}; the manifest's is 0x{wanted:08x}")
        digest = self.read("DIGEST_LOW") | self.read("DIGEST_HIGH") << 32
        if digest != int(manifest["digest"], 16):
            raise MachineError(f"the hardware's digest is {digest:016x}; the manifest's is {manifest['digest']}")

    def read(self, name: str) -> int:
        """Return a register by name."""
        return int(self.mmio.read(self.offsets[name]))

    def write(self, name: str, value: int) -> None:
        """Write a register by name."""
        self.mmio.write(self.offsets[name], value)

    def status(self) -> dict[str, bool]:
        """Return the bits of STATUS by name."""
        value = self.read("STATUS")
        return {name: bool(value >> place & 1) for place, name in enumerate(self._status_bits)}

    def clear(self, *names: str) -> None:
        """Clear bits of STATUS; all that can be cleared, without names."""
        bits = names or ("done", "fault", "illegal", "refused", "lost")
        self.write("STATUS", sum(1 << self._status_bits.index(name) for name in bits))

    def begin(self, bases: Sequence[int] = (), timeout: float = 1.0) -> None:
        """Reset the machine, tell it where its memory is, and wait until it is ready.

        Parameters
        ----------
        bases : sequence of int
            Byte address of the image of each AXI port; none for a machine whose weights are on the chip.
        timeout : float
            Seconds.

        Raises
        ------
        MachineError
            If there are more or fewer bases than ports, one is no multiple of 4096, or the image is not one for this
            machine.
        """
        ports = sum(name.startswith("BASE") for name in self.offsets)
        if len(bases) != ports:
            raise MachineError(f"{len(bases)} base addresses were given; the machine has {ports} memory ports")
        for base in bases:
            if base % 4096 or not 0 <= base < 1 << 32:
                raise MachineError(f"base address 0x{base:x} is not a multiple of 4096 below 2**32")
        self.write("RESET", 1)
        for port, base in enumerate(bases):
            self.write(f"BASE{port}", base)
        self.clear()
        self.write("RESET", 0)
        self._await(lambda status: status["ready"], timeout, "get ready")

    def start(self, prompt: Sequence[int], tokens: int, position: int = 0) -> None:
        """Give a job: tokens of the prompt, and how many to generate; `tokens` below has them.

        What an earlier job left, tokens that nobody took or a prompt that was not started, is thrown away.

        Raises
        ------
        MachineError
            If the machine refuses it, or is not ready for one; a job in work goes on.
        """
        self.clear()
        status = self.status()
        self._check(status)
        if not status["ready"]:
            raise MachineError(NOT_READY)
        self.write("STOP", 1)
        for token in prompt:
            self.write("PROMPT", token)
        self.write("PROMPT_LENGTH", len(prompt))
        self.write("TOKENS", tokens)
        self.write("POSITION", position)
        lost = self.status()["lost"]
        self.write("START", 1)
        status = self.status()
        self._check(status)
        if status["refused"]:
            raise MachineError(NOT_READY)
        if status["illegal"]:
            known = f"its context is {self.read('CONTEXT')}, its vocabulary {self.read('VOCABULARY')}"
            why = "; a token of the prompt does not exist" if lost else ""
            raise MachineError(
                f"the machine refused a prompt of {len(prompt)} tokens at position {position} and {tokens} tokens to "
                f"generate; {known}{why}"
            )

    def tokens(self, timeout: float = 10.0) -> Iterator[int]:
        """Yield the tokens of the job as they come, up to its last; `timeout` in seconds is for each."""
        while True:
            self._await(lambda status: status["token"] or not status["busy"], timeout, "give a token")
            result = self.read("RESULT")
            if not result >> 31:
                raise MachineError("the job ended without its last token")
            self.write("RESULT", 1)
            yield result & (1 << 30) - 1
            if result >> 30 & 1:
                return

    def generate(self, prompt: Sequence[int], tokens: int, position: int = 0, timeout: float = 10.0) -> Iterator[int]:
        """Run a job, and yield its tokens; who leaves the loop before the last token stops the machine."""
        self.start(prompt, tokens, position)
        try:
            yield from self.tokens(timeout)
        finally:
            if self.status()["busy"]:
                self.stop(timeout)

    def stop(self, timeout: float = 10.0) -> None:
        """End the job in work at its token's end, and wait until the machine is ready for another.

        Tokens that were not taken are gone. The cache has what is before the last token that was taken, at least: a job
        whose prompt begins with that token may go on from there.
        """
        self.clear("fault")
        self.write("STOP", 1)
        self._await(lambda status: status["ready"], timeout, "stop")

    def wait(self, timeout: float = 10.0) -> None:
        """Wait until no job is in work; a job of more tokens than RESULT holds needs them to be taken."""
        self._await(lambda status: not status["busy"], timeout, "end its job")

    def counters(self) -> dict[str, int]:
        """Return the cycles of the last job by step, TOTAL, and until its FIRST_TOKEN."""
        counts = {}
        for number, name in enumerate(self.manifest["counters"]):
            self.write("COUNTER", number)
            counts[name] = self.read("COUNTER_LOW") | self.read("COUNTER_HIGH") << 32
        return counts

    def logits(self) -> list[int]:
        """Return the logits of the last token; MachineError if the machine does not keep them."""
        if "LOGIT" not in self.offsets:
            raise MachineError("this machine keeps no logits; its vocabulary is too large")
        lanes, logits = self.manifest["config"]["lanes"], []
        for token in range(self.read("VOCABULARY")):
            self.write("LOGIT_INDEX", token % lanes | token // lanes << 8)
            value = self.read("LOGIT")
            logits.append(value - (value >> 31 << 32))
        return logits

    def interrupt_on(self, *names: str) -> None:
        """Let irq rise on any of done, fault, error, token; on nothing, without names."""
        (register,) = (register for register in self.manifest["registers"] if register["name"] == "INTERRUPT")
        bits = [bit["name"] for bit in register["bits"]]
        self.write("INTERRUPT", sum(1 << bits.index(name) for name in names))

    def _check(self, status: dict[str, bool]) -> None:
        if status["mismatch"]:
            raise MachineError("the image in memory was not made for this machine")
        if status["memory_error"]:
            raise MachineError("the memory answered with an error; begin anew")
        if status["fault"]:
            raise MachineError("the weights in memory could not be decoded")

    def _await(self, reached: Callable[[dict[str, bool]], bool], timeout: float, what: str) -> None:
        """Look at STATUS until it is as wanted."""
        pause, waited = 1e-5, 0.0
        while True:
            status = self.status()
            self._check(status)
            if reached(status):
                return
            if waited > timeout:
                raise MachineError(f"the machine did not {what} in {timeout:g} seconds")
            self._sleep(pause)
            waited += pause
            pause = min(2 * pause, 1e-3)
