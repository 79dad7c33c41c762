"""Does model_load write a real safetensors file, load what it wrote, and name the cache as it was?"""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest

from probes.api import Blind, Evidence, Finding, SubjectFailed
from probes.benchmarks import model_load
from probes.testing import RecordedWorld
from tests.torch_side import WorkingWorld, inside, measured, run

MIB = 2**20


def world(path: Path, free: int = 2**50) -> RecordedWorld:
    return WorkingWorld({"disks": {str(path): {"free": free, "total": 2**50}}})


@pytest.mark.torch
def test_a_real_model_is_written_loaded_and_gone(tmp_path: Path) -> None:
    facts = run(model_load.PROBE, world(tmp_path), path=str(tmp_path), size="64MiB", seconds="100ms", device="cpu")
    values = measured(facts)
    assert ("bytes_per_second", "warm", "cpu") in values
    assert {key[1] for key in values} <= {"cold", "asked", "warm"}
    assert all(1e6 < value < 1e12 for value in values.values())
    said = next(f.text for f in facts if isinstance(f, Evidence) and f.name == "loaded")
    assert said.startswith("2 tensors, 64 MiB, page cache ")
    assert ("kept" in said) == (len(values) == 1)
    assert list(tmp_path.iterdir()) == []


# A file of tiny tensors, and a kit whose clock goes on by a second whenever it is read.
SMALL = """
import io, os, pathlib, tempfile, types
names = bench.__globals__
names.update(TENSOR=(4, 8), BYTES=64)
file = os.open(tempfile.mkdtemp() + "/model.safetensors", os.O_RDWR | os.O_CREAT)
"""


@pytest.mark.torch
def test_the_file_is_what_the_format_says_and_every_bit_arrives() -> None:
    seen: Any = inside(
        "model_load",
        SMALL
        + """
write(file, 3, 0)
content = os.pread(file, 10**6, 0)
tensors = load(torch, file, "cpu")
print(json.dumps({
    "content": content.hex(),
    "loaded": {k: bytes(v.view(torch.uint8).flatten().tolist()).hex() for k, v in tensors.items()},
    "shapes": [list(v.shape) for v in tensors.values()],
    "dtypes": sorted({str(v.dtype) for v in tensors.values()}),
}))
""",
    )
    content = bytes.fromhex(seen["content"])
    length = struct.unpack("<Q", content[:8])[0]
    entries = json.loads(content[8 : 8 + length])
    assert length % 8 == 0
    assert len(content) == 8 + length + 3 * 64
    assert entries.pop("__metadata__") == {"format": "pt"}
    assert list(entries) == ["layers.0.weight", "layers.1.weight", "layers.2.weight"]
    for at, (name, entry) in enumerate(entries.items()):
        assert entry == {"dtype": "BF16", "shape": [4, 8], "data_offsets": [64 * at, 64 * (at + 1)]}
        assert bytes.fromhex(seen["loaded"][name]) == content[8 + length :][64 * at : 64 * (at + 1)]
    assert (seen["shapes"], seen["dtypes"]) == ([[4, 8]] * 3, ["torch.bfloat16"])


@pytest.mark.torch
def test_the_rate_is_the_tensors_bytes_by_the_seconds_of_one_load() -> None:
    said: Any = inside(
        "model_load",
        SMALL
        + """
class Kit:
    at, facts = 0, {}
    def torch(self, device): return torch, "cpu"
    def clock(self):
        self.at += 1
        return float(self.at)
    def budget(self, params, cuda, cpu=2.0): return 0.0
    def progress(self, *_): pass
    def data(self, **_): pass
    def dropped(self, file): return "dropped"
    def fact(self, metric, value, cache, device): self.facts[cache] = value
folder = tempfile.mkdtemp()
bench(Kit(), {"path": folder, "size": 320, "keep_free": 0})
print(json.dumps([Kit.facts, os.listdir(folder)]))
""",
    )
    assert said == [{"cold": 5 * 64 / 1.0, "warm": 5 * 64 / 1.0}, []]


def test_nothing_is_written_where_there_is_too_little_room(tmp_path: Path) -> None:
    facts = run(model_load.PROBE, world(tmp_path, 127 * MIB), path=str(tmp_path), size="32MiB", device="cpu")
    assert [f.rule for f in facts if isinstance(f, Finding)] == ["model-load-no-room"]
    assert measured(facts) == {}


@pytest.mark.torch
def test_it_stops_when_somebody_else_fills_the_disk(tmp_path: Path) -> None:
    with pytest.raises(SubjectFailed, match="somebody else fills it"):
        run(model_load.PROBE, world(tmp_path), path=str(tmp_path), size="32MiB", keep_free=2**62, device="cpu")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.torch
def test_a_directory_that_we_cannot_write_makes_us_blind(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    with pytest.raises(Blind, match="may not write there"):
        run(model_load.PROBE, world(gone), path=str(gone), size="32MiB", device="cpu")
