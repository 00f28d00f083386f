"""What a fuzzer sends over a serial line, and what the board must answer, by docs/serial.md.

A script is a list of steps: octets to send, a silence, or an octet without a stop bit, and the octets that must come
back before the next step. All of it is predicted outside the simulator, by `nomul.host.serial`.
"""

import dataclasses
import random
import struct
from collections.abc import Iterator

from nomul.host.serial import SYNC, Damage, Error, Frame, Message, Parser, encode
from nomul.sim.echo_machine import echo

__all__ = ["BoardModel", "Step", "script"]

SILENCE = "silence"
BROKEN = "broken"


@dataclasses.dataclass(frozen=True)
class Step:
    """What is sent, and what must come back: hexadecimal octets; or a silence, or a broken octet."""

    send: str
    answer: str


class BoardModel:
    """The answers of a board whose machine is `nomul.sim.echo_machine.EchoTop`."""

    def __init__(self, context: int, vocabulary: int, number: int) -> None:
        self.context, self.vocabulary, self.number = context, vocabulary, number
        self.parser = Parser(2 + 2 * context)

    def answer(self, item: Frame | Damage) -> bytes:
        """Return what the board sends for a frame or a damage."""
        if isinstance(item, Damage):
            return _error(item.error, item.type)
        if item.type == Message.PING:
            return encode(Message.INFO, struct.pack("<BHHI", 1, self.context, self.vocabulary, self.number))
        if item.type != Message.PROMPT:
            return _error(Error.TYPE, item.type)
        if len(item.payload) < 4 or len(item.payload) % 2:
            return _error(Error.REQUEST, item.type)
        count, *prompt = struct.unpack(f"<{len(item.payload) // 2}H", item.payload)
        if not count or count + len(prompt) - 1 > self.context or max(prompt) >= self.vocabulary:
            return _error(Error.REQUEST, item.type)
        tokens = [
            encode(Message.TOKEN, struct.pack("<HH", index, token))
            for index, token in enumerate(echo(prompt, count, self.vocabulary))
        ]
        return b"".join(tokens) + encode(Message.END, struct.pack("<HB", count, 0))

    def steps(self, octets: bytes) -> Iterator[Step]:
        """Yield the steps that send octets, cut where an answer must come."""
        start = 0
        for at in range(len(octets)):
            found = self.parser.feed(octets[at : at + 1])
            if found:
                yield Step(octets[start : at + 1].hex(), b"".join(map(self.answer, found)).hex())
                start = at + 1
        if start < len(octets):
            yield Step(octets[start:].hex(), "")

    def pause(self, kind: str) -> Step:
        """Return the step that is silent, or breaks an octet."""
        found = self.parser.silence(Error.TIMEOUT if kind == SILENCE else Error.LINE)
        return Step(kind, b"".join(map(self.answer, found)).hex())


def _error(error: Error, type: int) -> bytes:
    return encode(Message.ERROR, bytes([error, type]))


def _request(dice: random.Random, model: BoardModel) -> bytes:
    """Return a frame that is legal, or nearly."""
    kind = dice.randrange(10)
    if kind == 0:
        return encode(Message.PING, dice.randbytes(dice.randrange(3)))
    if kind == 1:
        return encode(dice.randrange(256), dice.randbytes(dice.randrange(2 * model.context + 3)))
    if kind == 2:
        return encode(Message.PROMPT, dice.randbytes(dice.randrange(12)), dice.randrange(256))
    prompt = [dice.randrange(model.vocabulary) for _ in range(dice.randint(1, model.context))]
    count = dice.randint(1, model.context + 1 - len(prompt))
    if kind == 3:
        prompt[dice.randrange(len(prompt))] = dice.choice([model.vocabulary, 127, 128, 256 + prompt[0], 65535])
    elif kind == 4:
        count = dice.choice([0, model.context + 2 - len(prompt), 65535])
    elif kind < 8:
        prompt, count = prompt[:4], min(count, 3)
    return encode(Message.PROMPT, struct.pack(f"<{1 + len(prompt)}H", count, *prompt))


def _mutated(dice: random.Random, frame: bytes) -> bytes:
    """Return a frame with a bit turned over, or with octets lost, doubled, added or cut off."""
    octets = bytearray(frame)
    for _ in range(dice.choice([1, 1, 2, 4])):
        place = dice.randrange(len(octets)) if octets else 0
        kind = dice.randrange(6)
        if kind == 0 or not octets:
            octets[place:place] = dice.randbytes(dice.randrange(4))
        elif kind == 1:
            del octets[place : place + dice.randint(1, 3)]
        elif kind == 2:
            octets[place:place] = octets[place : place + 3]
        elif kind == 3:
            del octets[place:]
        else:
            octets[place] ^= 1 << dice.randrange(8)
    return bytes(octets)


def script(model: BoardModel, octets: int, seed: int) -> list[Step]:
    """Return steps that send so many octets or a few more: requests, mutated requests, noise, silences."""
    dice = random.Random(seed)
    steps: list[Step] = []
    sent = 0
    while sent < octets:
        kind = dice.randrange(8)
        if kind < 2:
            piece = _request(dice, model)
        elif kind < 5:
            piece = _mutated(dice, _request(dice, model))
        elif kind == 5:
            piece = dice.randbytes(dice.randrange(40))
        elif kind == 6:
            piece = bytes(dice.choice([SYNC, SYNC, 1, 2, 0, 0, 0, 0xFF]) for _ in range(dice.randrange(20)))
        else:
            steps.append(model.pause(dice.choice([SILENCE, BROKEN])))
            continue
        steps += model.steps(piece)
        sent += len(piece)
    # Whatever came before: after a silence a good request has its good answer.
    steps.append(model.pause(SILENCE))
    steps += model.steps(encode(Message.PING))
    steps += model.steps(encode(Message.PROMPT, struct.pack("<3H", 2, 1, 2)))
    return steps
