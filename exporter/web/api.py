"""What does a program get? The JSON API, documented in docs/api.md; names are those of Check and Result."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from exporter import VERSION
from exporter.config.document import ConfigError
from exporter.config.validation import nearest
from exporter.findings import as_data
from exporter.result import Check, Latest, Target
from exporter.schedule import Running
from exporter.web import links, replies
from exporter.web.aside import Aside
from exporter.web.service import Service
from probes.api import Json

RESULTS_LIMIT = 1000
LIFECYCLE_OFF = "start the exporter with --web.enable-lifecycle (web.enable_lifecycle in the config) to allow this"


class Api:
    """The endpoints under /api/v1 and /-/."""

    def __init__(self, service: Service, aside: Aside, reloaded: Callable[[], None]) -> None:
        self._service, self._aside, self._reloaded = service, aside, reloaded

    # -- health and life ------------------------------------------------------------------------------------------

    async def healthy(self, request: Request) -> Response:
        return replies.word("gpu-canary is healthy.")

    async def ready(self, request: Request) -> Response:
        if self._service.ready():
            return replies.word("gpu-canary is ready.")
        checks = self._service.checks.values()
        missing = [c.name for c in checks if c.lane == "light" and self._service.latest(c.name) is None]
        more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        return replies.word(f"gpu-canary is not ready: no result yet of {', '.join(missing[:5])}{more}.", 503)

    async def reload(self, request: Request) -> Response:
        if not self._service.config.web.enable_lifecycle:
            return replies.error(403, f"{LIFECYCLE_OFF}; or `kill -HUP` it")
        try:
            late = await self._aside(self._service.reload, seconds=60.0)
        except ConfigError as error:
            message = f"the old config goes on; correct this and reload again:\n{error}"
            return replies.error(500, self._service.redact(message))
        self._reloaded()
        return replies.data({"reloaded": True, "needs_restart": list(late)})

    # -- checks ---------------------------------------------------------------------------------------------------

    async def checks(self, request: Request) -> Response:
        running, due = self._service.running(), self._service.next_runs()
        listed: list[Json] = [
            _brief(check, self._service.latest(name), running.get(name), due.get(name))
            for name, check in sorted(self._service.checks.items())
        ]
        mute = await self._aside(self._service.maintenance)
        told: Json = None
        if mute:
            told = {"until": mute.until, "since": mute.since, "why": self._service.redact(mute.why)}
        return replies.data({"version": VERSION, "now": time.time(), "maintenance": told, "checks": listed})

    async def check(self, request: Request) -> Response:
        check = self._service.checks.get(request.path_params["name"])
        if check is None:
            return self._unknown(request.path_params["name"])
        latest = self._service.latest(check.name)
        running, due = self._service.running().get(check.name), self._service.next_runs().get(check.name)
        content = dict(_brief(check, latest, running, due))
        content["params"] = dict(shown_params(check, self._service))
        content["targets"] = [_target(target) for target in check.targets]
        content["last"] = dict(as_data(latest.last)) if latest else None
        content["measured"] = dict(as_data(latest.measured)) if latest and latest.measured else None
        return replies.data(content)

    async def run(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name not in self._service.checks:
            return self._unknown(name)
        if not self._service.config.web.enable_lifecycle:
            return replies.error(403, f"{LIFECYCLE_OFF}; or type `gpu-canary run {name}`")
        if not self._service.run_now(name):
            return replies.error(409, f"{name} is running or waiting for its lane; its result comes by itself")
        if "text/html" in request.headers.get("accept", ""):  # the button of a page without scripts
            return RedirectResponse(links.top(request.scope) + links.of_check(name), 303)
        return replies.data({"check": name, "queued": True}, 202)

    # -- results --------------------------------------------------------------------------------------------------

    async def results(self, request: Request) -> Response:
        given = request.query_params
        for name in given:
            if name not in ("check", "since", "limit"):
                hint = nearest(name, ("check", "since", "limit"))
                return replies.error(400, f"unknown parameter {name!r}{hint}; known: check, since, limit")
        if "check" not in given:
            return replies.error(400, "say which check: /api/v1/results?check=NAME; /api/v1/checks lists them")
        if given["check"] not in self._service.checks:
            return self._unknown(given["check"])
        since, limit = _since(given.get("since", "0")), _limit(given.get("limit", "100"))
        if since is None:
            return replies.error(400, "since is Unix time in seconds, like 1767225600")
        if limit is None:
            return replies.error(400, f"limit is a whole number from 1 to {RESULTS_LIMIT}")
        runs = await self._aside(self._service.runs, given["check"], since, limit)
        return replies.data({"check": given["check"], "results": [dict(as_data(run)) for run in runs]})

    def _unknown(self, name: str) -> Response:
        hint = nearest(name, self._service.checks) or "; /api/v1/checks lists them all"
        return replies.error(404, f"there is no check {name!r}{hint}")


def shown_params(check: Check, service: Service) -> Mapping[str, Json]:
    """A check's params for people: Secret fields are masked by pydantic, secrets within plain texts by us."""
    plain = check.params.model_dump(mode="json")
    return {name: _redacted(value, service) for name, value in plain.items()}


def _redacted(value: Json, service: Service) -> Json:
    if isinstance(value, str):
        return service.redact(value)
    if isinstance(value, list):
        return [_redacted(item, service) for item in value]
    if isinstance(value, dict):
        return {service.redact(key): _redacted(item, service) for key, item in value.items()}
    return value


def _brief(check: Check, latest: Latest | None, running: Running | None, due: float | None) -> dict[str, Json]:
    last = latest.last if latest else None
    return {
        "name": check.name,
        "probe": check.probe.name,
        "family": check.family,
        "title": check.probe.title,
        "every": check.every,
        "timeout": check.timeout,
        "objective": check.objective,
        "outcome": last.outcome if last else None,
        "skip": {"class": last.skip[0], "reason": last.skip[1]} if last and last.skip else None,
        "started": last.started if last else None,
        "duration": last.duration if last else None,
        "since": latest.since if latest else None,
        "succeeded": latest.succeeded if latest else None,
        "failures": latest.failures if latest else 0,
        "next_run": due,
        "running": {"since": running.since, "ratio": running.ratio, "eta": running.eta} if running else None,
    }


def _target(target: Target) -> Json:
    return {
        "metric": target.metric,
        "at_least": target.at_least,
        "at_most": target.at_most,
        "severity": target.severity,
        "labels": dict(target.labels),
        "quantile": target.quantile,
        "runs": target.runs if target.quantile is not None else None,
    }


def _since(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) and number >= 0 else None


def _limit(text: str) -> int | None:
    if not (text.isascii() and text.isdigit() and len(text) < 6):
        return None
    return int(text) if 1 <= int(text) <= RESULTS_LIMIT else None
