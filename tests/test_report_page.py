"""The report of every engine: what it builds, what it says, and its page in a real browser."""

import json
import re
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from hw.engines import ENGINES
from sw.commands.report import command
from sw.errors import InputError
from sw.flow.jobs import Outcome
from sw.flow.page import markdown, page
from sw.flow.plots import PLOTS
from sw.flow.survey import ALL_TARGETS, SIZES, build_job, builds, figures, wanted

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def made_up(chosen, seed: float = 1.0):
    """Figures of every build whose numbers are made up, all different; nothing is synthesised."""
    outcomes = {}
    for index, (name, job) in enumerate(wanted(chosen, None).items()):
        size = 100.0 + 37 * index * seed
        value = {"tools": ["Yosys 0.70"]}
        if job.function.endswith(":fpga"):
            value |= {"lut": int(size), "ff": int(size), "bram": 1.5, "uram": 0, "dsp": 0}
        elif job.function.endswith(":routed"):
            value |= {"fmax_mhz": 20 + index / 7, "device": "a chip", "tools": ["nextpnr 0.9"]}
        else:
            value |= {"area": size, "memory_bits": 4096, "critical_path_ns": 1.5, "clock_ns": 1.5, "power_mw": 2.0}
            value |= {"timing_source": "OpenSTA", "power_source": "assumed: every input toggles in 10% of the cycles"}
        broken = name.startswith("tlmm gowin")
        outcomes[name] = Outcome(job, None if broken else value, "Yosys stopped: <no> LUTRAM" if broken else "")
    return figures(chosen, outcomes)


@pytest.fixture
def whole(tmp_path) -> Path:
    libraries = [tmp_path / "one.lib", tmp_path / "two.lib"]
    for file in libraries:
        file.write_text("")
    found = made_up(builds(list(ENGINES), SIZES, ALL_TARGETS, libraries))
    file = tmp_path / "index.html"
    file.write_text(page(found, "nomul report --all"))
    return file


def test_every_engine_size_and_target_is_built_beside_an_array_of_its_throughput():
    chosen = builds(list(ENGINES), SIZES, ALL_TARGETS, [])
    assert len(chosen) == len(ENGINES) * 4 * 6
    for build in chosen:
        assert build.baseline().config.macs_per_cycle >= build.config.macs_per_cycle
        if build.target != "cells" and build.config.macs_per_cycle >= 4:
            assert build.baseline().config.macs_per_cycle == build.config.macs_per_cycle
        assert build_job(build, None).arguments["config"]["target"] in ("portable", "xcup", "xc7", "ecp5", "cells")
    sizes = {(b.engine, b.size): b.config.macs_per_cycle for b in chosen if b.target == "xcup"}
    for engine in ENGINES:
        assert sizes[engine, "small"] < sizes[engine, "medium"] < sizes[engine, "large"]


def test_ratios_stand_on_the_array_of_the_same_run():
    (figure,) = made_up(builds(["tint"], ["small"], ["ecp5"], []))
    assert figure.per_mac == figure.value["lut"] / 16
    assert figure.baseline_per_mac == figure.baseline["lut"] / 16
    assert figure.ratio == pytest.approx(figure.value["lut"] / figure.baseline["lut"])
    assert figure.bits_per_weight == 2
    assert 0.9 < figure.utilization < 1
    entry = json.loads(json.dumps(figure.as_json()))
    assert entry["command"] == "nomul report tint --target ecp5 --set lanes_in=8 --set rows=2 --once"
    assert entry["baseline"]["command"].startswith("nomul report baseline --target ecp5 --set lanes_in=16 --set rows=1")


def test_markdown_has_a_row_for_each_figure():
    found = made_up(builds(["tint", "tlmm"], SIZES, ["ice40", "gowin"], []))
    text = markdown(found, "nomul report --all")
    assert len(re.findall(r"^\| (?:tint|tlmm) \|", text, re.MULTILINE)) == len(found) == 16
    assert "Yosys stopped: <no> LUTRAM" in text
    assert "An iCE40 has no memories of look-up tables" in text
    assert "does not fit iCEBreaker" in markdown(made_up(builds(["tint"], SIZES, ["ice40"], []), 400), "nomul")


def test_the_page_in_a_browser(whole):
    api = pytest.importorskip("playwright.sync_api", reason="needs the Python package playwright")
    if CHROMIUM is None:
        pytest.skip("needs Chromium: install the package chromium")
    text = whole.read_text()
    assert not re.findall(r"(?:src|href)=\"(?!data:|#)", text.replace("xlink:href", "href")), "it needs another file"
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        for width, scheme in ((390, "light"), (1440, "dark"), (1440, "light")):
            view = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
            said: list[str] = []
            view.on("console", lambda message, said=said: said.append(message.text))
            view.on("pageerror", lambda error, said=said: said.append(str(error)))
            view.on("request", lambda request, said=said: request.url.startswith("file:") or said.append(request.url))
            view.goto(whole.as_uri())
            view.screenshot(path=whole.with_name(f"{width}-{scheme}.png"), full_page=width == 1440)
            assert said == []
            assert view.evaluate("document.documentElement.scrollWidth") <= width
            for name in PLOTS:
                box = view.locator(f"figure#{name} svg").bounding_box()
                assert box["width"] > 250 and box["height"] > 100, name
                # No text is smaller than a reader can read, or outside its figure.
                heights = view.eval_on_selector_all(
                    f"figure#{name} svg text", "all => all.map(text => text.getBoundingClientRect().height)"
                )
                assert len(heights) > 5 and min(heights) > 7, (name, sorted(heights)[:3])
            ink, paper = view.evaluate(
                "[getComputedStyle(document.querySelector('svg text')).fill, getComputedStyle(document.body)"
                ".backgroundColor]"
            )
            assert contrast(ink, paper) > 7, (ink, paper)
            check_sorting(view)
            view.close()
        browser.close()


def check_sorting(view) -> None:
    for table in view.locator("table.sortable").all():
        for column, head in enumerate(table.locator("th button").all()):
            numeric = table.locator("th").nth(column).get_attribute("data-kind") == "number"
            for up in (True, False):
                head.click()
                state = table.locator("th").nth(column).get_attribute("aria-sort")
                assert state == ("ascending" if up else "descending")
                cells = table.evaluate(
                    "(table, column) => [...table.tBodies[0].rows].map(row => row.cells[column].dataset.value)", column
                )
                filled = [cell for cell in cells if cell != ""]
                assert cells == filled + [""] * (len(cells) - len(filled))
                keys = [float(cell) for cell in filled] if numeric else filled
                assert keys == sorted(keys, reverse=not up)
            if column == 4:
                break


def contrast(one: str, other: str) -> float:
    """The contrast ratio of two CSS colours, as WCAG 2 defines it."""
    lights = []
    for colour in (one, other):
        parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        lights.append(0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2])
    return (max(lights) + 0.05) / (min(lights) + 0.05)


@pytest.mark.synth
def test_the_command_writes_three_files_and_uses_the_cache(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NOMUL_CACHE", str(tmp_path / "cache"))
    arguments = ["tint", "--all", "--target", "cells", "--size", "small", "--json", "-o", "out"]
    first = json.loads(CliRunner().invoke(command, arguments, catch_exceptions=False).stdout)
    assert (first["entries"], first["built"], first["from_cache"], first["failed"]) == (1, 2, 0, [])
    (entry,) = json.loads(Path("out/report.json").read_text())["entries"]
    assert 0 < entry["ratio"] < 1
    assert entry["figures"]["library"] == "generic"
    page_text = Path("out/index.html").read_text()
    assert "gate equivalents" in page_text and "estimate" in page_text
    before = Path("out/report.json").read_bytes()
    again = json.loads(CliRunner().invoke(command, arguments, catch_exceptions=False).stdout)
    assert again["from_cache"] == 2
    assert Path("out/report.json").read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "pattern"),
    [
        ([], r"ENGINE is missing; name one, or give --all"),
        (["tint"], r"--target is missing; name one, or give --all"),
        (["tint", "--target", "ecp5", "--size", "small"], r"--size, --workers and --scheduler go with --all only"),
        (["--all", "--pnr"], r"--all goes with none of --portable, --set, --pnr and --once; it chooses them itself"),
        (["--all", "gpu"], r"no engine is called 'gpu'; the engines are tlmm, .*"),
        (["--all", "--liberty", "none.lib"], r"liberty file none\.lib does not exist"),
    ],
)
def test_a_wrong_request_is_refused_in_one_sentence(arguments, pattern):
    with pytest.raises(InputError) as caught:
        CliRunner().invoke(command, arguments, catch_exceptions=False)
    assert re.fullmatch(pattern, str(caught.value)), caught.value
