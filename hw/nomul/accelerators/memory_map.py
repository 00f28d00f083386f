"""Where everything is in a machine's DRAM, in words of all ports together.

header       1 word: the digest of the machine that the image was made for, 64 bits
constants    32 numbers of 32 bits for each layer: mantissa in bits 0 to 15, exponent in 16 to 25
gains        codes, norm by norm and layer by layer, each norm from a new word
embedding    codes, each row from a new word
weights      of all layers, then of the LM head, in the order of a pass
cache        keys and values (`nomul.memory.kv_dram`)
"""

import dataclasses
import hashlib

from nomul.accelerators.config import AcceleratorConfig
from nomul.accelerators.norms import Norm
from nomul.accelerators.scale_programs import CONSTANTS
from nomul.memory.kv_dram import KvLayout
from nomul.memory.trit_decoder import GroupCode

__all__ = ["CONSTANT_BYTES", "DIGEST_BITS", "MemoryMap", "digest"]

CONSTANT_BYTES = 4
DIGEST_BITS = 64


def digest(config: AcceleratorConfig) -> int:
    """Return a number that a machine shares with the images that were made for it, and with few others.

    Fields that change nothing in an image are left out.
    """
    fields = config.as_dict()
    for name in ("trace", "uram", "queries"):
        del fields[name]
    return int.from_bytes(hashlib.sha256(repr(sorted(fields.items())).encode()).digest()[: DIGEST_BITS // 8], "little")


@dataclasses.dataclass(frozen=True)
class MemoryMap:
    """The regions of a machine's DRAM.

    Parameters
    ----------
    config : AcceleratorConfig
    """

    config: AcceleratorConfig

    @property
    def word_bytes(self) -> int:
        """Bytes of a word."""
        return self.config.ports * self.config.port_bits // 8

    def words(self, length: int) -> int:
        """Return the words of so many bytes."""
        return -(-length // self.word_bytes)

    @property
    def constants(self) -> int:
        """First word of the constants."""
        return 1

    @property
    def constant_words(self) -> int:
        """Words of all constants."""
        return self.words(self.config.shape.layers * CONSTANTS * CONSTANT_BYTES)

    @property
    def gains(self) -> int:
        """First word of the gains."""
        return self.constants + self.constant_words

    def norm_length(self, norm: Norm) -> int:
        """Return the elements of a norm."""
        shape = self.config.shape
        return {Norm.SUB: shape.queries, Norm.FFN: shape.ffn}.get(norm, shape.width)

    def norm_offset(self, norm: Norm) -> int:
        """Return the words of a layer's gains before those of a norm; of FINAL, of all of a layer's."""
        return sum(self.words(self.norm_length(earlier)) for earlier in list(Norm)[:norm])

    @property
    def layer_gain_words(self) -> int:
        """Words of a layer's gains."""
        return self.norm_offset(Norm.FINAL)

    @property
    def embedding(self) -> int:
        """First word of the embedding."""
        return self.gains + self.config.shape.layers * self.layer_gain_words + self.words(self.config.shape.width)

    @property
    def row_words(self) -> int:
        """Words of a row of the embedding."""
        return self.words(self.config.shape.width)

    @property
    def weights(self) -> int:
        """First word of the weights."""
        return self.embedding + self.config.shape.vocabulary * self.row_words

    @property
    def code(self) -> GroupCode | None:
        """What dense weights are decoded to, or None if the engine takes weights as its packer makes them."""
        engine = self.config.engine_config
        return None if engine.decodes else engine.dense_code

    @property
    def transfer_groups(self) -> int:
        """Groups of dense weights in a transfer of the engine."""
        return self.config.engine_config.dense_groups

    @property
    def units(self) -> int:
        """Units of five groups in a word."""
        assert self.code is not None
        return self.word_bytes // self.code.group

    @property
    def transfer_words(self) -> int:
        """Words of a transfer of the engine's weights."""
        if self.code is None:
            return self.words(-(-self.config.engine_config.weight_width // 8))
        return -(-self.transfer_groups // (5 * self.units))

    @property
    def layers_words(self) -> int:
        """Words of all layers' weights."""
        return self.config.shape.layers * self.config.layer_transfers * self.transfer_words

    @property
    def head_words(self) -> int:
        """Words of the LM head's weights."""
        return self.config.head_transfers * self.transfer_words

    @property
    def cache(self) -> int:
        """First word of the keys and values."""
        return self.weights + self.layers_words + self.head_words

    @property
    def cache_layout(self) -> KvLayout:
        """The layout of keys and values, from `cache` on."""
        shape = self.config.shape
        return KvLayout(shape.layers, shape.kv_heads, shape.context, shape.head_dim, 8 * self.word_bytes)

    @property
    def end(self) -> int:
        """Words of everything."""
        return self.cache + self.cache_layout.size
