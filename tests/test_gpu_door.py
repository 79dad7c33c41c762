"""Does the GPU door tell what the cards tell, whatever the driver does? The real binding drives a stub libnvidia-ml."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.world import cards
from exporter.world.gpus import GpuDoor, Pace, Places
from exporter.world.pci import cards_on_the_bus, slot
from exporter.world.token import Token
from exporter.world.xids import KernelLog, Tally, parse
from probes.stops import Aborted, Deferred, SubjectFailed
from probes.world.gpus import Gpu, Gpus, PciGpu
from tests.nvml import (
    BUS_IDS,
    LIB_RM_VERSION_MISMATCH,
    MIB,
    UNKNOWN,
    UUIDS,
    Stub,
    build_stub,
)

UNINITIALIZED, FUNCTION_NOT_FOUND = 1, 13
SPARE = 5.0  # seconds that nothing here may take
KERNEL_LINE = (
    "6,1234,5678901,-;NVRM: Xid (PCI:0000:c6:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus.\n"
)


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_stub(tmp_path_factory.mktemp("nvml"))


@dataclass
class Machine:
    """Two stub cards, a PCI bus, a kernel log, and a door that hurries."""

    stub: Stub
    places: Places
    kernel_log: Path
    pace: Pace = field(default_factory=lambda: Pace(sample=0.02, deadline=1.0, reopen=0.0))
    door: GpuDoor | None = None

    def look(self, timeout: float = SPARE) -> Gpus:
        self.door = self.door or GpuDoor(self.places, self.pace)
        return self.door.look(Token(timeout))

    def until(self, what: Callable[[Gpus], bool]) -> Gpus:
        """The first look that shows it."""
        deadline = time.monotonic() + SPARE
        while not what(seen := self.look()):
            assert time.monotonic() < deadline, seen
            time.sleep(0.01)
        return seen


@pytest.fixture
def machine(library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    stub = Stub(library, f"{tmp_path.name}.answers")
    monkeypatch.setenv("GPU_CANARY_STUB_NVML", str(stub.file))
    kernel_log = tmp_path / "kmsg"
    kernel_log.write_text(KERNEL_LINE)  # an XID of before our time, which is not ours to count
    places = Places((str(library),), str(_bus(tmp_path / "sys")), str(_proc(tmp_path / "proc")), (str(kernel_log),))
    machine = Machine(stub, places, kernel_log)
    yield machine
    stub.set(dict.fromkeys(key for key in stub.values if ".hang." in key or key.startswith("hang.")))
    if machine.door:
        machine.door.close()


def _bus(sysfs: Path) -> Path:
    for address, kind, vendor, device, driver in (
        (BUS_IDS[0], "0x030000", "0x10de", "0x2684", "nvidia"),
        ("0000:01:00.1", "0x040300", "0x10de", "0x22ba", "snd_hda_intel"),  # the sound of the same card
        (BUS_IDS[1], "0x030200", "0x10de", "0x2684", "vfio-pci"),
        ("0000:00:02.0", "0x030000", "0x8086", "0xa780", "i915"),
        ("0000:41:00.0", "0x120000", "0x1002", "0x74a1", ""),
    ):
        directory = sysfs / "bus/pci/devices" / address
        directory.mkdir(parents=True)
        for name, value in (("class", kind), ("vendor", vendor), ("device", device)):
            (directory / name).write_text(value + "\n")
        if driver:
            (directory / "driver").symlink_to(f"../../../bus/pci/drivers/{driver}")
    return sysfs


def _proc(proc: Path, namespace: str = "pid:[4026531836]") -> Path:
    (proc / "self/ns").mkdir(parents=True)
    (proc / "self/ns/pid").symlink_to(namespace)
    return proc


# ---- what it tells ---------------------------------------------------------------------------------------------------


def test_without_a_library_nothing_is_imported_and_the_bus_is_still_told() -> None:
    code = (
        "import sys; from exporter.world.gpus import *; from exporter.world.token import Token\n"
        "door = GpuDoor(Places(libraries=('libno-such-thing.so.1',))); gpus = door.look(Token(5)); door.close()\n"
        "print(gpus.library, gpus.gpus, 'pynvml' in sys.modules)"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True, timeout=30) == "False () False\n"


@pytest.mark.nvml
def test_another_process_finds_the_library_by_its_name_as_it_would_the_real_one(library: Path, tmp_path: Path) -> None:
    stub = Stub(library, "by-name")
    code = (
        "import json; from exporter.world.gpus import *; from exporter.world.token import Token\n"
        "door = GpuDoor(); gpus = door.look(Token(10)); door.close(); print(json.dumps([g.uuid for g in gpus.gpus]))"
    )
    told = subprocess.check_output([sys.executable, "-c", code], env={**os.environ, **stub.env()}, timeout=30)
    assert json.loads(told) == list(UUIDS)


@pytest.mark.nvml
def test_two_cards_are_told_in_base_units(machine: Machine) -> None:
    machine.stub.set(
        {"gpu0.utilization": 97, "gpu0.throttle": 0x44, "gpu0.remap_pending": 1, "gpu0.recovery_action": 4}
    )
    gpus = machine.look()
    assert (gpus.library, gpus.driver, gpus.cuda, gpus.error, gpus.kernel_log) == (True, "570.86.15", "12.8", "", True)
    assert [(gpu.index, gpu.uuid, gpu.pci_bus_id) for gpu in gpus.gpus] == [
        (0, UUIDS[0], BUS_IDS[0]),
        (1, UUIDS[1], BUS_IDS[1]),
    ]
    card = gpus.gpus[0]
    assert (card.utilization, card.power, card.power_limit, card.energy) == (0.97, 32.5, 450.0, 123456.0)
    assert (card.memory_total, card.memory_used, card.memory_free) == (24564 * MIB, 512 * MIB, 23706 * MIB)
    assert (card.temperature, card.temperature_margin) == (41.0, 49.0)
    assert card.temperature_limits == {"shutdown": 100.0, "slowdown": 97.0, "gpu_max": 90.0}
    assert (card.clocks["sm"], card.clocks_max["memory"]) == (210e6, 10501e6)
    assert {reason for reason, active in (card.throttle or {}).items() if active} == {"power_cap", "hw_thermal"}
    assert (card.pcie_generation, card.pcie_generation_max, card.pcie_width, card.pcie_width_max) == (1, 4, 16, 16)
    assert (card.ecc, card.ecc_volatile["uncorrected"]) == ({"corrected": 3, "uncorrected": 0}, 0)
    assert card.remapped_rows == {"corrected": 0, "uncorrected": 0, "pending": 1, "failure": 0}
    assert (card.recovery_action, card.mig, card.processes, card.unreadable) == ("drain_and_reset", False, (), {})


@pytest.mark.nvml
def test_what_a_card_does_not_support_is_absent_and_is_not_asked_every_time(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.stub.set({"gpu0.power": None, "gpu0.temperature_margin": None, "gpu0.memory_reserved": None})
    card = machine.look().gpus[0]
    assert (card.power, card.temperature_margin, card.memory_reserved) == (None, None, None)
    assert card.memory_used == 512 * MIB  # the older of the two questions is answered
    machine.stub.set({"gpu0.power": 50_000})
    assert machine.look().gpus[0].power is None
    monkeypatch.setattr(cards.time, "monotonic", lambda later=time.monotonic: later() + cards.ASK_AGAIN)
    with suppress(SubjectFailed):  # a call under way while the clock jumps seems to hang
        machine.look()
    assert machine.until(lambda seen: seen.gpus[0].power == 50.0)


@pytest.mark.nvml
def test_a_driver_that_calls_the_throttle_reasons_by_their_old_name_is_understood(machine: Machine) -> None:
    machine.stub.set(
        {"gpu0.err.nvmlDeviceGetCurrentClocksEventReasons": FUNCTION_NOT_FOUND, "gpu0.throttle_before_535": 8}
    )
    throttle = machine.look().gpus[0].throttle
    assert throttle is not None
    assert [reason for reason, active in throttle.items() if active] == ["hw_slowdown"]


@pytest.mark.nvml
def test_a_driver_that_cannot_list_processes_yet_is_told_all_the_same(machine: Machine) -> None:
    names = ("nvmlDeviceGetComputeRunningProcesses_v3", "nvmlDeviceGetGraphicsRunningProcesses_v3")  # since 510
    machine.stub.set({f"gpu0.err.{name}": FUNCTION_NOT_FOUND for name in names})
    card = machine.look().gpus[0]
    assert (card.processes, card.temperature, card.unreadable) == (None, 41.0, {})


@pytest.mark.nvml
def test_a_divided_card_is_told_without_its_utilisation(machine: Machine) -> None:
    machine.stub.set({"gpu0.mig": 1, "gpu0.utilization": None})
    card = machine.look().gpus[0]
    assert (card.mig, card.utilization, card.memory_used, card.temperature) == (True, None, 512 * MIB, 41.0)


@pytest.mark.nvml
def test_an_answer_that_fails_is_named_and_junk_is_not_believed(machine: Machine) -> None:
    machine.stub.set(
        {
            "gpu0.err.nvmlDeviceGetPowerUsage": UNKNOWN,
            "gpu0.name": "\udcff\udcfe",
            "gpu0.clock_sm": 0xFFFFFFFF,
            "gpu0.recovery_action": 99,
            "gpu0.pci": "nonsense",
        }
    )
    card = machine.look().gpus[0]
    assert card.unreadable == {"nvmlDeviceGetPowerUsage": "unknown"}
    assert (card.name, card.power, "sm" in card.clocks, card.recovery_action) == ("", None, False, "action_99")
    assert card.pci_bus_id == "nonsense"


@pytest.mark.nvml
def test_a_peak_between_two_looks_is_not_missed(machine: Machine) -> None:
    machine.pace = replace(machine.pace, sample=0.005)
    machine.look()
    door = machine.door
    assert door is not None
    machine.stub.set({"gpu0.utilization": 88, "gpu0.memory_used": 9000 * MIB, "gpu0.power": 440_000})
    _eventually(lambda: "88%" in door.idle(UUIDS[0], 0).reason)  # the sampler saw it, and nobody looked
    machine.stub.set({"gpu0.utilization": 0, "gpu0.memory_used": 512 * MIB, "gpu0.power": 30_000})
    card = machine.look().gpus[0]
    assert (card.utilization, card.memory_used, card.power) == (0.0, 512 * MIB, 30.0)
    assert card.peaks == {"utilization": 0.88, "memory_used": 9000 * MIB, "power": 440.0, "temperature": 41.0}


@pytest.mark.nvml
def test_processes_are_named_where_their_pids_are_ours_to_see(machine: Machine, tmp_path: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    for pid in (child.pid, os.getpid()):
        (tmp_path / "proc" / str(pid)).symlink_to(f"/proc/{pid}")
    stranger = tmp_path / "proc/77"
    stranger.mkdir()
    (stranger / "comm").write_text("Xorg\n")
    (stranger / "stat").write_text("77 (Xorg) ) (S 1 77 77 0")
    machine.stub.set(
        {"gpu0.processes": f"compute:{child.pid}:1048576 graphics:77:0 compute:999999:{0xFFFFFFFFFFFFFFFF}"}
    )
    try:
        ours, vanished, xorg = machine.look().gpus[0].processes or ()
    finally:
        child.communicate()
    assert (ours.ours, ours.kind, ours.memory, ours.name != "") == (True, "compute", 1048576, True)
    assert (vanished.name, vanished.memory, vanished.ours) == ("", None, False)
    assert (xorg.name, xorg.kind, xorg.ours) == ("Xorg", "graphics", False)


@pytest.mark.nvml
def test_pids_of_a_foreign_namespace_name_nobody(machine: Machine, tmp_path: Path) -> None:
    foreign = _proc(tmp_path / "container", "pid:[4026532001]")
    (foreign / str(os.getpid())).symlink_to(f"/proc/{os.getpid()}")  # the same number, and somebody else
    machine.places = replace(machine.places, proc=str(foreign))
    machine.stub.set({"gpu0.processes": f"compute:{os.getpid()}:1048576"})
    (process,) = machine.look().gpus[0].processes or ()
    assert (process.name, process.ours) == ("", False)


@pytest.mark.nvml
def test_processes_that_cannot_be_listed_are_not_none(machine: Machine) -> None:
    machine.stub.set({"gpu0.processes": None})
    assert [gpu.processes for gpu in machine.look().gpus] == [None, ()]


# ---- when the driver fails -------------------------------------------------------------------------------------------


@pytest.mark.nvml
def test_a_lost_card_keeps_the_other_alive_and_comes_back(machine: Machine) -> None:
    machine.look()
    machine.stub.set({"gpu1.lost": 1})
    well, lost = machine.look().gpus
    assert (well.error, well.temperature, lost.error, lost.uuid, lost.temperature) == (
        "",
        41.0,
        "gpu_is_lost",
        UUIDS[1],
        None,
    )
    machine.stub.set({"gpu1.lost": None})
    assert [gpu.error for gpu in machine.until(lambda gpus: not gpus.gpus[1].error).gpus] == ["", ""]


@pytest.mark.nvml
def test_a_card_that_nvml_lists_no_more_stays_lost_under_its_name(machine: Machine) -> None:
    machine.look()
    machine.stub.set({"gpu1.lost": 1})
    machine.look()
    machine.stub.set({"count": 1})
    for _ in range(3):  # each of these opens the session anew
        assert [(gpu.uuid, gpu.error) for gpu in machine.look().gpus] == [(UUIDS[0], ""), (UUIDS[1], "gpu_is_lost")]


@pytest.mark.nvml
def test_a_card_that_was_lost_before_we_came_is_told_without_a_name(machine: Machine) -> None:
    machine.stub.set({"gpu0.lost": 1})
    assert [(gpu.index, gpu.uuid, gpu.error) for gpu in machine.look().gpus] == [
        (0, "", "gpu_is_lost"),
        (1, UUIDS[1], ""),
    ]


@pytest.mark.nvml
def test_a_call_that_hangs_is_a_finding_at_once_and_costs_one_thread(machine: Machine) -> None:
    machine.look()
    threads = threading.active_count()
    machine.stub.set({"gpu1.hang.nvmlDeviceGetUtilizationRates": 60})
    for patience in (machine.pace.deadline + 5.0, 0.95, 0.95):
        started = time.monotonic()
        with pytest.raises(SubjectFailed) as stop:
            machine.look()
        assert time.monotonic() - started < patience
    assert stop.value.finding.rule == "gpu-driver-wedged"
    assert stop.value.finding.subject == UUIDS[1]
    assert "nvmlDeviceGetUtilizationRates of card 1 has not returned for" in stop.value.finding.detail
    assert machine.door is not None
    assert machine.door.idle(UUIDS[0], 0).reason == "NVML does not answer"
    assert threading.active_count() <= threads
    machine.stub.set({"gpu1.hang.nvmlDeviceGetUtilizationRates": None})
    deadline = time.monotonic() + SPARE
    while time.monotonic() < deadline:
        try:
            assert [gpu.error for gpu in machine.look().gpus] == ["", ""]
            break
        except SubjectFailed:
            time.sleep(0.01)
    else:
        pytest.fail("it did not recover")


@pytest.mark.nvml
def test_the_xid_behind_a_hang_is_told_with_it(machine: Machine) -> None:
    machine.look()
    machine.stub.set({"gpu1.hang.nvmlDeviceGetUtilizationRates": 60})
    with machine.kernel_log.open("a") as log:
        log.write(KERNEL_LINE.replace(" 79,", " 119,"))
    with pytest.raises(SubjectFailed, match="XID 119 on 0000:c6:00"):
        machine.look()


@pytest.mark.nvml
def test_the_drivers_delay_is_the_drivers_fault_also_under_a_short_timeout(machine: Machine) -> None:
    machine.look()
    machine.stub.set({"gpu1.hang.nvmlDeviceGetUtilizationRates": 60})
    with pytest.raises(SubjectFailed):
        machine.look(timeout=0.5)


@pytest.mark.nvml
def test_a_run_that_is_cancelled_does_not_wait_for_the_driver(machine: Machine) -> None:
    machine.look()
    machine.stub.set({"gpu1.hang.nvmlDeviceGetUtilizationRates": 60})
    token = Token(SPARE)
    threading.Timer(0.1, token.cancel, ("shutdown",)).start()
    started = time.monotonic()
    assert machine.door is not None
    with pytest.raises(Aborted):
        machine.door.look(token)
    assert time.monotonic() - started < machine.pace.deadline


@pytest.mark.nvml
def test_a_driver_that_takes_long_to_start_is_waited_for_and_one_that_never_does_is_wedged(machine: Machine) -> None:
    machine.pace = Pace(sample=0.02, deadline=0.1, start=0.4)
    machine.stub.set({"hang.nvmlInitWithFlags": 60})
    with pytest.raises(Deferred, match="preparing"):
        machine.look()
    time.sleep(0.4)
    with pytest.raises(SubjectFailed, match="nvmlInit has not returned"):
        machine.look()


@pytest.mark.nvml
def test_a_driver_that_was_reloaded_is_opened_again_at_once(machine: Machine) -> None:
    machine.look()
    machine.stub.set(
        {"gpu0.err.nvmlDeviceGetTemperature": UNINITIALIZED, "err.nvmlInitWithFlags": LIB_RM_VERSION_MISMATCH}
    )
    gpus = machine.look()
    assert (gpus.library, gpus.error, gpus.gpus) == (True, "lib_rm_version_mismatch", ())
    machine.stub.set({"gpu0.err.nvmlDeviceGetTemperature": None, "err.nvmlInitWithFlags": None})
    assert [gpu.error for gpu in machine.look().gpus] == ["", ""]


@pytest.mark.nvml
def test_our_own_fault_is_told_to_who_looks_and_the_thread_goes_on(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.look()
    with monkeypatch.context() as broken:
        broken.setattr(cards.Card, "read", lambda self: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            machine.look()
    assert len(machine.look().gpus) == 2


@pytest.mark.nvml
def test_closing_ends_the_thread(machine: Machine) -> None:
    before = threading.active_count()
    machine.look()
    assert threading.active_count() == before + 1
    assert machine.door is not None
    machine.door.close()
    assert threading.active_count() == before


# ---- XIDs ------------------------------------------------------------------------------------------------------------


@pytest.mark.nvml
def test_an_event_of_both_sources_is_counted_once(machine: Machine) -> None:
    assert machine.look().gpus[1].xids == {}
    before = time.time()
    for _ in range(2):
        machine.stub.raise_xid(1, 79)
        with machine.kernel_log.open("a") as log:
            log.write(KERNEL_LINE)
    machine.stub.raise_xid(1, 31)  # NVML tells in order: when this one is there, so are the others
    other, card = machine.until(lambda gpus: 31 in gpus.gpus[1].xids).gpus
    assert before <= card.xids[79].last <= time.time()
    assert (card.xids[79].count, other.xids) == (2, {})


@pytest.mark.nvml
def test_one_source_is_enough(machine: Machine) -> None:
    machine.places = replace(machine.places, kernel_logs=("/nonexistent",))
    assert machine.look().kernel_log is False
    machine.stub.raise_xid(0, 31)
    machine.until(lambda gpus: 31 in gpus.gpus[0].xids)


@pytest.mark.parametrize(
    ("line", "found"),
    [
        (
            "6,1234,5678901,-;NVRM: Xid (PCI:0000:c6:00): 79, pid='<unknown>', name=<unknown>, GPU has",
            ("0000:c6:00", 79),
        ),
        ("4,1,2,-,caller=T1;NVRM: Xid (PCI:0000:01:00): 31, pid=1234, name=python3", ("0000:01:00", 31)),
        ("3,1,2,-;NVRM: Xid (PCI:0001:C6:00 GPU-I:05): 94, pid=1", ("0001:c6:00", 94)),
        ("6,1,2,-;NVRM: Xid (0000:03:00): 13, 0008 00000000", ("0000:03:00", 13)),
        ("Nov 21 07:28:08 box kernel: [ 123.456789] NVRM: Xid (PCI:0000:c6:00): 48", ("0000:c6:00", 48)),
        ("2025-11-21T07:28:08.1+00:00 box kernel: NVRM: Xid (PCI:0000:c6:00): 48, x", ("0000:c6:00", 48)),
        ("14,1,2,-;NVRM: Xid (PCI:0000:c6:00): 79, written to /dev/kmsg by a user", None),
        ("Nov 21 07:28:08 box app[1]: NVRM: Xid (PCI:0000:c6:00): 79, said a program", None),
        ("6,1,2,-;usb 1-1: Product: NVRM: Xid (PCI:0000:c6:00): 79, says a USB stick", None),
        ("6,1,2,-;NVRM: Xid (PCI:0000:c6:00): 99999999999999999999, x", None),
        ("6,1,2,-;NVRM: Xid (PCI:0000:c6:00): -79, x", None),
        ("6,1,2,-;NVRM: Xid (PCI:0000:c6:00): 79x", None),
        ("6,1,2,-;NVRM: Xid (PCI:zz): 79,", None),
        ("6,1,2,-;NVRM: Xid (PCI:0000:c6:00" + "0" * 9000, None),
        ("", None),
        ("\x00\udcff", None),
    ],
)
def test_only_the_kernels_own_xid_lines_are_believed(line: str, found: tuple[str, int] | None) -> None:
    assert parse(line) == found


@given(st.text() | st.from_regex(r"[0-9],[a ]{0,90};NVRM: Xid \(PCI:[0-9a-f:]{10}.*", fullmatch=True))
def test_no_line_of_a_log_breaks_the_parser(line: str) -> None:
    found = parse(line)
    assert found is None or (0 <= found[1] <= 999 and found[0] == slot(found[0]))


def test_a_rotated_and_a_truncated_log_are_followed_and_half_a_line_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "kern.log"
    path.write_text("")
    log = KernelLog(("/nonexistent", str(path)))
    line = "Nov 21 07:28:08 box kernel: NVRM: Xid (PCI:0000:c6:00): {}, x\n"
    with path.open("a") as file:
        file.write(line.format(31)[:40])
        file.flush()
        assert list(log.xids()) == []
        file.write(line.format(31)[40:])
    assert list(log.xids()) == [("0000:c6:00", 31)]
    path.rename(tmp_path / "kern.log.1")
    assert list(log.xids()) == []
    path.write_text(line.format(48))
    assert list(log.xids()) == [("0000:c6:00", 48)]
    path.write_text("")
    assert list(log.xids()) == []
    path.write_text(line.format(79))
    assert list(log.xids()) == [("0000:c6:00", 79)]
    log.close()
    assert not log.readable


def test_a_log_without_line_ends_is_not_kept_in_memory(tmp_path: Path) -> None:
    path = tmp_path / "kmsg"
    path.write_text("")
    log = KernelLog((str(path),))
    path.write_text("x" * 1_000_000)
    assert list(log.xids()) == []
    assert len(log._rest) <= 8192
    log.close()


def test_a_tally_tells_the_latest_xid_since_a_time() -> None:
    tally = Tally()
    tally.add("kernel", "0000:c6:00", 31, 100.0)
    tally.add("nvml", "0000:01:00", 79, 200.0)
    assert (tally.last(since=150.0), tally.last(since=250.0)) == ("XID 79 on 0000:01:00", "")


# ---- the bus and the idle gate ---------------------------------------------------------------------------------------


def test_the_bus_tells_cards_and_nothing_else(tmp_path: Path) -> None:
    sysfs = _bus(tmp_path)
    function = sysfs / "bus/pci/devices/0000:c6:00.4"
    function.mkdir()
    for name, value in (("class", "0x030200"), ("vendor", "0x10de"), ("device", "0x2684")):
        (function / name).write_text(value)
    (function / "physfn").symlink_to("../0000:c6:00.0")
    (sysfs / "bus/pci/devices/0000:ff:00.0").mkdir()
    (sysfs / "bus/pci/devices/0000:ff:00.0/class").write_bytes(b"\xff\x00junk")
    assert cards_on_the_bus(str(sysfs)) == (
        PciGpu("0000:00:02.0", "intel", "8086:a780", "i915"),
        PciGpu("0000:01:00.0", "nvidia", "10de:2684", "nvidia"),
        PciGpu("0000:41:00.0", "amd", "1002:74a1", ""),
        PciGpu("0000:c6:00.0", "nvidia", "10de:2684", "vfio-pci"),
    )
    assert cards_on_the_bus(str(tmp_path / "nowhere")) is None


def test_a_card_that_a_virtual_machine_has_is_not_ours() -> None:
    cards = (PciGpu("a", "nvidia", driver="vfio-pci"), PciGpu("b", "nvidia", driver="nvidia"), PciGpu("c", "amd"))
    assert [card.address for card in Gpus(pci=cards).nvidia] == ["b"]


@pytest.mark.nvml
def test_a_card_is_idle_only_after_it_was_watched_being_idle(machine: Machine) -> None:
    machine.pace = replace(machine.pace, sample=0.005)
    machine.look()
    door = machine.door
    assert door is not None
    assert "not been watched" in door.idle(UUIDS[0], 0).reason
    assert door.idle("GPU-of-nobody", 0) == door.idle("GPU-of-nobody", 10**15)
    _eventually(lambda: door.idle(UUIDS[0], 8192 * MIB).idle)
    assert not door.idle(UUIDS[0], 0).weak
    assert "MiB are free, 999999 MiB are needed" in door.idle(UUIDS[0], 999999 * MIB).reason
    machine.stub.set({"gpu0.utilization": 43, "gpu1.utilization": None, "gpu1.processes": None})
    _eventually(lambda: door.idle(UUIDS[0], 0).reason.startswith("it was 43% busy"))
    machine.look()
    _eventually(lambda: door.idle(UUIDS[1], 0).reason == "it does not tell its utilisation")
    assert door.idle(UUIDS[1], 0).weak


def test_a_door_that_never_looked_calls_nothing_idle() -> None:
    assert GpuDoor().idle(UUIDS[0], 0).idle is False


def _eventually(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SPARE
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_gpu_without_a_total_has_no_ratio() -> None:
    assert Gpu(0, "", memory_used=5, memory_total=0).memory_used_ratio is None
