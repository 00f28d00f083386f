"""The report of every engine: what it builds, what it says, and its page in a real browser."""

import json
import re
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from nomul.commands.report import command
from nomul.cores.discover import matmul_cores
from nomul.errors import InputError
from nomul.jobs.pool import JobOutcome
from nomul.report.answers import answers, worse
from nomul.report.page import markdown, page
from nomul.report.plots import PLOTS
from nomul.report.sweep import ALL_TARGETS, SIZES, build_job, builds, figures, wanted

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
        outcomes[name] = JobOutcome(job, None if broken else value, "Yosys stopped: <no> LUTRAM" if broken else "")
    return figures(chosen, outcomes)


@pytest.fixture
def whole(tmp_path) -> Path:
    libraries = [tmp_path / "one.lib", tmp_path / "two.lib"]
    for file in libraries:
        file.write_text("")
    found = made_up(builds(list(matmul_cores()), SIZES, ALL_TARGETS, libraries))
    file = tmp_path / "index.html"
    file.write_text(page(found, "nomul report --all"))
    return file


def test_every_engine_size_and_target_is_built_beside_an_array_of_its_throughput():
    chosen = builds(list(matmul_cores()), SIZES, ALL_TARGETS, [])
    assert len(chosen) == len(matmul_cores()) * 4 * 6
    for build in chosen:
        assert build.baseline().config.macs_per_cycle >= build.config.macs_per_cycle
        if build.target != "cells" and build.config.macs_per_cycle >= 4:
            assert build.baseline().config.macs_per_cycle == build.config.macs_per_cycle
        assert build_job(build, None).arguments["config"]["target"] in ("portable", "xcup", "xc7", "ecp5", "cells")
    sizes = {(b.engine, b.size): b.config.macs_per_cycle for b in chosen if b.target == "xcup"}
    for engine in matmul_cores():
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


def measured(chosen, luts, clocks):
    """Figures whose LUTs and clocks are given by engine; a clock is that of place and route."""
    outcomes = {}
    for name, job in wanted(chosen, None).items():
        engine = job.arguments["engine"]
        value = {"lut": luts[engine], "ff": 1, "bram": 0, "uram": 0, "dsp": 0, "tools": ["Yosys 0.70"]}
        if job.function.endswith(":routed"):
            value = {"fmax_mhz": clocks[engine], "device": "a chip", "tools": ["nextpnr 0.9"]}
        outcomes[name] = JobOutcome(job, value)
    return figures(chosen, outcomes)


def test_an_engine_with_several_modes_has_a_row_for_each():
    found = made_up(builds(["boothflex", "boothflex_bs"], ["small"], ["ecp5"], []))
    assert [(f.build.engine, f.product, f.macs_per_cycle) for f in found] == [
        ("boothflex", "int8 x int8", 16), ("boothflex", "ternary x int8", 64),
        ("boothflex_bs", "ternary x int8", 16), ("boothflex_bs", "int2 x int8", 16), ("boothflex_bs", "int4 x int8", 8),
        ("boothflex_bs", "int6 x int8", 5), ("boothflex_bs", "int8 x int8", 4),
    ]  # fmt: skip
    assert found[0].ratio == pytest.approx(4 * found[1].ratio)
    assert (found[0].bits_per_weight, found[1].bits_per_weight) == (8, 2)
    assert found[2].utilization > found[6].utilization * 0.9  # four digits are four cycles of a quarter of the products


def test_what_takes_fp16_stands_beside_the_array_of_fp16():
    for build in builds(["mixpe_fp16", "fp16", "mixpe"], SIZES, ALL_TARGETS, []):
        assert build.baseline().engine == ("baseline" if build.engine == "mixpe" else "fp16")
    (figure,) = made_up(builds(["mixpe_fp16"], ["small"], ["xcup"], []))
    assert (figure.product, figure.baseline_build.config.rows) == ("int4 x fp16", 8)


def test_the_page_answers_first_which_core_is_best_on_a_device():
    chosen = builds(["tlmm", "mixpe", "baseline", "bwta"], ["small"], ["ecp5", "xc7"], [])
    luts = {"tlmm": 240, "mixpe": 2176, "baseline": 1600, "bwta": 630}
    clocks = {"tlmm": 200, "mixpe": 70, "baseline": 186, "bwta": 190}
    found = measured(chosen, luts, clocks)
    best = {(answer.library, answer.product): answer for answer in answers(found)}
    assert {key: answer.figure.build.engine for key, answer in best.items()} == {
        ("ecp5", "ternary x int8"): "tlmm", ("ecp5", "binary x ternary"): "tlmm", ("ecp5", "int4 x int8"): "baseline",
        ("xc7", "ternary x int8"): "tlmm", ("xc7", "binary x ternary"): "bwta", ("xc7", "int4 x int8"): "baseline",
    }  # fmt: skip
    top = best["ecp5", "ternary x int8"]
    assert (top.device, top.copies, top.products, top.clock_mhz) == ("ecp5: ulx3s", 348, 348 * 24, 200)
    assert top.rate == pytest.approx(348 * 24 * 0.2)
    assert top.over_plain == pytest.approx(348 * 24 * 200 / (52 * 16 * 186))
    assert best["xc7", "int4 x int8"].copies is None
    assert worse(found)[0] == (
        "On ecp5 mixpe takes more LUTs for a product than the plain INT8 array: 1.36 times for int4 x int8; "
        "its clock is 70 MHz, the array's 186."
    )
    text = page(found, "nomul report --all")
    assert 0 < text.index("The best core") < text.index("Worse than a plain array") < text.index("Everything that was")
    for each in (text.replace("&#x27;", "'"), markdown(found, "nomul")):
        assert worse(found)[0] in each


def test_a_subset_has_no_empty_cards():
    text = page(made_up(builds(["tint"], ["small"], ["xcup"], [])), "nomul report --all tint --target xcup")
    cards = re.findall(r"<figure id=\"([^\"]+)\">(.*?)</figure>", text, re.DOTALL)
    assert [name for name, _ in cards] == ["lut-per-mac", "bits-against-area"]
    assert all("<svg" in card for _, card in cards)


def test_markdown_has_a_row_for_each_figure():
    found = made_up(builds(["tint", "tlmm"], SIZES, ["ice40", "gowin"], []))
    text = markdown(found, "nomul report --all")
    assert len(re.findall(r"^\| (?:tint|tlmm) \|", text, re.MULTILINE)) == len(found) == 16
    assert "Yosys stopped: <no> LUTRAM" in text
    assert "An iCE40 has no memories of look-up tables" in text
    assert "does not fit icebreaker" in markdown(made_up(builds(["tint"], SIZES, ["ice40"], []), 400), "nomul")


@pytest.mark.slow
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
            check_headings(view)
            check_sorting(view)
            view.close()
        browser.close()


def check_headings(view) -> None:
    """Headings stay in sight, at the top of their table's window, while its rows pass."""
    tops = view.eval_on_selector_all(
        ".scroll",
        """all => all.map(box => {
            box.scrollTop = box.scrollHeight;
            const head = box.querySelector("th").getBoundingClientRect(), frame = box.getBoundingClientRect();
            const moved = box.scrollTop;
            box.scrollTop = 0;
            return [moved, head.top - frame.top, frame.height, innerHeight];
        })""",
    )
    assert any(moved > 100 for moved, *_ in tops)
    for moved, top, height, window in tops:
        assert abs(top) < 3 and height <= window, (moved, top)


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
