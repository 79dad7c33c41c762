"""What do the control planes say: Prometheus and Alertmanager today? The only importer of requests.

For commands, which have the time; never for a check. What comes back is believed only as far as its shape is right.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import requests

from exporter.address import is_loopback, served_at
from exporter.world.patience import within
from exporter.world.token import Token
from probes.api import KIB, MIB, Aborted, Json

LIMIT = 64 * MIB  # the rules of a large fleet, and not the memory of this machine


class ControlError(Exception):
    """A control plane did not give an answer; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Access:
    """How to be let in. Secrets are named by file, read for each request and shown nowhere."""

    user: str = ""
    password_file: str = ""
    bearer_file: str = ""
    ca_file: str = ""
    client_cert_file: str = ""
    client_key_file: str = ""


@dataclass(frozen=True, slots=True)
class Sample:
    labels: Mapping[str, str]
    value: float


@dataclass(frozen=True, slots=True)
class ScrapeTarget:
    """Something Prometheus scrapes. `health` is up, down or unknown; `error` is why the last scrape failed."""

    labels: Mapping[str, str]
    url: str
    health: str
    error: str = ""


@dataclass(frozen=True, slots=True)
class Alert:
    """A pending or firing alert."""

    name: str
    state: str
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LoadedRule:
    """A rule Prometheus evaluates. `kind` is alerting or recording, `health` ok, err or unknown."""

    name: str
    kind: str
    query: str
    file: str
    health: str
    error: str = ""
    alerts: tuple[Alert, ...] = ()


class Api:
    """One control plane at one address. `timeout` in seconds bounds a whole request, however slowly it trickles."""

    def __init__(self, url: str, access: Access | None = None, timeout: float = 10.0) -> None:
        if served_at(url) is None:
            raise ControlError("that is not the URL of a control plane; write it like http://127.0.0.1:9090")
        self.url = url.rstrip("/")
        self.shown = _shown(self.url)
        self._access = access or Access()
        self._timeout = timeout

    def get(self, path: str, **params: str) -> dict[str, Json]:
        """The JSON object at a path. ControlError on anything else."""
        try:
            status, body = within(Token(self._timeout), object(), lambda: self._fetch(path, params))
        except Aborted:
            raise ControlError(
                f"{self.shown} did not answer within {self._timeout:g} s; `curl {self.shown}` tells more"
            ) from None
        except requests.exceptions.SSLError as error:
            raise ControlError(f"{self.shown}: TLS failed ({_reason(error)}); name its CA with a CA file") from None
        except OSError as error:  # what requests raises, and what a CA file that is not there raises
            raise ControlError(
                f"{self.shown} does not answer ({_reason(error)}); is it running, and is the port right?"
            ) from None
        return self._judge(status, body)

    def _fetch(self, path: str, params: Mapping[str, str]) -> tuple[int, bytes]:
        with requests.Session() as session:
            session.trust_env = not is_loopback(
                urlsplit(self.url).hostname or ""
            )  # no proxy can reach our loopback for us
            self._identify(session)
            with session.get(self.url + path, params=params, timeout=self._timeout, stream=True) as response:
                body = bytearray()
                for piece in response.iter_content(64 * KIB):
                    body += piece
                    if len(body) > LIMIT:
                        raise ControlError(
                            f"{self.shown} sent more than {LIMIT // MIB} MiB; is it a Prometheus at all?"
                        )
                return response.status_code, bytes(body)

    def _identify(self, session: requests.Session) -> None:
        access = self._access
        if access.bearer_file:
            session.headers["Authorization"] = f"Bearer {_secret(access.bearer_file)}"
        elif access.user:
            session.auth = (access.user, _secret(access.password_file) if access.password_file else "")
        if access.ca_file:
            session.verify = str(Path(access.ca_file).expanduser())
        if access.client_cert_file:
            session.cert = (access.client_cert_file, access.client_key_file or access.client_cert_file)

    def _judge(self, status: int, body: bytes) -> dict[str, Json]:
        try:
            answer = json.loads(body)
        except (ValueError, RecursionError):
            answer = None
        if isinstance(answer, dict) and isinstance(answer.get("error"), str):
            raise ControlError(f"{self.shown} refused: {answer['error'][:300]}")
        if status in (401, 403):
            raise ControlError(
                f"{self.shown} refuses us (HTTP {status}); give a user with password file, or a bearer file"
            )
        if status == 404:
            raise ControlError(f"{self.shown} has no such API (HTTP 404); does its URL end in a route prefix?")
        if status != 200:
            raise ControlError(f"{self.shown} answers HTTP {status}; its log tells why")
        if not isinstance(answer, dict):
            raise ControlError(f"{self.shown} answers, but not in JSON; is there a login page or another program?")
        return answer


class Prometheus(Api):
    """https://prometheus.io/docs/prometheus/latest/querying/api/"""

    def query(self, promql: str) -> tuple[Sample, ...]:
        """The instant vector of an expression; a scalar is one sample without labels."""
        data = self._data("/api/v1/query", query=promql)
        result = data.get("result")
        if data.get("resultType") == "scalar":
            result = [{"metric": {}, "value": result}]
        return tuple(
            Sample(_texts(row.get("metric")), _value(row.get("value"), self.shown)) for row in self._rows(result)
        )

    def targets(self) -> tuple[ScrapeTarget, ...]:
        """What is scraped now."""
        rows = self._rows(self._data("/api/v1/targets", state="active").get("activeTargets"))
        return tuple(
            ScrapeTarget(
                _texts(row.get("labels")), _text(row, "scrapeUrl"), _text(row, "health"), _text(row, "lastError")
            )
            for row in rows
        )

    def rules(self) -> tuple[LoadedRule, ...]:
        """Every rule of every group, alerting ones with their alerts."""
        return tuple(
            LoadedRule(
                name=_text(row, "name"),
                kind=_text(row, "type"),
                query=_text(row, "query"),
                file=_text(group, "file"),
                health=_text(row, "health"),
                error=_text(row, "lastError"),
                alerts=self._alerts(row.get("alerts") or []),
            )
            for group in self._rows(self._data("/api/v1/rules").get("groups"))
            for row in self._rows(group.get("rules"))
        )

    def alertmanagers(self) -> tuple[str, ...]:
        """The URLs of the Alertmanagers it sends alerts to, without the API's path."""
        rows = self._rows(self._data("/api/v1/alertmanagers").get("activeAlertmanagers"))
        return tuple(_text(row, "url").partition("/api/v")[0] for row in rows)

    def alerts(self) -> tuple[Alert, ...]:
        """Every pending or firing alert."""
        return self._alerts(self._data("/api/v1/alerts").get("alerts"))

    def _alerts(self, rows: Json) -> tuple[Alert, ...]:
        found = ((_texts(row.get("labels")), row) for row in self._rows(rows))
        return tuple(
            Alert(labels.get("alertname", ""), _text(row, "state"), labels, _texts(row.get("annotations")))
            for labels, row in found
        )

    def _data(self, path: str, **params: str) -> dict[str, Json]:
        data = self.get(path, **params).get("data")
        if not isinstance(data, dict):
            raise ControlError(f"{self.shown} answers JSON, but not as Prometheus does; is it another program?")
        return data

    def _rows(self, rows: Json) -> Iterator[dict[str, Json]]:
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise ControlError(f"{self.shown} answers JSON, but not as Prometheus does; is it another program?")
        return (row for row in rows if isinstance(row, dict))


class Alertmanager(Api):
    """https://prometheus.io/docs/alerting/latest/management_api/ and its API v2"""

    def config(self) -> str:
        """Its configuration as YAML, secrets already hidden by Alertmanager."""
        config = self.get("/api/v2/status").get("config")
        original = config.get("original") if isinstance(config, dict) else None
        if not isinstance(original, str):
            raise ControlError(f"{self.shown} answers JSON, but not as Alertmanager does; is it another program?")
        return original


def _shown(url: str) -> str:
    """The URL without the password that it may hold."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def _secret(path: str) -> str:
    try:
        text = Path(path).expanduser().read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        raise ControlError(f"the secret in {path} cannot be read; `ls -l {path}` and `file {path}` tell more") from None
    if not text.isprintable():  # a header with a line break would be refused in words that show it
        raise ControlError(f"the secret in {path} must be one line; `wc -l {path}` counts them")
    return text


def _reason(error: BaseException) -> str:
    """The innermost words of an exception: libraries wrap `Connection refused` in several lines of their own."""
    while (inner := error.__cause__ or error.__context__ or getattr(error, "reason", None)) is not None:
        if not isinstance(inner, BaseException):
            break
        error = inner
    words = getattr(error, "strerror", None) or str(error)
    return str(words)[:200]


def _text(row: Mapping[str, Json], key: str) -> str:
    value = row.get(key)
    return value if isinstance(value, str) else ""


def _texts(row: Json) -> dict[str, str]:
    return {key: str(value) for key, value in row.items()} if isinstance(row, dict) else {}


def _value(pair: Json, shown: str) -> float:
    try:
        return float(str(pair[1] if isinstance(pair, list) else None))
    except (ValueError, IndexError):
        raise ControlError(f"{shown} answers a value that is no number; is it another program?") from None
