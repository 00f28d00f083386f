"""Top-K: the indices of the K largest of M scores, exactly, without comparing a score with another.

Radix selection from the highest bit, after VitaLLM's comparison-free selector (arXiv 2605.00320, mechanism not
published). Every score is first a survivor. For each bit, count the survivors that have it: if at least as many as are
still wanted, drop the others; if fewer, choose these and go on with the others. What survives all bits equals the K-th
largest, and of these the oldest are chosen. If K is M or more, every score is chosen.

Indices come in order of age, the oldest first: the order in which keys and values lie in the cache, so that
neighbours are fetched in one burst. Score 0 of a job is the oldest.

Scores wait in one of two banks of memory, `lanes` to a word, so the next job's scores come in during the selection.
Two bits a score say where it stands: 00 dropped, 11 chosen, 01 and 10 survivors without and with the last bit counted.

Cycle schedule of a word read at t: scores in registers t + 1 and t + 2, of each four bits one t + 3, the bit t + 4,
where the states are too, the new states t + 5, counts of four lanes t + 6, that of the word after `count_stages` more;
then it is subtracted from what is wanted. Two cycles after that of a pass's last word, the outcome meets the next
pass's first word at t + 4.
"""

from amaranth.hdl import Cat, Module
from amaranth.lib import data
from amaranth.lib.wiring import Component

from nomul.attention.top_k_config import TopKConfig
from nomul.attention.top_k_emit import Emitter
from nomul.attention.top_k_load import Loader
from nomul.attention.top_k_select import Selector
from nomul.contract import core_members
from nomul.memory.wide import WideMemory

__all__ = ["TopK", "TopKConfig"]


class TopK(Component):
    """The unit; `nomul.contract` and the module document its ports.

    Parameters
    ----------
    config : TopKConfig
    """

    def __init__(self, config: TopKConfig) -> None:
        self.config = config
        super().__init__(core_members(config))

    def elaborate(self, platform: object) -> Module:
        """Wire loader, selector and emitter together."""
        m = Module()
        config = self.config
        m.submodules.loader = loader = Loader(config)
        m.submodules.selector = selector = Selector(config)
        m.submodules.emitter = emitter = Emitter(config)
        shape = data.ArrayLayout(config.score_bits, config.lanes)
        m.submodules.scores = memory = WideMemory(shape, 2 << (config.words_max - 1).bit_length(), config.target)
        m.d.comb += [
            loader.jobs.payload.eq(self.jobs.payload),
            loader.jobs.valid.eq(self.jobs.valid),
            self.jobs.ready.eq(loader.jobs.ready),
            loader.scores.payload.eq(self.scores.payload),
            loader.scores.valid.eq(self.scores.valid),
            self.scores.ready.eq(loader.scores.ready),
            self.fault.eq(loader.fault),
            memory.write_address.eq(Cat(loader.address, loader.bank)),
            memory.write_data.eq(loader.word),
            memory.write.eq(loader.write),
            selector.posted.eq(loader.posted),
            selector.task.eq(loader.task),
            loader.free.eq(selector.taken),
            memory.read_address.eq(Cat(selector.address, selector.bank)),
            selector.word.eq(memory.read_data),
            selector.finished.eq(emitter.finished),
            emitter.write.eq(selector.write),
            emitter.chosen.eq(selector.chosen),
            emitter.go.eq(selector.done),
            self.results.payload.eq(emitter.results.payload),
            self.results.valid.eq(emitter.results.valid),
            emitter.results.ready.eq(self.results.ready),
        ]
        return m
