"""What does torch see from inside the Python that uses it, and does a kernel really run?"""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import BaseModel, Field

from probes.api import (
    Blind,
    Conditions,
    Deferred,
    Evidence,
    Fact,
    Finding,
    Json,
    Metric,
    Needs,
    Params,
    Probe,
    SubjectFailed,
    World,
    recorded,
)
from probes.environment import torch_import_rules as rules
from probes.environment.torch_import_rules import install, version
from probes.world.gpus import Gpus

VERSION = r"^(\d{1,6}(\.\d{1,6}){0,3})?$"
NO_KERNEL = ("no kernel image", "unsupported toolchain", "provided PTX")  # CUDA's words for a build of another age


class TorchImportParams(Params):
    interpreter: str = Field("auto", description="Python to look into: a name of `interpreters:`, a path, or `auto`.")
    minimum_torch: str = Field("", pattern=VERSION, description="Oldest torch that will do, like 2.4; empty: any.")
    minimum_cuda: str = Field("", pattern=VERSION, description="Oldest CUDA torch may be built with; empty: any.")
    devices: int = Field(1, ge=0, description="Cards torch must see where this machine has any.")


class Card(BaseModel):
    name: str
    capability: tuple[int, int]


class Report(BaseModel):
    """What the worker says; ValidationError when it does not say all of it."""

    python: str
    executable: str
    torch: str
    cuda: str
    rocm: str
    import_seconds: float
    devices: list[Card]
    error: str
    kernels: dict[str, str]


VERSIONS = Metric("versions_info", "What torch is and was built with.", ("torch", "cuda", "python"), "info")
DEVICES = Metric("devices", "Cards that torch sees.")
IMPORT = Metric("import_seconds", "How long the import of torch took.")


def run(params: TorchImportParams, world: World) -> Iterator[Fact]:
    seen: dict[str, Json] = {}
    try:
        for row in world.worker("torch_import", {}, interpreter=params.interpreter):
            if row.kind in ("start", "data"):
                seen.update(row.data)
    except Blind as stop:
        if stop.reason != "no_torch" or params.interpreter == "auto":
            raise
        yield rules.IMPORT_FAILED(f"torch is not installed: {stop.detail}", subject=params.interpreter)
        return
    except SubjectFailed as stop:
        if stop.finding.rule == "worker-out-of-memory" and "devices" in seen:
            raise Deferred("gpu_busy", stop.finding.detail) from stop  # somebody fills the card: ask again later
        if stop.finding.rule != "worker-crashed":
            raise
        yield Evidence("worker log", stop.evidence)
        if "devices" not in seen:
            yield rules.IMPORT_FAILED(stop.finding.detail, subject=params.interpreter)
            return
        seen["kernels"] = {"": stop.finding.detail}
    report = Report.model_validate(seen)
    yield Conditions({"python": report.python, "torch": report.torch, "cuda": report.cuda or report.rocm})
    yield VERSIONS(torch=report.torch, cuda=report.cuda or report.rocm, python=report.python)
    yield DEVICES(len(report.devices))
    yield IMPORT(report.import_seconds)
    yield from _judge(params, report, world.gpus())


def _judge(params: TorchImportParams, report: Report, gpus: Gpus) -> Iterator[Finding]:
    subject = params.interpreter
    cards = len(gpus.gpus) or len(gpus.nvidia)
    if cards and len(report.devices) < min(params.devices, cards):
        yield _unseen(report, gpus, cards, subject)
    failed = {device: error for device, error in report.kernels.items() if error}
    unfit = next((device for device, error in failed.items() if any(words in error for words in NO_KERNEL)), None)
    if unfit is not None:
        capability = _capability(report, unfit)
        command = install(report.executable, gpus.cuda, capability)
        card = "this card" if not capability else "a card of compute capability {}.{}".format(*capability)
        yield rules.DRIVER_MISMATCH(f"torch {report.torch} has no kernels for {card}: {command}", subject)
    elif failed:
        yield rules.KERNEL_FAILED("; ".join(f"{k or 'torch'}: {v}" for k, v in failed.items()), subject)
    yield from _age(params, report, gpus)


def _unseen(report: Report, gpus: Gpus, cards: int, subject: str) -> Finding:
    command = install(report.executable, gpus.cuda) if gpus.cuda else "bring the driver to life first, `nvidia-smi`"
    if not (report.cuda or report.rocm):
        return rules.CUDA_UNAVAILABLE(f"torch {report.torch} was built without CUDA: {command}", subject)
    if gpus.cuda and report.cuda and version(report.cuda)[0] > version(gpus.cuda)[0]:
        detail = f"torch is built for CUDA {report.cuda}, driver {gpus.driver} allows {gpus.cuda}: {command}"
        return rules.DRIVER_MISMATCH(detail, subject)
    detail = f"torch sees {len(report.devices)} of {cards} cards" + (f"; {report.error}" if report.error else "")
    return rules.CUDA_UNAVAILABLE(detail, subject)


def _age(params: TorchImportParams, report: Report, gpus: Gpus) -> Iterator[Finding]:
    wanted = (("torch", report.torch, params.minimum_torch), ("torch's CUDA", report.cuda, params.minimum_cuda))
    old = [
        f"{name} {has or '(none)'} is older than {least}"
        for name, has, least in wanted
        if version(has) < version(least)
    ]
    if old:
        command = (
            install(report.executable, gpus.cuda) if gpus.cuda else f"`{report.executable} -m pip install -U torch`"
        )
        yield rules.TOO_OLD(f"{' and '.join(old)}: {command}", params.interpreter)


def _capability(report: Report, device: str) -> tuple[int, ...]:
    index = device.partition(":")[2]
    return report.devices[int(index)].capability if index.isdigit() and int(index) < len(report.devices) else ()


PROBE = Probe(
    "torch_import",
    TorchImportParams,
    run,
    metrics=(VERSIONS, DEVICES, IMPORT),
    rules=rules.RULES,
    every="1h",
    timeout="3m",
    needs=Needs(lane="worker"),
    examples=recorded(__file__),
)
