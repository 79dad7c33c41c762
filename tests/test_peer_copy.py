"""Does peer_copy measure two cards, and does it take both of them?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from exporter import oneshot
from exporter.lanes import lanes_of
from exporter.machine import Machine
from exporter.result import Check
from exporter.world.token import Token
from probes.api import Conditions, Json, NotApplicable, Row, World, cards_of
from probes.benchmarks import peer_copy
from probes.testing import RecordedWorld
from tests.test_claims import holding
from tests.torch_side import TICK, WorkingWorld, at_our_clock, inside, measured, run

MIB = 2**20
TWO = {"library": True, "gpus": [{"index": 0, "uuid": "GPU-a"}, {"index": 1, "uuid": "GPU-b"}]}
BOTH = [("bytes_per_second", "to_peer", "cpu"), ("bytes_per_second", "from_peer", "cpu")]


def peers(**params: Json) -> peer_copy.PeerCopyParams:
    return peer_copy.PeerCopyParams.model_validate(params)


@pytest.mark.torch
def test_a_real_worker_copies_both_ways_and_each_byte_counts_once() -> None:
    values = measured(run(peer_copy.PROBE, WorkingWorld(), device="cpu", size="4MiB", seconds="50ms"))
    assert list(values) == BOTH
    assert at_our_clock("peer_copy", device="cpu", size=MIB) == dict.fromkeys(BOTH, MIB / TICK)


@pytest.mark.torch
def test_the_copies_go_from_the_one_device_to_the_other_and_back() -> None:
    # A device of torch that holds no memory stands in for the peer: what is copied is seen, not what arrives.
    ways = inside(
        "peer_copy",
        """
class Kit:
    def torch(self, device):
        class Cards:
            cuda = type("cuda", (), {"can_device_access_peer": staticmethod(lambda a, b: (a, b) == (0, 1))})
            rand = staticmethod(lambda *s, device: torch.rand(*s, device=names[device]))
            empty_like = staticmethod(lambda t, device: torch.empty_like(t, device=names[device]))
        return Cards, "cuda"
    def fitting(self, classes, cpu): return 4096
    def budget(self, params, cuda, cpu=2.0): return 1.0
    def progress(self, *_): pass
    def fact(self, metric, value, **labels): told.append([metric, value])
    def data(self, **data): told.append(data)
    def seconds(self, copy, budget):
        source, target = copy.__defaults__
        ways.append([source.device.type, target.device.type])
        return 2.0
names, ways, told = {"cuda:0": "cpu", "cuda:1": "meta"}, [], []
bench(Kit(), {})
print(json.dumps([ways, told]))
""",
    )
    assert ways == [
        [["cpu", "meta"], ["meta", "cpu"]],
        [{"peer_access": "direct"}, ["bytes_per_second", 2048.0], ["bytes_per_second", 2048.0]],
    ]


def test_the_worker_sees_exactly_the_two_cards_in_the_order_of_the_params() -> None:
    asked: list[str] = []

    class Seeing(RecordedWorld):
        def worker(self, name: str, params: Mapping[str, Json], *, gpu: str = "", **_: Any) -> Iterator[Row]:
            asked.append(gpu)
            yield Row("start", data={"device": "cuda", "uuid": gpu})
            yield Row("fact", metric="bytes_per_second", value=1.0, labels={"direction": "to_peer", "device": "cuda"})
            yield Row("end")

    for params in ({}, {"gpu": "1", "peer": "0"}, {"gpu": "GPU-b", "peer": "GPU-a"}):
        run(peer_copy.PROBE, Seeing({"gpus": TWO}), **params)
    assert asked == ["GPU-a,GPU-b", "GPU-b,GPU-a", "GPU-b,GPU-a"]


def test_how_the_cards_reach_each_other_is_a_condition_of_the_run() -> None:
    seen = [
        run(peer_copy.PROBE, RecordedWorld(example.world), **example.params) for example in peer_copy.PROBE.examples[:2]
    ]
    access = [
        f.values["peer_access"]
        for facts in seen
        for f in facts
        if isinstance(f, Conditions) and "peer_access" in f.values
    ]
    assert access == ["through the host's memory", "direct"]


@pytest.mark.parametrize(
    ("gpus", "params"),
    [
        ({}, {}),
        ({"library": True, "gpus": [{"index": 0, "uuid": "GPU-a"}]}, {}),
        (TWO, {"peer": "0"}),
        (TWO, {"gpu": "GPU-b"}),
    ],
)
def test_where_there_is_no_second_card_it_does_not_apply(gpus: Any, params: Any) -> None:
    with pytest.raises(NotApplicable, match=r"no_device|no_gpu"):
        run(peer_copy.PROBE, RecordedWorld({"gpus": gpus}), **params)


def test_a_run_holds_the_lanes_of_both_cards() -> None:
    check = Check("peer_copy", peer_copy.PROBE, peers(), 3600.0, 60.0)
    assert lanes_of(check) == {"gpu:0", "gpu:1"}
    assert lanes_of(check, {"0": "GPU-a", "1": "GPU-b"}.__getitem__) == {"gpu:GPU-a", "gpu:GPU-b"}
    two = RecordedWorld({"gpus": TWO})
    assert cards_of(two, peers()) == ("GPU-a", "GPU-b")
    assert cards_of(two, peers(device="cpu")) == ()


@pytest.mark.parametrize("taken", ["GPU-a", "GPU-b"])
def test_it_is_put_off_while_another_gpu_canary_measures_one_of_them(
    taken: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    doors = Machine().doors
    doors = type(doors)(doors.gpus, doors.host, doors.launcher, type(doors.places)(locks=str(tmp_path)))

    def two(world: World, params: Any) -> tuple[str, ...]:
        return cards_of(RecordedWorld({"gpus": TWO}), params)

    monkeypatch.setattr(oneshot, "cards_of", two)  # this machine has no two cards; the locks are real
    check = Check("peer_copy", peer_copy.PROBE, peers(), 3600.0, 60.0)
    with holding(taken, tmp_path):
        put_off = oneshot.execute(check, Token(5.0), doors, str)
        assert put_off.skip == ("deferred", "other_run")
    free = oneshot.execute(check, Token(5.0), doors, str)
    assert free.skip == ("not_applicable", "no_gpu") or free.skip == ("not_applicable", "no_device")
    with holding("GPU-a", tmp_path), holding("GPU-b", tmp_path):  # it let go of both
        pass
