"""IP-XACT: a component.xml that tells other tools what a top module's buses, registers and files are.

Written by the schemas that Accellera publishes for IEEE 1685-2014 and IEEE 1685-2009, which Vivado's catalogue reads.
The two differ in their name space and in where a few elements go; what they say is the same.
"""

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from nomul.bus.interfaces import Interface, find_interfaces
from nomul.errors import InputError

__all__ = ["SCHEMAS", "Identity", "component_xml"]

SCHEMAS = {
    "1685-2014": ("ipxact", "http://www.accellera.org/XMLSchema/IPXACT/1685-2014", "index.xsd"),
    "1685-2009": ("spirit", "http://www.spiritconsortium.org/XMLSchema/SPIRIT/1685-2009", "index.xsd"),
}
"""By the standard's number: prefix, name space, and the file of the schema."""

XSI = "http://www.w3.org/2001/XMLSchema-instance"

ACCESS = {"r": "read-only", "w": "write-only", "rw": "read-write"}

NAME = re.compile(r"[A-Za-z_][\w.-]*")

VIEWS = {"synthesis": "verilogSource:vivado.xilinx.com:synthesis", "simulation": "verilogSource:*:simulation"}
"""Views of the same files, and the environments that they are for: language, tool, and the tool's own word."""


@dataclass(frozen=True)
class Identity:
    """Vendor, library, name and version, by which a catalogue knows a component.

    Raises
    ------
    InputError
        If one is not a name as the schemas want it.
    """

    vendor: str
    library: str
    name: str
    version: str

    def __post_init__(self) -> None:
        """Check that each is a name."""
        for field in ("vendor", "library", "name"):
            if not NAME.fullmatch(getattr(self, field)):
                raise InputError(
                    f"{field} is {getattr(self, field)!r}; allowed: letters, digits, '.', '-' and '_', "
                    "and a letter or '_' first"
                )
        if not re.fullmatch(r"[\w.-]+", self.version):
            raise InputError(f"version is {self.version!r}; allowed: letters, digits, '.', '-' and '_'")


class Writer:
    """Makes elements in the name space of one of the two schemas."""

    def __init__(self, schema: str) -> None:
        self.old = schema == "1685-2009"
        prefix, self.space, _ = SCHEMAS[schema]
        ElementTree.register_namespace(prefix, self.space)
        ElementTree.register_namespace("xsi", XSI)

    def element(self, tag: str, *content: Any, **attributes: str) -> ElementTree.Element:
        """Return an element: of text, of a number, or of elements; None among them is left out."""
        spaced = attributes if not self.old else {f"{{{self.space}}}{name}": text for name, text in attributes.items()}
        made = ElementTree.Element(f"{{{self.space}}}{tag}", spaced)
        for part in content:
            if isinstance(part, ElementTree.Element):
                made.append(part)
            elif part is not None:
                made.text = str(part)
        return made

    def group(self, tag: str, children: Iterable[ElementTree.Element]) -> ElementTree.Element | None:
        """Return an element with children, or None without any: the schemas know no empty list."""
        found = list(children)
        return self.element(tag, *found) if found else None

    def named(self, name: str, description: str = "") -> list[ElementTree.Element]:
        """Return a name, and its description if there is one."""
        texts = {"name": name} | ({"description": description} if description else {})
        return [self.element(tag, text) for tag, text in texts.items()]

    def parameters(self, owner: str, values: Mapping[str, Any]) -> ElementTree.Element | None:
        """Return parameters, whose identifiers are unique because `owner` is."""
        made = []
        for name, value in values.items():
            value = str(value).lower() if isinstance(value, bool) else value
            if self.old:
                value = self.element("value", value, id=f"{owner}.{name}", resolve="immediate")
                made.append(self.element("parameter", self.element("name", name), value))
            else:
                kind = "int" if str(value).isdigit() else "string"
                attributes = {"parameterId": f"{owner}.{name}", "resolve": "immediate", "type": kind}
                parts = self.named(name)
                made.append(self.element("parameter", *parts, self.element("value", value), **attributes))
        return self.group("parameters", made)

    def reference(self, tag: str, type_name: str) -> ElementTree.Element:
        """Return a reference to something of a library, by 'vendor:library:name:version'."""
        return self.element(
            tag, **dict(zip(("vendor", "library", "name", "version"), type_name.split(":"), strict=True))
        )

    def bus(self, interface: Interface) -> ElementTree.Element:
        """Return a bus interface with the map of its pins."""
        vendor, library, name, version = interface.type.split(":")
        abstraction = f"{vendor}:{library}:{name}_rtl:{version}"
        maps = self.element("portMaps", *(self._map(*pair) for pair in interface.pins.items()))
        reference: list[ElementTree.Element] = []
        if interface.kind == "axi_lite":
            reference = [self.element("memoryMapRef", memoryMapRef=interface.name)]
        elif interface.kind == "axi4":
            reference = [self.element("addressSpaceRef", addressSpaceRef=interface.name)]
        mode = self.element("master" if interface.master else "slave", *reference)
        parameters = self.parameters(f"BUSIFPARAM_VALUE.{interface.name.upper()}", interface.parameters)
        parts = self.named(interface.name)
        if self.old:
            body = [self.reference("abstractionType", abstraction), mode, maps]
        else:
            types = self.element("abstractionType", self.reference("abstractionRef", abstraction), maps)
            body = [self.element("abstractionTypes", types), mode]
        return self.element("busInterface", *parts, self.reference("busType", interface.type), *body, parameters)

    def _map(self, logical: str, physical: str) -> ElementTree.Element:
        ends = (("logicalPort", logical), ("physicalPort", physical))
        return self.element("portMap", *(self.element(tag, self.element("name", name)) for tag, name in ends))

    def register(self, register: Mapping[str, Any]) -> ElementTree.Element:
        """Return a register of 32 bits: its single bits as fields, or one field with its name."""
        whole = {"name": register["name"], "bit": 0, "access": register["access"], "meaning": ""}
        fields = [self._field(bit, 1) for bit in register["bits"]] or [self._field(whole, 32)]
        return self.element(
            "register",
            *self.named(register["name"], register["meaning"]),
            self.element("addressOffset", hexadecimal(register["offset"])),
            self.element("size", 32),
            self.element("access", ACCESS[register["access"]]),
            *fields,
        )

    def _field(self, bit: Mapping[str, Any], width: int) -> ElementTree.Element:
        return self.element(
            "field",
            *self.named(bit["name"], bit["meaning"]),
            self.element("bitOffset", bit["bit"]),
            self.element("bitWidth", width),
            self.element("access", ACCESS[bit["access"]]),
            self.element("modifiedWriteValue", "oneToClear") if bit.get("write_1") == "clears" else None,
        )

    def port(self, name: str, port: Mapping[str, Any]) -> ElementTree.Element:
        """Return a pin, with its bits if it has more than one."""
        ends = [self.element("left", port["width"] - 1), self.element("right", 0)]
        vector = self.element("vector", *ends)
        vector = vector if self.old else self.element("vectors", vector)
        direction = self.element("direction", "in" if port["direction"] == "input" else "out")
        wire = self.element("wire", direction, vector if port["width"] > 1 else None)
        return self.element("port", *self.named(name, port["meaning"]), wire)

    def model(self, top: str, ports: Mapping[str, Any], sets: Iterable[str]) -> ElementTree.Element:
        """Return the views, which are of the same module and files, and the pins."""
        if self.old:
            refs = [self.element("fileSetRef", self.element("localName", name)) for name in sets]
            module = [self.element("language", "verilog"), self.element("modelName", top), *refs]
            rest = []
        else:
            refs = [self.element("fileSetRef", self.element("localName", name)) for name in sets]
            inside = [self.element("language", "verilog"), self.element("moduleName", top), *refs]
            instantiation = self.element("componentInstantiation", self.element("name", "rtl"), *inside)
            module = [self.element("componentInstantiationRef", "rtl")]
            rest = [self.element("instantiations", instantiation)]
        views = [
            self.element("view", self.element("name", name), self.element("envIdentifier", environment), *module)
            for name, environment in VIEWS.items()
        ]
        pins = self.element("ports", *(self.port(name, port) for name, port in ports.items()))
        return self.element("model", self.element("views", *views), *rest, pins)

    def files(self, name: str, files: Iterable[str]) -> ElementTree.Element:
        """Return a set of files."""
        made = []
        for file in files:
            if file.endswith(".v"):
                kind = self.element("fileType", "verilogSource")
            elif self.old:
                kind = self.element("userFileType", "mem_init_file")
            else:
                kind = self.element("fileType", "user", user="mem_init_file")
            made.append(self.element("file", self.element("name", file), kind))
        return self.element("fileSet", *self.named(name), *made)


def hexadecimal(value: int) -> str:
    """Return a number as both schemas write one."""
    return f"0x{value:X}"


def component_xml(
    manifest: Mapping[str, Any], identity: Identity, file_sets: Mapping[str, Iterable[str]], schema: str = "1685-2014"
) -> bytes:
    """Return the component.xml of a top module on standard buses.

    Parameters
    ----------
    manifest : mapping
        As `nomul.export.manifest` or `nomul.export.machine_manifest` makes it.
    identity : Identity
    file_sets : mapping of str to file names
        Relative to the file; all of them belong to every view.
    schema : str
        One of `SCHEMAS`.

    Raises
    ------
    InputError
        If there is no such schema.
    """
    if schema not in SCHEMAS:
        raise InputError(f"no schema is called {schema!r}; the schemas are {', '.join(SCHEMAS)}")
    _, space, file = SCHEMAS[schema]
    write = Writer(schema)
    ports = manifest["ports"]
    interfaces = find_interfaces({name: port["width"] for name, port in ports.items()})
    spaces = [
        write.element(
            "addressSpace",
            *write.named(interface.name, "memory, by byte addresses"),
            write.element("range", hexadecimal(1 << int(interface.parameters["ADDR_WIDTH"]))),
            write.element("width", interface.parameters["DATA_WIDTH"]),
        )
        for interface in interfaces
        if interface.kind == "axi4"
    ]
    maps = [
        write.element(
            "memoryMap",
            *write.named(interface.name),
            write.element(
                "addressBlock",
                *write.named("reg0", "registers"),
                write.element("baseAddress", "0x0"),
                write.element("range", hexadecimal(1 << int(interface.parameters["ADDR_WIDTH"]))),
                write.element("width", interface.parameters["DATA_WIDTH"]),
                write.element("usage", "register"),
                write.element("access", "read-write"),
                *(write.register(register) for register in manifest["registers"]),
            ),
        )
        for interface in interfaces
        if interface.kind == "axi_lite"
    ]
    fixed = {name: value for name, value in manifest["config"].items() if isinstance(value, int | str)}
    identifiers = (identity.vendor, identity.library, identity.name, identity.version)
    root = write.element(
        "component",
        *map(write.element, ("vendor", "library", "name", "version"), identifiers),
        write.group("busInterfaces", map(write.bus, interfaces)),
        write.group("addressSpaces", spaces),
        write.group("memoryMaps", maps),
        write.model(manifest["top"], ports, file_sets),
        write.group("fileSets", (write.files(name, files) for name, files in file_sets.items())),
        write.element("description", manifest["summary"]),
        write.parameters("CONFIG", fixed),
    )
    root.set(f"{{{XSI}}}schemaLocation", f"{space} {space}/{file}")
    ElementTree.indent(root)
    text: bytes = ElementTree.tostring(root, encoding="UTF-8", xml_declaration=True)
    return text + b"\n"
