"""What `nomul build` does for a machine: Verilog and image, simulation, the model of its cycles, and synthesis."""

from pathlib import Path
from typing import Any

from nomul.commands.build_core import TAKEN, routed
from nomul.commands.build_design import Design
from nomul.commands.build_proof import Claim, not_run
from nomul.commands.build_steps import MachineSteps
from nomul.errors import MismatchError

__all__ = ["build_machine"]


def build_machine(design: Design, folder: Path) -> tuple[list[Claim], dict[str, Any]]:
    """Fill a folder with a machine; return what is known of it, and what the steps said, by step."""
    steps = MachineSteps(design)
    said: dict[str, Any] = {}
    with design.blaming("fields"):
        said["verilog"] = steps.verilog(folder)
    claims = []
    prompt: int | None = None
    if why := _not_simulated(design):
        if design.given("check", "simulate") and design.get("check", "simulate"):
            raise design.error(f"check.simulate is true, but {why}", "check", "simulate")
        claims.append(not_run("values", why))
    else:
        prompt = max(2, len(design.get("check", "prompt")))
        try:
            with design.blaming("check"):
                said["simulation"] = steps.simulate()
        except MismatchError as error:
            claims.append(Claim("values", str(error), "simulated", None, False, "verilator"))
        else:
            tokens = said["simulation"]["tokens"]
            text = f"every value of {tokens:,} tokens equals the integer model's"
            claims.append(Claim("values", text, "simulated", tokens, True, "verilator"))
    with design.blaming("report"):
        synthesise = design.get("report", "synthesise")
        said["report"] = steps.report(synthesise=synthesise, prompt=prompt)
    if "simulation" in said:
        claims.append(_cycles(said["simulation"]["prefill_cycles"], said["report"], design))
    claims += _speed(said["report"])
    if synthesise:
        total = said["report"]["resources"]["total"]
        by = said["report"]["tool"]
        claims += [
            Claim(name, f"{total[key]:,g}", "synthesised", total[key], None, by)
            for key, name in TAKEN.items()
            if total[key]
        ]
        claims += routed(said["report"]["fmax_mhz"], design)
    else:
        claims.append(not_run("cost", "report.synthesise = false"))
    return claims, said


def _not_simulated(design: Design) -> str:
    """Return why a machine is not simulated; nothing if it is."""
    if not design.get("check", "simulate"):
        return "check.simulate = false"
    if design.get("weights", "shape"):
        return "only a machine with a checkpoint is simulated on a text"
    for field in ("memory", "queries"):
        if design.get("fields", field) != design.schema["properties"]["fields"]["properties"][field]["default"]:
            return f"only a machine with fields.{field} = its default is simulated on a text"
    return ""


def _cycles(taken: int, report: dict[str, Any], design: Design) -> Claim:
    """Return whether the cycles of the prompt are what the model says, within the error that it is known to have."""
    model, error = report["prefill"]["cycles"], report["model_error"]
    if report["prefill"]["prompt"] != len(design.get("check", "prompt")):
        return Claim("cycles, prompt", f"{taken:,}", "simulated", taken, None, "verilator")
    close = abs(taken - model) <= error * taken
    text = f"{taken:,}; the model says {model:,}, and is within {100 * error:g} %"
    return Claim("cycles, prompt", text, "simulated", taken, close, "verilator")


def _speed(report: dict[str, Any]) -> list[Claim]:
    """Return the tokens a second at the clock that is known or assumed."""
    at = f"at {report['clock_mhz']:g} MHz"
    return [
        Claim(f"tokens/s, {name}", f"{rate:,.1f} {at}", "modelled", rate)
        for name, rate in ((name, report[name]["tokens_per_second"]) for name in ("prefill", "decode"))
    ]
