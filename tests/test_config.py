"""Is a config read right, and does a wrong one say everything that is wrong with it, at its line?"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import Field

from exporter import registry as probe_registry
from exporter.config import Config, ConfigError, configured, load
from exporter.config.conversion import read
from exporter.config.document import Ledger
from exporter.config.schema import schema
from probes.api import Bytes, Duration, Fact, Metric, Params, Probe, Secret, World

EXAMPLES = Path(__file__).parent.parent / "deploy"


class Login(Params):
    user: str = Field("", description="Who logs in.")
    password: Secret = Field(Secret(""), description="Their password.")


class ProbeParams(Params):
    url: str = Field("http://127.0.0.1/", description="Asked.")
    token: Secret = Field(Secret(""), description="Sent.")
    body: str | None = Field(None, description="Sent too.")
    login: Login = Field(Login(), description="Who we are.")
    headers: dict[str, str] = Field({}, description="Sent as well.")
    secret_headers: Mapping[str, Secret] = Field({}, description="Sent, never shown.")
    size: Bytes = Field(1, description="Expected.")
    wait: Duration = Field(1.0, description="Between two.")
    count: int = Field(1, ge=0, description="How many.")


class WorkerParams(Params):
    device: str = Field("auto", description="Where.")
    interpreter: str = Field("auto", description="Whose.")


def run(params: Params, world: World) -> Iterator[Fact]:
    yield from ()


SECONDS = Metric("response_seconds", "Time.", ("phase",))
BYTES = Metric("body_bytes", "Size.", ("gpu",))
RATIO = Metric("used_ratio", "Share.")
FETCH = Probe("fetch", ProbeParams, run, metrics=(SECONDS, BYTES, RATIO), every="1m", timeout="30s", family="services")
BENCH = Probe("bench", WorkerParams, run, metrics=(RATIO,), every="6h", timeout="5m", family="benchmarks")


class TouchyParams(Params):
    """A stranger's params, whose validator has a bug."""

    value: int = Field(1, description="Anything.")

    def model_post_init(self, context: object) -> None:
        if self.value == 13:
            raise KeyError("thirteen")


TOUCHY = Probe("touchy", TouchyParams, run, family="services")
REGISTRY = {probe.name: probe for probe in (FETCH, BENCH, TOUCHY)}


@pytest.fixture
def write(tmp_path: Path) -> Any:
    def write(text: str, name: str = "canary.yml") -> Path:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    return write


def problems(path: Path, profile: str = "", environ: dict[str, str] | None = None) -> list[str]:
    """What is wrong with the config, one `line: key: message` each."""
    with pytest.raises(ConfigError) as caught:
        load(path, REGISTRY, profile, environ or {})
    return [str(problem).removeprefix(f"{path}:") for problem in caught.value.problems]


def checks_problems(write: Any, text: str) -> list[str]:
    return problems(write(f"checks:\n{text}"))


def test_everything_a_config_can_say_arrives(write: Any, tmp_path: Path) -> None:
    path = write(
        "web: {listen_address: '[::1]:9000', config_file: web.yml, external_url: https://host/canary,"
        " route_prefix: /canary, enable_lifecycle: true, allowed_hosts: [gpu1]}\n"
        "storage: {path: state, retention_time: 9d, retention_size: 12MiB}\n"
        "log: {level: debug, format: json}\n"
        "grafana_url: http://grafana:3000\n"
        "interpreters: {comfyui: ./venv/bin/python, system: python3}\n"
        "checks:\n"
        "  - probe: bench\n"
        "    name: nightly/bench\n"
        "    every: 1h30m\n"
        "    timeout: 2m\n"
        "    interpreter: comfyui\n"
        "    params: {device: cpu}\n"
        "    targets:\n"
        "      - {metric: used_ratio, at_most: 0.9, at_least: 0.1}\n"
        "    objective: 0.99\n"
        "    retry: {every: 10s, confirm: 2}\n"
        "  - probe: fetch\n"
        "    targets:\n"
        "      - {metric: response_seconds, at_most: 250ms, severity: critical, labels: {phase: tls}}\n"
        "      - {metric: body_bytes, at_least: 2KiB, labels: {gpu: 0}}\n"
        "  - {probe: fetch, name: off, enabled: false}\n"
    )
    config = load(path, REGISTRY, environ={})
    bench, fetch = config.checks
    assert (bench.name, bench.every, bench.timeout, bench.retry_every, bench.confirm) == (
        "nightly/bench", 5400, 120, 10, 2
    )  # fmt: skip
    assert bench.params == WorkerParams(device="cpu", interpreter="comfyui")
    assert (bench.targets[0].at_least, bench.targets[0].at_most, bench.objective) == (0.1, 0.9, 0.99)
    assert (fetch.name, fetch.every, fetch.timeout, fetch.confirm) == ("fetch", 60, 30, 1)
    assert (fetch.targets[0].at_most, fetch.targets[0].severity, fetch.targets[0].labels) == (
        0.25, "critical", {"phase": "tls"}
    )  # fmt: skip
    assert (fetch.targets[1].at_least, fetch.targets[1].labels) == (2048, {"gpu": "0"})
    assert (config.web.listen_address, config.web.route_prefix, config.web.allowed_hosts) == (
        "[::1]:9000", "/canary", ("gpu1",)
    )  # fmt: skip
    assert (config.storage.retention_time, config.storage.retention_size) == (9 * 86400, 12 * 1024**2)
    assert (config.log.level, config.log.format, config.source) == ("debug", "json", str(path))
    assert (config.web.config_file, config.storage.path) == (f"{tmp_path}/web.yml", f"{tmp_path}/state")
    assert config.interpreters == {"comfyui": f"{tmp_path}/./venv/bin/python", "system": "python3"}


def test_defaults_are_those_of_the_dataclasses() -> None:
    assert configured({"checks": []}, REGISTRY) == Config()


def test_all_problems_of_all_files_are_told_at_once(write: Any) -> None:
    more = write("web: {}\nchecks:\n  - probe: fetch\n    params: {sise: 1}\n", "checks.d/more.yml")
    path = write(
        "include: [checks.d/*.yml]\n"
        "web: {allowed_host: [a], listen_address: 127.0.0.1}\n"
        "log: {level: inf}\n"
        "chekcs: []\n"
        "checks:\n"
        "  - probe: fetsh\n"
        "  - probe: bench\n"
        "    every: 5\n"
        "    params: {device: 12.8}\n"
        "    objective: 99\n"
        "    targets: [{metric: use_ratio, at_most: 1}]\n"
        "  - name: nameless\n"
    )
    assert problems(path) == [
        "2: web.allowed_host: unknown key; expected one of allowed_hosts, config_file, enable_inbox, enable_lifecycle, external_url, "
        "listen_address, route_prefix; did you mean allowed_hosts?",
        "2: web.listen_address: '127.0.0.1' is not an address; write it like 127.0.0.1:19835, :9000 or [::1]:9000",
        "3: log.level: expected one of debug, info, warn, error (got 'inf'); did you mean info?",
        "4: chekcs: unknown key; expected one of checks, fleet, gate, grafana_url, include, interpreters, log, storage, web; "
        "did you mean checks?",
        "6: checks[fetsh].probe: there is no probe 'fetsh'; did you mean fetch?",
        "8: checks[bench].every: 5 is not a duration; write it with a unit, like 5s, 9m, 6h or 1h30m",
        "9: checks[bench].params.device: expected a text (got 12.8); put it in quotes",
        "10: checks[bench].objective: expected less than 1 (got 99)",
        "11: checks[bench].targets[0].metric: the probe bench has no metric 'use_ratio'; did you mean used_ratio?",
        "12: checks[nameless].probe: this key is required",
        f"{more}:1: web: an included file holds only checks and interpreters; move it to {path}",
        f"{more}:4: checks[fetch].params.sise: unknown key; expected one of body, count, headers, login, secret_headers, size, token, "
        "url, wait; did you mean size?",
    ]


def test_what_yaml_itself_lets_pass_is_told_with_everything_else(write: Any) -> None:
    more = write("checks: !x {}\ninterpreters: !x y\n", "more.yml")
    path = write(
        "include: [more.yml]\n"
        "interpreters: {a: /a, a: /b}\n"
        "log: {level: loud, level: debug}\n"
        "chekcs: !vault x\n"
        "checks:\n"
        "  - probe: fetch\n"
        "    every: 99999999999999999999999\n"
        "    timeout: 5m\n"
        "    params: {url: {{ url }}, count: !!int x, token: !secret x, sise: .inf, login: !x {usr: 1}, wait: soon}\n"
        "    targets: [{metric: used_ratio, at_most: .inf}, {metric: nope, at_most: 1}]\n"
        "  - {probe: !x fetch, every: 5}\n"
        "  - {probe: fetch, name: b, name: fetch, every: 1, params: !x y}\n"
        "  - !x {probe: fetch, name: c, evry: 1m}\n"
    )
    assert [problem.partition(";")[0] for problem in problems(path)] == [
        "2: the key 'a' is given twice, first on line 2",
        "3: the key 'level' is given twice, first on line 3",
        "3: log.level: expected one of debug, info, warn, error (got 'loud')",
        "4: this tag is not supported",
        "4: chekcs: unknown key",
        "7: this is not a finite int of at most 20 digits",
        "9: a key must be a word, not a list or mapping (a template's `{{...}}`? Quote it)",
        "9: this is not a finite float of at most 20 digits",
        "9: this is not a finite int of at most 20 digits",
        "9: this tag is not supported",
        "9: checks[fetch].params.login.usr: unknown key",
        "9: checks[fetch].params.sise: unknown key",
        "9: checks[fetch].params.wait: 'soon' is not a duration",
        "10: this is not a finite float of at most 20 digits",
        "10: checks[fetch].targets[1].metric: the probe fetch has no metric 'nope'",
        "11: this tag is not supported",
        "11: checks[1].every: 5 is not a duration",
        "12: the key 'name' is given twice, first on line 12",
        "12: this tag is not supported",
        "12: checks[b].every: 1 is not a duration",
        "13: this tag is not supported",
        "13: checks[c].evry: unknown key",
        f"{more}:1: this tag is not supported",
        f"{more}:2: this tag is not supported",
    ]


def test_a_param_beside_params_is_told_where_it_belongs(write: Any) -> None:
    text = "  - {probe: fetch, name: a, url: http://x/, count: -1, token_file: absent, params: {wait: 1s}, sise: 1}\n"
    found = checks_problems(write, text)
    belongs = "is a param of the probe fetch; it belongs under `params:`"
    assert sorted(p for p in found if p.endswith(belongs)) == [
        f"2: checks[a].{key}: {belongs}" for key in ("count", "token_file", "url")
    ]
    assert sorted(p.partition(":")[2].split(": ")[0].strip() for p in found if not p.endswith(belongs)) == [
        "checks[a].params.count", "checks[a].params.token_file", "checks[a].sise"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("  - {probe: fetch}\n  - {probe: fetch}\n", "3: checks[fetch]: the name 'fetch' is taken, first at"),
        ("  - {probe: fetch, name: a b}\n", "2: checks[a b].name: 'a b' is not a name"),
        (f"  - {{probe: fetch, name: {'a' * 64}}}\n", f"2: checks[{'a' * 64}].name: "),
        ("  - {probe: fetch, name: history}\n", "2: checks[history].name: 'history' is a name of the house"),
        ("  - {probe: fetch, every: 10s, timeout: 10s}\n", "2: checks[fetch].timeout: expected less than every (10s)"),
        ("  - {probe: fetch, timeout: 1m}\n", "expected less than every (60s, the probe's default) (got '1m')"),
        ("  - {probe: fetch, every: 100ms}\n", "2: checks[fetch].every: expected greater than or equal to 1"),
        (f"  - {{probe: fetch, every: {'9' * 400}d}}\n", "is not a duration"),
        ("  - {probe: fetch, every: 99999w}\n", "expected less than or equal to 31622400"),
        ("  - {probe: fetch, retry: {every: 2m}}\n", "2: checks[fetch].retry.every: expected at most every (60s)"),
        ("  - {probe: fetch, retry: {confirm: 0}}\n", "2: checks[fetch].retry.confirm: expected greater than or equal"),
        ("  - {probe: fetch, interpreter: x}\n", "the probe fetch runs no interpreter; remove this key"),
        ("  - {probe: bench, interpreter: x, params: {interpreter: y}}\n", "params.interpreter says it too"),
        ("  - {probe: fetch, enabled: maybe}\n", "2: checks[fetch].enabled: expected a valid boolean"),
        ("  - {probe: fetch, params: [1]}\n", "2: checks[fetch].params: expected a mapping"),
        ("  - {probe: fetch, params: {count: -1}}\n", "checks[fetch].params.count: expected greater than or equal to 0"),
        (f"  - {{probe: fetch, params: {{size: '{'9' * 400}'}}}}\n", "is not a size"),
        ("  - {probe: fetch, params: {login: {usr: x}}}\n", "params.login.usr: unknown key; expected one of password, u"),
        ("  - {probe: touchy, params: {value: 13}}\n", "TouchyParams failed with KeyError: 'thirteen'; tell its author"),
        ("  - {probe: 5}\n", "2: checks[0].probe: expected a text (got 5); put it in quotes"),
        ("  - fetch\n", "2: checks[0]: expected a mapping, like `{key: value}`"),
        ("  -\n", "2: checks[0]: "),
        ("  probe: fetch\n", "1: checks: expected a list, like"),
        ("", "1: checks: expected a list, like `checks: [{probe: disk}]`; `[]` for none at all"),
    ],
)  # fmt: skip
def test_a_wrong_check_says_what_was_expected(write: Any, text: str, problem: str) -> None:
    (found,) = checks_problems(write, text)
    assert problem in found


@pytest.mark.parametrize(
    ("target", "problem"),
    [
        ("{metric: used_ratio}", "expected at_least, at_most or both"),
        ("{metric: used_ratio, at_most: 1, at_least: 2}", "no value can meet both"),
        ("{metric: used_ratio, at_most: lots}", "'lots' is not a bound; write a number, a size like 50GiB or"),
        ("{metric: used_ratio, at_most: true}", "is not a bound"),
        ("{metric: used_ratio, at_most: 5GiB}", "used_ratio is not in bytes; give a number (got '5GiB')"),
        ("{metric: body_bytes, at_most: 5s}", "body_bytes is not in seconds"),
        ("{metric: body_bytes, at_most: 1, labels: {gp: 0}}", "body_bytes has no label 'gp'; did you mean gpu?"),
        ("{metric: used_ratio, at_most: 1, labels: {x: y}}", "used_ratio has no label 'x'; it has none"),
        ("{metric: used_ratio, at_most: 1, severity: fatal}", "expected one of critical, warning, info (got 'fatal')"),
        ("{at_most: 1}", "targets[0].metric: this key is required"),
        ("{metric: used_ratio, at_most: 1, quantile: 95}", "expected less than or equal to 1 (got 95)"),
        ("{metric: used_ratio, at_most: 1, runs: 9}", "`runs` says over how many runs a `quantile` is taken"),
        ("{metric: used_ratio, at_most: 1, quantile: 0.5, runs: 1000}", "expected less than or equal to 136"),
    ],
)
def test_a_wrong_target_says_what_was_expected(write: Any, target: str, problem: str) -> None:
    (found,) = checks_problems(write, f"  - probe: fetch\n    targets:\n      - {target}\n")
    assert found.startswith("4: checks[fetch].targets[0]")
    assert problem in found


def test_targets_that_would_make_equal_series_are_refused(write: Any) -> None:
    targets = (
        "      - {metric: used_ratio, at_most: 0.9}\n"
        "      - {metric: used_ratio, at_most: 0.95, severity: critical}\n"
        "      - {metric: used_ratio, at_least: 0.1}\n"
        "      - {metric: body_bytes, at_most: 1, labels: {gpu: 0}}\n"
        "      - {metric: body_bytes, at_most: 1, labels: {gpu: 1}}\n"
    )
    path = write(f"checks:\n  - probe: fetch\n    targets:\n{targets}")
    assert len(load(path, REGISTRY, environ={}).checks[0].targets) == 5
    again = "      - {metric: body_bytes, at_most: 2, labels: {gpu: '1'}}\n"
    (found,) = checks_problems(write, f"  - probe: fetch\n    targets:\n{targets}{again}")
    assert found.startswith("9: checks[fetch].targets: a second warning at_most of body_bytes for the same series")


def test_a_target_may_bound_a_quantile_of_the_newest_runs(write: Any) -> None:
    targets = (
        "      - {metric: used_ratio, at_most: 0.9, quantile: 0.95}\n"
        "      - {metric: used_ratio, at_most: 0.8, quantile: 0.5, runs: 7, severity: critical}\n"
    )
    path = write(f"checks:\n  - probe: fetch\n    targets:\n{targets}")
    (check,) = load(path, REGISTRY, environ={}).checks
    assert [(t.quantile, t.runs) for t in check.targets] == [(0.95, 20), (0.5, 7)]
    assert check.keeps_past
    plain = "      - {metric: used_ratio, at_least: 0.1}\n"
    (found,) = checks_problems(write, f"  - probe: fetch\n    targets:\n{targets}{plain}")
    assert found == (
        "6: checks[fetch].targets: bounds of used_ratio on different quantiles are one series; give each another severity"
    )


def test_a_short_interval_shortens_the_default_timeout_only(write: Any) -> None:
    config = load(write("checks: [{probe: fetch, every: 10s}]\n"), REGISTRY, environ={})
    assert config.checks[0].timeout == 9


def test_an_interpreter_must_be_known_once_some_are_named(write: Any) -> None:
    text = "checks: [{probe: bench, interpreter: comfui}]\n"
    assert load(write(text), REGISTRY, environ={}).checks[0].params == WorkerParams(interpreter="comfui")
    (found,) = problems(write("interpreters: {comfyui: /v/bin/python}\n" + text))
    assert found == (
        "2: checks[comfui].interpreter: 'comfui' is neither a path nor one of `interpreters:`; did you mean comfyui?"
    ).replace("[comfui]", "[bench]")
    for fine in ("auto", "self", "/usr/bin/python3", "comfyui"):
        load(write(f"interpreters: {{comfyui: /v/bin/python}}\n{text.replace('comfui', fine)}"), REGISTRY, environ={})
    for bad in ("auto", "self", "a/b"):
        (found,) = problems(write(f"interpreters: {{{bad}: /v/bin/python}}\nchecks: []\n"))
        assert found.startswith(f"1: interpreters.{bad}: '{bad}' cannot name an interpreter")


# -- includes and profiles -------------------------------------------------------------------------------------------


def test_included_files_add_checks_and_interpreters(write: Any, tmp_path: Path) -> None:
    write("checks: [{probe: fetch, name: b}]\ninterpreters: {b: venv/bin/python}\n", "checks.d/b.yml")
    write("checks: [{probe: fetch, name: a, params: {token_file: token}}]\n", "checks.d/a.yml")
    write("planted-token\n", "checks.d/token")
    path = write("include: [checks.d/*.yml, none.d/*.yml]\ninterpreters: {x: /x}\nchecks: [{probe: bench}]\n")
    config = load(path, REGISTRY, environ={})
    assert [check.name for check in config.checks] == ["bench", "a", "b"]
    assert config.interpreters == {"x": "/x", "b": f"{tmp_path}/checks.d/venv/bin/python"}
    assert config.secrets == {"planted-token"}


def test_includes_that_cannot_be_right_are_refused(write: Any, tmp_path: Path) -> None:
    write("include: [x]\ninterpreters: {a: /1}\n", "more.yml")
    write("a: [\n", "broken.yml")
    path = write("include: [more.yml, broken.yml, absent.yml, 5]\ninterpreters: {a: /2}\nchecks: []\n")
    assert problems(path) == [
        f"{tmp_path}/broken.yml:2: while parsing a flow node expected the node content, but found '<stream end>'",
        f"1: include: {tmp_path}/absent.yml does not exist",
        "1: include: expected a path or a pattern like checks.d/*.yml",
        f"{tmp_path}/more.yml:1: include: an included file holds only checks and interpreters; move it to {path}",
        f"{tmp_path}/more.yml:2: interpreters.a: given twice, first at {path}:2",
    ]
    assert "expected a list of patterns" in problems(write("include: '*'\nchecks: []\n"))[0]


def test_a_profile_lays_its_overlay_over_the_config(write: Any) -> None:
    path = write(
        "log: {level: info, format: json}\nstorage: {retention_time: 1d}\n"
        "checks:\n  - {probe: fetch, params: {url: http://real/, count: 3}, targets: [{metric: used_ratio, at_most: 1}]}\n"
        "  - {probe: bench, name: b}\n"
    )
    write(
        "log: {level: debug}\n"
        "checks:\n  - {name: fetch, params: {url: http://mock/}, targets: []}\n"
        "  - {name: b, enabled: false}\n  - {probe: fetch, name: new}\n",
        "canary.test.yml",
    )
    config = load(path, REGISTRY, "test", environ={})
    assert (config.log.level, config.log.format, config.storage.retention_time) == ("debug", "json", 86400)
    assert [check.name for check in config.checks] == ["fetch", "new"]
    assert config.checks[0].params == ProbeParams(url="http://mock/", count=3)
    assert config.checks[0].targets == ()
    assert load(path, REGISTRY, environ={}).checks[0].params == ProbeParams(url="http://real/", count=3)


def test_an_error_in_an_overlay_is_told_at_its_own_line(write: Any, tmp_path: Path) -> None:
    path = write("checks:\n  - probe: fetch\n")
    over = write(
        "checks:\n  - name: fetch\n    params:\n      count: many\n  - {name: fetch, every: 1m}\n", "canary.t.yml"
    )
    assert problems(path, "t") == [
        f"{over}:4: checks[fetch].params.count: expected a valid integer, unable to parse string as an integer (got 'many')",
        f"{over}:5: checks[fetch]: the name 'fetch' is taken, first at {path}:2; give each its own `name:`",
        f"{over}:5: checks[fetch].probe: this key is required",
    ]


@pytest.mark.parametrize("profile", ["tset", "../canary", "a/b", "*", "\0"])
def test_an_unknown_profile_names_those_that_exist(write: Any, profile: str) -> None:
    write("{}", "canary.test.yml")
    (found,) = problems(write("checks: []\n"), profile)
    assert "expected an overlay file 'canary." in found
    assert "test" in found.partition("beside it")[2]


# -- secrets ---------------------------------------------------------------------------------------------------------


def test_secrets_come_from_the_environment_and_from_files_and_are_all_known(write: Any) -> None:
    write("file-secret\n", "token")
    write("nested-secret\nsecond line", "password")
    path = write(
        "checks:\n"
        "  - {probe: fetch, name: a, params: {token_file: token, login: {user: me, password_file: password},"
        " headers: {Authorization: 'Bearer ${API_KEY}'}, url: 'http://${HOST}/$$x', body_file: token, count: '${N}'}}\n"
        "  - {probe: fetch, name: b, params: {token: literal-secret, secret_headers: {A: header-secret, B_file: token}}}\n"
    )
    config = load(path, REGISTRY, environ={"API_KEY": "env-secret", "HOST": "abc", "N": "7"})
    params = config.checks[0].params
    assert isinstance(params, ProbeParams)
    assert params.token.get_secret_value() == "file-secret"
    assert params.login.password.get_secret_value() == "nested-secret\nsecond line"
    assert (params.headers, params.url, params.body, params.count) == (
        {"Authorization": "Bearer env-secret"}, "http://abc/$x", "file-secret", 7
    )  # fmt: skip
    assert config.secrets == {
        "file-secret", "env-secret", "literal-secret", "header-secret", "nested-secret\nsecond line", "nested-secret", "second line"
    }  # fmt: skip
    assert "secret" not in repr(params.token)
    headers = config.checks[1].params.secret_headers  # type: ignore[attr-defined]
    assert {name: value.get_secret_value() for name, value in headers.items()} == {
        "A": "header-secret", "B": "file-secret"
    }  # fmt: skip


def test_a_home_directory_is_a_place_and_no_secret(write: Any) -> None:
    config = load(
        write("checks: [{probe: bench, params: {device: '${HOME}/x'}}]\n"), REGISTRY, environ={"HOME": "/h/me"}
    )
    assert (config.checks[0].params, config.secrets) == (WorkerParams(device="/h/me/x"), frozenset())


def test_secrets_that_cannot_be_had_are_one_problem_each(write: Any, tmp_path: Path) -> None:
    write("", "empty")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    for params, problem in {
        "{count: '${NOPE}'}": "the environment variable NOPE is not set; export it or use `count_file`",
        "{url: '${a b}'}": "'${a b}' is not ${NAME}; write $${ for a literal ${",
        "{url: '${'}": "'${' is not ${NAME}",
        "{token_file: absent}": f"{tmp_path}/absent cannot be read as a secret: No such file or directory",
        "{token_file: .}": "cannot be read as a secret: expected a regular file",
        "{token_file: binary}": "cannot be read as a secret: 'utf-8' codec",
        "{token_file: empty}": f"{tmp_path}/empty is empty; write the secret into it",
        "{token_file: 5}": f"{tmp_path}/5 cannot be read",
        "{token_file: }": "the empty path cannot be read as a secret",
        "{token_file: [a]}": "cannot be read as a secret",
        "{token: a, token_file: empty}": "give either token or token_file, not both",
        "{secret_headers: {A: x, A_file: empty}}": "give either A or A_file, not both",
        "{secret_headers: {A_file: absent}}": "params.secret_headers.A_file: ",
        "{count_file: empty}": "unknown key",
        "{login: {password_file: absent}}": "params.login.password_file: ",
    }.items():
        (found,) = checks_problems(write, f"  - {{probe: fetch, params: {params}}}\n")
        assert problem in found


@pytest.mark.parametrize("secret", ["planted'secret\\x", "planted-secret-" + "x" * 100])
def test_no_error_shows_a_secret(write: Any, secret: str) -> None:
    write(secret, "secret")
    path = write(
        "log: {level: '${S}'}\nweb: {listen_address: '${S}', allowed_hosts: '${S}'}\ngrafana_url: '${S}'\n"
        "checks:\n  - {probe: fetch, every: '${S}', params: {size: '${S}', count: '${S}', login: '${S}', wait: '${S}'},"
        " targets: [{metric: used_ratio, at_most: '${S}'}]}\n"
        f"  - {{probe: fetch, name: b, params: {{token: [{json.dumps(secret)}], login: {{password: {{a: {json.dumps(secret)}}}}},"
        " body_file: secret, nope_file: x}}\n"
    )
    found = problems(path, environ={"S": secret})
    assert len(found) == 13
    assert not [problem for problem in found if "planted" in problem]
    assert len([problem for problem in found if "its value is hidden" in problem]) == 12


# -- the schema, and the examples of this repository -----------------------------------------------------------------


def test_the_schema_is_valid_and_accepts_what_the_loader_accepts(write: Any) -> None:
    validator = jsonschema.Draft202012Validator(schema(REGISTRY))
    validator.check_schema(validator.schema)
    good = {
        "log": {"level": "${LEVEL}"},
        "checks": [
            {"probe": "fetch", "every": "10s", "params": {"token_file": "t", "size": "5GiB", "count": "${N}"}},
            {
                "probe": "fetch",
                "name": "b",
                "targets": [{"metric": "body_bytes", "at_most": "5GiB", "labels": {"gpu": 0}}],
            },
            {"probe": "bench", "interpreter": "x", "retry": {"every": "10s", "confirm": 2}, "objective": 0.9},
            {"name": "only-an-overlay", "params": {"anything": 1}},
        ],
    }
    assert list(validator.iter_errors(good)) == []


@pytest.mark.parametrize(
    "bad",
    [
        {"chekcs": []},
        {"log": {"level": "loud"}},
        {"checks": [{"probe": "nope"}]},
        {"checks": [{"every": "10s"}]},
        {"checks": [{"probe": "fetch", "every": "10"}]},
        {"checks": [{"probe": "fetch", "params": {"counts": 1}}]},
        {"checks": [{"probe": "fetch", "params": {"login": {"usr": "x"}}}]},
        {"checks": [{"probe": "fetch", "interpreter": "x"}]},
        {"checks": [{"probe": "fetch", "targets": [{"metric": "nope", "at_most": 1}]}]},
    ],
)
def test_the_schema_refuses_what_the_loader_refuses(bad: dict[str, Any]) -> None:
    assert list(jsonschema.Draft202012Validator(schema(REGISTRY)).iter_errors(bad))


def test_a_missing_file_is_one_problem(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: No such file or directory") as caught:
        load(tmp_path / "absent.yml", REGISTRY)
    assert len(caught.value.problems) == 1


WORDS = [
    "probe",
    "name",
    "every",
    "timeout",
    "params",
    "targets",
    "metric",
    "at_most",
    "labels",
    "url",
    "checks",
    "web",
]
WORDS += [
    "interpreters",
    "include",
    "log",
    "storage",
    "retry",
    "fetch",
    "bench",
    "used_ratio",
    "5s",
    "${X}",
    "token_file",
]
SCALARS = st.sampled_from(WORDS) | st.none() | st.booleans() | st.integers(-9, 10**19) | st.floats(-1, 1e300)
TREES = st.recursive(
    SCALARS,
    lambda below: st.lists(below, max_size=4) | st.dictionaries(st.sampled_from(WORDS), below, max_size=5),
    max_leaves=25,
)


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.dictionaries(st.sampled_from(["checks", "web", "log", "include", "interpreters", "storage", "x"]), TREES))
def test_any_tree_is_a_config_or_a_config_error(write: Any, tree: dict[str, Any]) -> None:
    path = write(yaml.safe_dump(tree))
    write(yaml.safe_dump(tree), "canary.o.yml")
    try:
        config = load(path, REGISTRY, "o", environ={})
    except ConfigError:
        return
    assert isinstance(config, Config)


def example_configs() -> list[Path]:
    """Every gpu-canary config under deploy/: other YAML (compose, Prometheus) has no `checks` at the top."""
    texts = {path: path.read_text(encoding="utf-8") for path in sorted(EXAMPLES.rglob("*.yml"))}
    return [path for path, text in texts.items() if "\nchecks:" in text]


@pytest.mark.parametrize("path", example_configs(), ids=lambda path: path.name)
def test_every_example_config_of_this_repository_loads(path: Path) -> None:
    base = next((p for p in example_configs() if p != path and path.name.startswith(f"{p.stem}.")), None)
    profile = path.stem.removeprefix(f"{base.stem}.") if base else ""
    registry = probe_registry.load().probes
    assert load(base or path, registry, profile, environ={}).checks
    document = read(path, Ledger()).plain()
    assert list(jsonschema.Draft202012Validator(schema(registry)).iter_errors(document)) == []


def test_the_example_and_its_test_profile_are_there() -> None:
    assert {path.name for path in example_configs()} >= {"config.example.yml", "config.example.test.yml"}


def test_the_schema_of_all_probes_is_a_valid_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(schema(probe_registry.load().probes))
