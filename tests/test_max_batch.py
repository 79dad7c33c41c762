"""Does max_batch find the largest batch, by real failures to allocate, and stop at what is no lack of memory?"""

from __future__ import annotations

from pathlib import Path

import pytest

from exporter.interpreters import Interpreter
from exporter.world.workers import WORKERS, Launcher
from probes.api import Finding, NotApplicable, SubjectFailed
from probes.benchmarks import max_batch
from probes.testing import RecordedWorld
from tests.torch_side import CALM, WorkingWorld, inside, measured, run

MIB = 2**20
PICTURE = 32 * 64 * 64 * 4  # bytes of the toy's input, and of what comes out


@pytest.mark.torch
def test_a_real_search_ends_where_this_processor_may_allocate_no_more() -> None:
    some, more = (
        measured(run(max_batch.PROBE, WorkingWorld(), device="cpu", memory=memory * MIB))["pictures", "cpu"]
        for memory in (96, 192)
    )
    # input and output at least; what torch and the C library take for themselves is the same both times
    assert 0 < some < 96 * MIB / (2 * PICTURE)
    assert some < more < 192 * MIB / (2 * PICTURE)


@pytest.mark.torch
def test_the_search_is_exact_and_short() -> None:
    found = inside(
        "max_batch",
        """
found = []
for most in (1, 2, 3, 7, 8, 100):
    for limit in range(most + 3):
        tried = []
        largest = search(lambda batch: tried.append(batch) or batch <= limit, most)
        found.append([largest, min(limit, most), len(tried), len(set(tried)) == len(tried), max(tried) <= most])
print(json.dumps(found))
""",
    )
    assert all(largest == expected for largest, expected, *_ in found)
    assert all(tries <= 15 and once and within for _, _, tries, once, within in found)


@pytest.mark.torch
def test_only_a_lack_of_memory_ends_the_search_and_anything_else_the_worker(tmp_path: Path) -> None:
    source = (WORKERS / "max_batch.py").read_text(encoding="utf-8")
    kernel = "x = torch.randn(batch, channels"
    assert source.count(kernel) == 1
    for words, rule in (
        ("an illegal memory access was encountered", "worker-crashed"),
        ("CUDA out of memory", "worker-out-of-memory"),
    ):
        broken = source.replace(kernel, f'raise RuntimeError("{words}")\n                {kernel}')
        (tmp_path / "max_batch.py").write_text(broken, encoding="utf-8")
        world = WorkingWorld()
        world._launcher = Launcher(lambda: (Interpreter("here", str(CALM)),), folder=tmp_path)
        with pytest.raises(SubjectFailed, match=rule):
            run(max_batch.PROBE, world, device="cpu", memory=64 * MIB)


def test_what_is_left_allocated_is_a_finding() -> None:
    def told(left: float) -> list[str]:
        rows = [
            {"kind": "start", "data": {"device": "cuda"}},
            {"kind": "fact", "metric": "left_bytes", "value": left},
            {"kind": "end"},
        ]
        world = {"gpus": {"library": True, "gpus": [{"index": 0, "uuid": "GPU-1"}]}, "workers": {"max_batch": rows}}
        return [f.detail for f in run(max_batch.PROBE, RecordedWorld(world)) if isinstance(f, Finding)]

    assert told(0) == []
    assert told(3 * MIB) == ["3.0 MiB are still allocated"]


def test_a_processor_is_searched_only_within_what_was_allowed() -> None:
    with pytest.raises(NotApplicable, match="no_gpu"):
        run(max_batch.PROBE, RecordedWorld())
