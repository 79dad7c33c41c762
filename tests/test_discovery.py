"""Does a machine without a config get the one that suits it? Recorded machines, and real servers on free ports."""

from __future__ import annotations

import json
import os
import threading
import time
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from exporter import registry as probe_registry
from exporter.config import configured, load
from exporter.config.gate import Gate
from exporter.interpreters import Interpreter
from exporter.machine import Machine as RealMachine
from exporter.machine import survey as survey_module
from exporter.machine.discovery import benchmarked, discover
from exporter.machine.starter import starter
from exporter.machine.suite import ANYWHERE, OF_A_CARD
from exporter.machine.survey import SERVERS, Survey, look_around
from exporter.result import Check
from exporter.world import http
from exporter.world.token import Token
from probes import BUILTIN
from probes.api import Aborted, Json, SubjectFailed
from probes.rules import GPU_DRIVER_WEDGED
from probes.testing import RecordedWorld
from probes.world.files import Stat
from probes.world.gpus import Gpus
from probes.world.http import Request, Response

HOME = Path("/home/me")
COMFYUI = Interpreter("comfyui", "/home/me/ComfyUI/venv/bin/python", "3.12", "2.9.1+cu128")
OLDER = Interpreter("kohya_ss", "/home/me/kohya_ss/.venv/bin/python", "3.10", "2.4.0+cu121")
PLAIN = Interpreter("system", "/usr/bin/python3", "3.11", "")


REGISTRY = probe_registry.load().probes
SUITE = (*ANYWHERE, *OF_A_CARD)


class Machine(RecordedWorld):
    """A recorded machine whose directories have a device: `{"mounts": {path: device}}`."""

    def stat(self, path: str) -> Stat | None:
        if path in self.world.get("mounts", {}):
            return Stat(0, 0o755, os.geteuid(), 0.0, is_dir=True, identity=f"{self.world['mounts'][path]}:2")
        return super().stat(path)


def answers(**bodies: Json) -> dict[str, Json]:
    """Servers that answer their identifying question, by name (`llama` for llama.cpp)."""
    asked = {s.name.partition(".")[0]: f"GET http://127.0.0.1:{s.port}{s.ask}" for s in SERVERS}
    return {asked[name]: {"status": 200, "body": json.dumps(body)} for name, body in bodies.items()}


ONE_CARD: dict[str, Json] = {
    "library": True,
    "driver": "570.86",
    "gpus": [{"index": 0, "uuid": "GPU-1"}],
    "pci": [{"address": "0000:01:00.0", "vendor": "nvidia"}],
}
WORKSTATION: dict[str, Json] = {
    "mounts": {"/": 1, "/home/me": 1, "/data/hf": 2, "/home/me/ComfyUI/models": 3, "/home/me/kohya_ss/models": 3},
    "environ": {"HF_HOME": "/data/hf"},
    "files": {
        "/home/me/ComfyUI/requirements.txt": "torch\n",
        "/home/me/ComfyUI/.env": "HF_TOKEN=x\n",
        "/home/me/kohya_ss/requirements.txt": "torch\n",
    },
    "disks": {"/home/me/ComfyUI/models": {"free": 200 * 2**30, "total": 900 * 2**30}},
    "gpus": ONE_CARD,
    "http": answers(ollama={"version": "0.5.1"}, comfyui={"system": {"python_version": "3.12"}}),
}


def found(world: dict[str, Json], *interpreters: Interpreter) -> Survey:
    return look_around(Machine(world), interpreters, HOME)


def checks(config: dict[str, Json]) -> list[str]:
    return [check.name for check in configured(config, REGISTRY).checks]


def test_a_workstation_gets_a_check_for_everything_it_has() -> None:
    config = discover(found(WORKSTATION, PLAIN, COMFYUI, OLDER), REGISTRY)
    assert checks(config) == [
        "platform", "gpu_driver", "disk", "disk:huggingface", "disk:comfyui-models",
        "torch_import", "torch_import:kohya_ss", "packages:comfyui", "dotenv:comfyui", "packages:kohya_ss",
        "host", "gpu", "disk_io", *SUITE, "model_load", "http:ollama", "http:comfyui",
    ]  # fmt: skip
    assert config["interpreters"] == {"comfyui": COMFYUI.path, "kohya_ss": OLDER.path}


def test_benchmarks_run_in_the_newest_torch_alone() -> None:
    config = configured(discover(found(WORKSTATION, OLDER, COMFYUI), REGISTRY), REGISTRY)
    used = {check.name: getattr(check.params, "interpreter", None) for check in config.checks}
    assert (used["matmul"], used["memory_copy"], used["torch_import:kohya_ss"]) == ("comfyui", "comfyui", "kohya_ss")


def test_a_bare_machine_gets_a_calm_config_that_waits_for_torch() -> None:
    bare = found({"mounts": {"/": 1}, "gpus": {}}, PLAIN)
    assert bare == Survey(directories={"root": "/"})
    config = discover(bare, REGISTRY)
    assert "interpreters" not in config
    assert checks(config) == ["platform", "disk", "torch_import", "host", *ANYWHERE]
    assert benchmarked(bare) == "auto"


def test_where_torch_is_neither_there_nor_wanted_nothing_asks_for_it(tmp_path: Path) -> None:
    bare = Survey(directories={"root": "/"}, torch=False)
    assert checks(discover(bare, REGISTRY)) == ["platform", "disk", "host"]
    assert "torch_import and the benchmarks were left out" in starter(discover(bare, REGISTRY), REGISTRY, bare)


@pytest.mark.parametrize(("mode", "there", "torch"), [("0", False, False), ("0", True, True), ("auto", False, True)])
def test_torch_0_leaves_out_what_needs_torch_unless_a_python_has_it(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, mode: str, there: bool, torch: bool
) -> None:
    monkeypatch.setenv("TORCH", mode)
    monkeypatch.setattr("exporter.machine.find", lambda *args, **named: (COMFYUI,) if there else (PLAIN,))
    monkeypatch.setattr("exporter.machine.TorchVenv.start", lambda self: None)
    machine = RealMachine()
    try:
        assert machine.survey().torch is torch
        with caplog.at_level("INFO"):
            machine.prepare_torch()
    finally:
        machine.close()
    assert ("left out" in caplog.text) is not torch


@pytest.mark.parametrize(
    ("gpus", "expected"),
    [
        ({}, (False, 0)),
        (ONE_CARD, (True, 1)),
        ({"pci": [{"address": "0000:00:02.0", "vendor": "intel"}]}, (False, 0)),
        ({"pci": [{"address": "0000:01:00.0", "vendor": "nvidia"}]}, (True, 0)),
        ({"library": True, "error": "driver_not_loaded"}, (False, 0)),
        ({"library": True, "error": "driver_not_loaded", "bus": False}, (True, 0)),
        ({"library": True, "error": "lib_rm_version_mismatch"}, (True, 0)),
        ({"library": True, "gpus": [{"index": 0, "uuid": "GPU-1"}], "bus": False}, (True, 1)),
        ({**ONE_CARD, "gpus": []}, (True, 0)),
    ],
)
def test_a_card_is_believed_when_the_driver_or_the_bus_shows_one(gpus: Json, expected: tuple[bool, int]) -> None:
    seen = found({"gpus": gpus})
    assert (seen.gpu, seen.cards) == expected


def test_a_driver_that_hangs_counts_as_a_card_and_a_blind_look_as_none() -> None:
    class Wedged(Machine):
        def gpus(self) -> Gpus:
            raise SubjectFailed(GPU_DRIVER_WEDGED("no answer in 2 s"))

    doors = ("gpus", "files", "directories", "http")
    assert look_around(Wedged({}), (), HOME).gpu is True
    assert look_around(Machine({"blind": dict.fromkeys(doors, "permission")}), (COMFYUI,), HOME) == Survey(
        interpreters=(COMFYUI,)
    )


def memory_limits(world: dict[str, Json]) -> list[float]:
    gpu = next(c for c in configured(discover(found(world), REGISTRY), REGISTRY).checks if c.name == "gpu")
    return [target.at_most or 0 for target in gpu.targets]


def test_a_server_that_takes_the_whole_card_by_design_raises_the_memory_target() -> None:
    vllm = answers(vllm={"object": "list", "data": [{"id": "m", "owned_by": "vllm"}]})
    assert memory_limits({"gpus": ONE_CARD}) == [0.90, 0.95]
    assert memory_limits({"gpus": ONE_CARD, "http": vllm}) == [0.96, 0.98]


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("ollama", {"name": "something else"}),
        ("comfyui", {"system": "yes"}),
        ("gradio", ["components"]),
        ("vllm", {"data": [{"owned_by": "me"}, 5]}),
        ("vllm", {"data": "vllm"}),
        ("llama", {"status": "ok"}),
        ("llama", None),
    ],
)
def test_a_stranger_on_a_known_port_is_not_configured(name: str, body: Json) -> None:
    assert found({"http": answers(**{name: body})}).servers == ()


@pytest.mark.parametrize("body", ["", "<html>", "[" * 100_000, "\x00\udcff", "9" * 5000])
def test_hostile_answers_are_no_servers(body: str) -> None:
    urls = [f"GET http://127.0.0.1:{s.port}{s.ask}" for s in SERVERS]
    assert found({"http": {url: {"status": 200, "body": body} for url in urls}}).servers == ()


def test_every_known_server_is_recognised_by_its_own_answer() -> None:
    bodies: dict[str, Json] = {
        "ollama": {"version": "0.5.1"},
        "comfyui": {"system": {"python_version": "3.12.3", "argv": ["main.py"]}, "devices": []},
        "gradio": {"version": "5.0", "components": []},
        "vllm": {"data": [{"owned_by": "vllm"}]},
        "llama": {"default_generation_settings": {}},
    }
    every = found({"http": answers(**bodies)})
    assert every.servers == SERVERS
    assert checks(discover(every, REGISTRY))[-5:] == [
        "http:ollama",
        "http:comfyui",
        "http:gradio",
        "http:vllm",
        "http:llama.cpp",
    ]
    loading = {"GET http://127.0.0.1:8080/props": {"status": 503, "headers": {"server": "llama.cpp"}, "body": "{}"}}
    assert [s.name for s in found({"http": loading}).servers] == ["llama.cpp"]


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = b'{"version": "0.5.1"}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.server.server_port != Handler.slow:
            self.wfile.write(body)
        else:
            Handler.release.wait(5)

    def log_message(self, *args: object) -> None:
        """Quiet."""

    slow = 0
    release = threading.Event()


def test_real_servers_are_asked_at_once_and_a_silent_one_holds_nothing_up(monkeypatch: pytest.MonkeyPatch) -> None:
    class RealHttp(Machine):
        def http(self, request: Request) -> Response:
            return http.fetch(request, Token(5))

    servers = [ThreadingHTTPServer(("127.0.0.1", 0), Handler) for _ in range(3)]
    ollama = SERVERS[0]
    known = [replace(ollama, name=f"s{i}", port=s.server_port) for i, s in enumerate(servers)]
    Handler.slow = servers[1].server_port
    monkeypatch.setattr(survey_module, "SERVERS", tuple(known))
    for server in servers:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        started = time.monotonic()
        seen = look_around(RealHttp({}), (), HOME).servers
        took = time.monotonic() - started
    finally:
        Handler.release.set()
        for server in servers:
            server.shutdown()
            server.server_close()
    assert [server.name for server in seen] == ["s0", "s2"]
    assert (
        took < 1.5
    )  # 0.3 s, and a busy machine's patience; asked one after the other, timeouts alone would take longer


@pytest.mark.parametrize(
    ("table", "found"),
    [
        ("sl local_address rem_address st\n0: 0100007F:2CAA 00000000:0000 0A 0", ["ollama"]),
        ("sl local_address rem_address st\n0: 0100007F:2CAA 0100007F:9999 01 0", []),
        ("sl local_address rem_address st", []),
        ("junk\njunk", ["ollama"]),
    ],
)
def test_only_ports_on_which_somebody_listens_are_asked_where_the_system_tells(table: str, found: list[str]) -> None:
    answer: Json = {"http": {"GET http://127.0.0.1:11434/api/version": {"status": 200, "body": '{"version": "0.12"}'}}}
    world = RecordedWorld({**answer, "files": {"/proc/net/tcp": table, "/proc/net/tcp6": "sl"}})  # type: ignore[dict-item]
    assert [server.name for server in look_around(world, (), Path("/home/someone")).servers] == found


def test_an_aborted_look_is_an_absent_server() -> None:
    class Late(Machine):
        def http(self, request: Request) -> Response:
            raise Aborted("deadline")

        def stat(self, path: str) -> Stat | None:
            raise Aborted("deadline")

        def gpus(self) -> Gpus:
            raise Aborted("deadline")

    assert look_around(Late({}), (COMFYUI,), HOME) == Survey(gpu=True, interpreters=(COMFYUI,))


HOSTILE = [
    Interpreter("my $APP: {x}", "/home/me/my $APP: {x}/venv/bin/python", "3.12", "2.9.1\nchecks: []"),
    Interpreter("#no", "/home/me/#no/ven v/bin/python", "3.12", "2.9.0"),
    Interpreter("${SECRET}", "/home/me/${SECRET}/venv/bin/python", "3.12", "2.8.0"),
    Interpreter("ünïcode", "/home/me/ünïcode/venv/bin/python", "3.12", "2.7.0"),
    Interpreter("long", f"/home/me/{'long word ' * 40}/venv/bin/python", "3.12", "2.6.0"),
    Interpreter("no-text-\udcff", "/home/me/\udcff/venv/bin/python", "3.12", "2.5.0"),
    Interpreter("auto", "/home/me/auto/venv/bin/python", "3.12", "99.0"),
]


@pytest.mark.parametrize(
    "interpreters", [[], [COMFYUI], [OLDER, COMFYUI], HOSTILE], ids=["none", "one", "two", "hostile"]
)
def test_what_init_writes_loads_as_the_very_config_that_was_discovered(
    interpreters: list[Interpreter], tmp_path: Path
) -> None:
    seen = found({**WORKSTATION, "http": answers(ollama={"version": "1"})}, *interpreters)
    path = tmp_path / "canary.yml"
    path.write_text(starter(discover(seen, REGISTRY), REGISTRY, seen), encoding="utf-8")
    written, discovered = load(path, REGISTRY, environ={}), configured(discover(seen, REGISTRY), REGISTRY)
    assert (written.checks, written.interpreters) == (discovered.checks, discovered.interpreters)
    assert set(written.interpreters.values()) == {i.path for i in interpreters[:5]}


def test_what_init_writes_says_what_it_asks_and_what_else_could_run(tmp_path: Path) -> None:
    seen = found(WORKSTATION, OLDER, COMFYUI)
    text = starter(discover(seen, REGISTRY), REGISTRY, seen)
    assert "  # Is the disk that this directory lives on about to fill up? Every 1m." in text
    assert "add a check with a name of its own: kohya_ss (torch 2.4.0+cu121, Python 3.10)." in text
    assert "# torch 2.9.1+cu128, Python 3.12\n  comfyui: /home/me/ComfyUI/venv/bin/python" in text
    assert "gpu-canary prepares one of its own" in starter(discover(Survey(), REGISTRY), REGISTRY, Survey())


# -- the benchmarks ---------------------------------------------------------------------------------------------------


def benchmarks(found: Survey) -> dict[str, Check]:
    """The benchmarks among the checks that this survey leads to, by name."""
    made = configured(discover(found, REGISTRY), REGISTRY).checks
    return {check.name: check for check in made if check.family == "benchmarks"}


def with_cards(cards: int, models: str = "") -> Survey:
    return Survey(gpu=True, cards=cards, interpreters=(COMFYUI,), directories={"root": "/"}, models=models)


def test_a_card_gets_every_benchmark_that_needs_nothing_of_its_owner() -> None:
    of_its_owner = {"command", "vram_leak"}  # a program to run, a service to look at
    of_no_speed = {"monitor_accuracy"}
    several = {"peer_copy"}
    suite = set(BUILTIN["benchmarks"]) - of_its_owner - of_no_speed - several
    assert {check.probe.name for check in benchmarks(with_cards(1, "/models")).values()} == suite
    assert set(benchmarks(with_cards(1))) == suite - {"disk_io", "model_load"}


def test_what_the_recommended_optimisations_shall_save_is_a_target_of_every_card() -> None:
    made = benchmarks(with_cards(2))
    for name in ("optimisations", "optimisations:gpu1"):
        (target,) = made[name].targets
        assert (target.metric, target.at_least) == ("vram_reduction_ratio", 0.8)
        assert target.labels == {"optimisation": "recommended"}


def test_a_card_that_the_driver_does_not_count_gets_the_same_as_one() -> None:
    assert list(benchmarks(with_cards(0))) == list(benchmarks(with_cards(1)))


def test_every_card_of_several_has_its_own_set_and_its_neighbour() -> None:
    made = benchmarks(with_cards(3, "/models"))
    assert set(made) == {
        "disk_io", "model_load", *SUITE, *(f"{probe}:gpu{card}" for probe in SUITE for card in (1, 2)),
        "peer_copy", "peer_copy:gpu2",
    }  # fmt: skip
    assert {name: check.params.gpu for name, check in made.items() if name.startswith("matmul")} == {
        "matmul": "", "matmul:gpu1": "1", "matmul:gpu2": "2",
    }  # fmt: skip
    pairs = [(made[name].params.gpu or "0", made[name].params.peer) for name in ("peer_copy", "peer_copy:gpu2")]
    assert pairs == [("0", "1"), ("2", "0")]


@pytest.mark.parametrize("cards", [0, 1, 2, 3, 8, 16])
@pytest.mark.parametrize("models", ["", "/models"])
def test_the_benchmarks_of_a_day_leave_each_card_ninety_nine_hundredths_of_it(cards: int, models: str) -> None:
    found = with_cards(cards, models)
    held = dict.fromkeys(range(max(1, cards)), 0.0)
    for check in benchmarks(found).values():
        if check.lane == "gpu":
            given = [getattr(check.params, "gpu", "") or "0", getattr(check.params, "peer", "")]
            for card in filter(None, given):
                held[int(card)] += check.probe.needs.seconds / check.every
    assert max(held.values()) <= Gate().device_budget * 0.85, "the rest is for second tries and what is added by hand"
    assert min(held.values()) > Gate().device_budget / 2, "and it is not so seldom that nothing would be seen"


def test_what_runs_on_a_card_says_for_how_long_it_holds_it() -> None:
    longest = {name: probe.needs.seconds for name, probe in REGISTRY.items() if probe.needs.idle}
    assert all(10 <= seconds <= 120 for seconds in longest.values()), longest
    assert longest["sustained"] > 60, "a minute of load, and the start of its Python"


def test_a_processor_alone_is_measured_as_often_as_the_probe_says() -> None:
    made = benchmarks(Survey(interpreters=(COMFYUI,), directories={"root": "/"}, models="/models"))
    assert set(made) == {"disk_io", *ANYWHERE}
    assert {check.every for check in made.values()} == {6 * 3600.0}


def test_without_torch_only_the_disk_is_measured() -> None:
    assert list(benchmarks(Survey(directories={"root": "/"}, models="/models", torch=False))) == ["disk_io"]


def models(monkeypatch: pytest.MonkeyPatch, user: int = 1000, **disk: Json) -> str:
    """The directory of models that is found for this user on that disk."""
    monkeypatch.setattr(survey_module, "_us", lambda: user)
    told = {"free": 200 * 2**30, "total": 900 * 2**30, **disk}
    return found({**WORKSTATION, "disks": {"/home/me/ComfyUI/models": told}}, COMFYUI).models


def test_models_are_written_only_where_this_user_may_and_there_is_room(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = "/home/me/ComfyUI/models"
    assert models(monkeypatch, os.geteuid()) == ours
    assert models(monkeypatch, 0) == ours
    assert models(monkeypatch, os.geteuid() + 4321) == ""
    assert models(monkeypatch, os.geteuid(), read_only=True) == ""
    assert models(monkeypatch, os.geteuid(), free=7 * 2**30) == ""


def test_an_applications_models_come_before_a_cache() -> None:
    disks = {path: {"free": 200 * 2**30, "total": 900 * 2**30} for path in ("/data/hf", "/home/me/ComfyUI/models")}
    assert found({**WORKSTATION, "disks": disks}, COMFYUI).models == "/home/me/ComfyUI/models"
    assert found({**WORKSTATION, "disks": disks}).models == "/data/hf", "no application is known without its Python"
