"""A model of the Vivado commands that a block design's script uses: it does what they say, or refuses.

What is right with a design, `vivado_design` says. A command that it does not know is an error.
"""

import re
import sys
import tkinter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.vivado_cells import Cell, module_parts
from tests.vivado_design import BlockDesign

BOARDS = ("xilinx.com:kv260_som:part0:1.3", "xilinx.com:kv260_som:part0:1.4")


class Refused(Exception):
    """What Vivado would not do."""


class Vivado(BlockDesign):
    """A Tcl interpreter with the commands, and what they made.

    Parameters
    ----------
    boards : tuple of str
        Board parts that are installed.
    slack : float
        Of the implemented design, in nanoseconds.
    """

    def __init__(self, boards: tuple[str, ...] = BOARDS, slack: float = 0.1) -> None:
        super().__init__()
        self.boards, self.slack = boards, slack
        self.calls: list[tuple[str, ...]] = []
        self.files: dict[str, str] = {}
        """File added, and its type if one was set."""
        self.project: dict[str, str] = {}
        self.done: set[str] = set()
        self.printed: list[str] = []
        self.refused: Refused | None = None
        self._tcl = tkinter.Tcl()
        self._tcl.eval("rename unknown {}; rename exec {}")
        for name in dir(self):
            if name.startswith("do_"):
                self._tcl.createcommand(name[3:], self._recorded(name[3:], getattr(self, name)))

    def source(self, script: Path) -> None:
        """Run a script; Refused, or tkinter.TclError for an error of its own, if it does not come to its end."""
        try:
            self._tcl.call("source", str(script))
        except tkinter.TclError:
            raise self.refused or sys.exc_info()[1] from None

    def _recorded(self, name: str, work: Callable[..., Any]) -> Callable[..., str]:
        def call(*arguments: str) -> str:
            words = tuple(str(word) for word in arguments)
            self.calls.append((name, *words))
            try:
                result = work(*words)
            except Exception as error:  # Tcl does not pass it on
                self.refused = Refused(f"{name}: {error!r}")
                raise
            return " ".join(f"{{{item}}}" for item in result) if isinstance(result, list) else str(result or "")

        return call

    def _split(self, text: str) -> list[str]:
        return [str(item) for item in self._tcl.splitlist(text)]

    @staticmethod
    def _options(
        words: tuple[str, ...], flags: tuple[str, ...], valued: tuple[str, ...]
    ) -> tuple[dict[str, str], list[str]]:
        """Return options by name, and the other arguments; Refused for an option that the command does not have."""
        given, rest, left = {}, [], list(words)
        while left:
            word = left.pop(0)
            if word in valued:
                given[word] = left.pop(0)
            elif word in flags:
                given[word] = ""
            elif word.startswith("-"):
                raise Refused(f"no option {word}")
            else:
                rest.append(word)
        return given, rest

    def _need(self, *steps: str) -> None:
        for step in steps:
            if step not in self.done:
                raise Refused(f"{step} comes first")

    # --- project

    def do_get_board_parts(self, *words: str) -> list[str]:
        _, (pattern,) = self._options(words, ("-quiet",), ())
        return [board for board in self.boards if re.fullmatch(pattern.replace("*", ".*"), board)]

    def do_create_project(self, *words: str) -> None:
        given, (name, folder) = self._options(words, ("-force",), ("-part",))
        assert given["-part"].startswith("xck26-sfvc784")
        self.project = {"name": name, "folder": folder, "part": given["-part"]}
        self.done.add("create_project")

    def do_current_project(self) -> str:
        self._need("create_project")
        return "project"

    def do_current_fileset(self) -> str:
        return "sources_1"

    def do_add_files(self, *words: str) -> None:
        self._need("create_project")
        given, (files,) = self._options(words, ("-norecurse",), ("-fileset",))
        assert given.get("-fileset", "sources_1") in ("sources_1", "constrs_1")
        for file in self._split(files):
            if not Path(file).is_file():
                raise Refused(f"no file {file}")
            self.files[file] = {".v": "Verilog", ".xdc": "XDC"}.get(Path(file).suffix, "Unknown")

    def do_get_files(self, names: str) -> list[str]:
        designs = self.project.get("design", "").split()
        known = [*self.files, *(f"{self.project['folder']}/{name}.bd" for name in designs)]
        found = [file for name in self._split(names) for file in known if file == name or file.endswith(f"/{name}")]
        if len(found) != len(self._split(names)):
            raise Refused(f"no file {names}")
        return found

    def do_update_compile_order(self, *words: str) -> None:
        assert words == ("-fileset", "sources_1")

    def do_set_property(self, *words: str) -> None:
        if words[0] == "-dict":
            pairs, target = self._split(words[1]), words[2]
            assert len(pairs) % 2 == 0
            for name, value in zip(pairs[::2], pairs[1::2], strict=True):
                self._set(name, value, target)
        else:
            self._set(*words)

    def _set(self, name: str, value: str, target: str) -> None:
        if target == "project":
            assert name == "board_part" and value in self.boards
            self.project["board_part"] = value
        elif target == "sources_1":
            assert name == "top"
            if not any(Path(file).stem == value for file in self.files):
                raise Refused(f"no module {value}")
            self.done.add("top")
        elif target.lstrip("/") in self.cells:
            self._configure(self.cells[target.lstrip("/")], name.removeprefix("CONFIG."), value)
        else:
            for file in self._split(target):
                assert name == "file_type" and file in self.files
                self.files[file] = value

    def _configure(self, cell: Cell, name: str, value: str) -> None:
        allowed: dict[str, dict[str, Callable[[str], bool]]] = {
            "zynq_ultra_ps_e": {
                "PSU__FPGA_PL0_ENABLE": lambda text: text in "01",
                "PSU__CRL_APB__PL0_REF_CTRL__FREQMHZ": lambda text: 0 < float(text) <= 333.333,
                "PSU__USE__IRQ0": lambda text: text in "01",
                **{f"PSU__USE__M_AXI_GP{number}": lambda text: text in "01" for number in range(3)},
                **{f"PSU__USE__S_AXI_GP{number}": lambda text: text in "01" for number in range(7)},
                **{f"PSU__SAXIGP{number}__DATA_WIDTH": lambda text: text in ("32", "64", "128") for number in range(7)},
            },
            "smartconnect": {name: lambda text: 1 <= int(text) <= 16 for name in ("NUM_SI", "NUM_MI")},
        }
        if name not in allowed.get(cell.kind, {}) or not allowed[cell.kind][name](value):
            raise Refused(f"{cell.kind} has no {name} {value}")
        cell.config[name] = value

    # --- block design

    def do_create_bd_design(self, name: str) -> None:
        self._need("create_project")
        self.project["design"] = name
        self.done.add("create_bd_design")

    def do_create_bd_cell(self, *words: str) -> str:
        self._need("create_bd_design")
        given, (name,) = self._options(words, (), ("-type", "-vlnv", "-reference"))
        if name in self.cells:
            raise Refused(f"cell {name} exists")
        if given["-type"] == "module":
            texts = [Path(file).read_text() for file, kind in self.files.items() if kind == "Verilog"]
            (text,) = (text for text in texts if re.search(rf"^module {given['-reference']}\b", text, re.MULTILINE))
            self.cells[name] = Cell("module", module=module_parts(text, given["-reference"]))
        else:
            vendor, library, kind = given["-vlnv"].split(":")
            assert (given["-type"], vendor, library) == ("ip", "xilinx.com", "ip")
            assert kind in ("zynq_ultra_ps_e", "proc_sys_reset", "smartconnect")
            self.cells[name] = Cell(kind)
        return f"/{name}"

    def do_apply_bd_automation(self, *words: str) -> None:
        given, (cell,) = self._options(words, (), ("-rule", "-config"))
        assert given["-rule"] == "xilinx.com:bd_rule:zynq_ultra_ps_e" and "board_part" in self.project
        assert self.cells[cell.lstrip("/")].kind == "zynq_ultra_ps_e" and not self.cells[cell.lstrip("/")].config
        assert self._split(given["-config"]) == ["apply_board_preset", "1"]

    def do_get_bd_cells(self, name: str) -> str:
        if name not in self.cells:
            raise Refused(f"no cell {name}")
        return f"/{name}"

    def do_get_bd_pins(self, path: str) -> str:
        if self.part(path, 0) is None:
            raise Refused(f"no pin {path}")
        return f"/{path.lstrip('/')}"

    def do_get_bd_intf_pins(self, path: str) -> str:
        if self.part(path, 1) is None:
            raise Refused(f"no interface {path}")
        return f"/{path.lstrip('/')}"

    def do_connect_bd_net(self, source: str, sink: str) -> None:
        if not self.part(source, 0).output or self.part(sink, 0).output:
            raise Refused(f"{source} does not drive {sink}")
        if any(sink == other for _, other in self.nets):
            raise Refused(f"{sink} has a driver")
        self.nets.append((source, sink))

    def do_connect_bd_intf_net(self, source: str, sink: str) -> None:
        if not self.part(source, 1).master or self.part(sink, 1).master:
            raise Refused(f"{source} is no master of {sink}")
        if {source, sink} & {end for link in self.links for end in link}:
            raise Refused(f"{source} or {sink} is connected")
        self.links.append((source, sink))

    # --- addresses

    def do_get_bd_addr_segs(self, *words: str) -> str:
        given, (path,) = self._options(words, ("-quiet",), ())
        if path not in self.segments():
            if "-quiet" in given:
                return ""
            raise Refused(f"no segment {path}")
        return f"/{path}"

    def do_get_bd_addr_spaces(self, path: str) -> str:
        cell, _, name = path.partition("/")
        bus = self.cells[cell].parts[1].get(name)
        if not (self.cells[cell].kind == "zynq_ultra_ps_e" and name == "Data") and not (bus and bus.master):
            raise Refused(f"no address space {path}")
        return f"/{path}"

    def do_assign_bd_address(self, *words: str) -> None:
        given, (segment,) = self._options(words, (), ("-offset", "-range", "-target_address_space"))
        number, unit = re.fullmatch(r"(\d+)([KMG])", given["-range"]).groups()  # type: ignore[union-attr]
        size, offset = int(number) << {"K": 10, "M": 20, "G": 30}[unit], int(given["-offset"], 0)
        if offset % size:
            raise Refused(f"0x{offset:x} is no multiple of {given['-range']}")
        self.mapped[given["-target_address_space"], segment] = (offset, size)

    def do_exclude_bd_addr_seg(self, *words: str) -> None:
        given, (segment,) = self._options(words, (), ("-target_address_space",))
        self.excluded.add((given["-target_address_space"], segment))

    def do_validate_bd_design(self) -> None:
        if wrong := self.problems():
            raise Refused("; ".join(wrong))
        self.done.add("validate_bd_design")

    def do_save_bd_design(self) -> None:
        self._need("validate_bd_design")
        self.done.add("save_bd_design")

    # --- bitstream

    def do_make_wrapper(self, *words: str) -> str:
        self._need("save_bd_design")
        given, _ = self._options(words, ("-top",), ("-files",))
        design = Path(given["-files"]).stem
        base = Path(self.project["folder"]) / f"{self.project['name']}.gen/sources_1/bd/{design}"
        (base / "hw_handoff").mkdir(parents=True)
        (base / "hw_handoff" / f"{design}.hwh").write_text("handoff")
        wrapper = base / f"{design}_wrapper.v"
        wrapper.write_text(f"module {design}_wrapper;\nendmodule\n")
        return str(wrapper)

    def do_launch_runs(self, *words: str) -> None:
        self._need("save_bd_design", "top")
        given, (run,) = self._options(words, (), ("-to_step", "-jobs"))
        assert (run, given["-to_step"]) == ("impl_1", "write_bitstream")
        folder = Path(self.project["folder"]) / f"{self.project['name']}.runs/impl_1"
        folder.mkdir(parents=True)
        (folder / f"{self.project['design']}_wrapper.bit").write_text("bitstream")
        self.project["run"] = str(folder)

    def do_wait_on_run(self, run: str) -> None:
        assert run == "impl_1" and "run" in self.project
        self.done.add("impl_1")

    def do_get_runs(self, run: str) -> str:
        assert run == "impl_1"
        return run

    def do_get_property(self, name: str, target: str) -> str:
        values = {
            ("PROGRESS", "impl_1"): "100%" if "impl_1" in self.done else "0%",
            ("STATUS", "impl_1"): "route_design ERROR",
            ("DIRECTORY", "impl_1"): self.project.get("run", ""),
            ("SLACK", "path"): str(self.slack),
        }
        return values[name, target]

    def do_open_run(self, run: str) -> None:
        self._need(run)
        self.done.add("open_run")

    def do_report_utilization(self, *words: str) -> None:
        self._need("open_run")
        self._options(words, ("-hierarchical",), ("-file",))

    def do_report_timing_summary(self, *words: str) -> None:
        self._need("open_run")
        self._options(words, (), ("-file",))

    def do_get_timing_paths(self, *words: str) -> str:
        self._need("open_run")
        assert words == ("-setup",)
        return "path"

    def do_write_hw_platform(self, *words: str) -> None:
        self._need("open_run")
        given, _ = self._options(words, ("-fixed", "-include_bit", "-force"), ("-file",))
        assert "-include_bit" in given
        Path(given["-file"]).write_text("platform")

    def do_puts(self, *words: str) -> None:
        self.printed.append(words[-1])
