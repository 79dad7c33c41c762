"""What does a person see? The status page, the page of one check, and the parts of both that are replaced live."""

from __future__ import annotations

import functools
import json
import logging
import time
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from starlette.requests import Request
from starlette.responses import Response

from exporter import VERSION
from exporter.config.validation import nearest
from exporter.result import Check, Result
from exporter.units import duration, human
from exporter.web import chart, inbox, links, remedy, replies, view
from exporter.web.api import shown_params
from exporter.web.aside import Aside
from exporter.web.assets import Assets
from exporter.web.service import Service
from probes.api import Json
from probes.params import Duration, parse_bytes

if TYPE_CHECKING:
    from jinja2 import Environment

log = logging.getLogger("gpu_canary.web")

TEMPLATES = Path(__file__).parent / "templates"
RECENT = 30  # runs in a strip
ALL_RECENT = 120  # runs behind the lines of a check's own page
TABLED = 15  # runs told one by one there
ASKED = 50  # checks a page may ask for in one fragment; more, and it gets them all
_seconds = next(part.func for part in get_args(Duration) if hasattr(part, "func"))
TROUBLES = 30  # told on the status page; the rest is counted


class Pages:
    """The HTML endpoints. Everything is rendered off the event loop: it reads history."""

    def __init__(self, service: Service, aside: Aside, assets: Assets) -> None:
        self._service, self._aside, self._assets = service, aside, assets

    async def status(self, request: Request) -> Response:
        return await self._aside(self._status, request, "status.html", None)

    async def status_fragment(self, request: Request) -> Response:
        """The top of the status page, and the checks of `?check=`; all of them when none or too many are named."""
        named = request.query_params.getlist("check")
        return await self._aside(self._status, request, "status_parts.html", named if len(named) <= ASKED else None)

    async def check(self, request: Request) -> Response:
        return await self._aside(self._check, request, "check.html")

    async def check_fragment(self, request: Request) -> Response:
        return await self._aside(self._check, request, "check_parts.html")

    # -- on a thread ----------------------------------------------------------------------------------------------

    def _status(self, request: Request, template: str, named: list[str] | None) -> Response:
        wanted = set(named) if named else None
        cards = [self._card(c, wanted is None or c.name in wanted) for c in list(self._service.checks.values())]
        drawn = [card for card in cards if wanted is None or card.check.name in wanted]
        mail = inbox.shown(self._service.inbox)
        return self.html(
            request,
            template,
            summary=view.summary(cards, mail is not None and mail.serious),
            families=view.by_family(drawn),
            limit=TROUBLES,
            inbox=mail,
            fragment="fragment/status",
        )

    def _check(self, request: Request, template: str) -> Response:
        name = request.path_params["name"]
        check = self._service.checks.get(name)
        if check is None:
            hint = nearest(name, self._service.checks)
            return self.html(request, "absent.html", 404, name=name, hint=hint.removeprefix("; "))
        runs = self._runs(name, ALL_RECENT)
        latest = self._service.latest(name)
        card = view.card(
            check,
            latest,
            runs,
            self._service.running().get(name),
            self._service.next_runs().get(name),
            tiles=None,
        )
        return self.html(
            request,
            template,
            card=card,
            strip=chart.strip(runs[-60:]),
            runs=runs[: -TABLED - 1 : -1],
            params={name: _told(check, name, value) for name, value in shown_params(check, self._service).items()},
            fragment=f"fragment/{links.of_check(name)}",
        )

    def _card(self, check: Check, drawn: bool) -> view.Card:
        """A check's card; one that is not drawn needs no past, only what it says of the whole."""
        name = check.name
        runs = self._runs(name, RECENT) if drawn else []
        running, due = self._service.running().get(name), self._service.next_runs().get(name)
        return view.card(check, self._service.latest(name), runs, running, due, view.TILES if drawn else 0)

    def _runs(self, name: str, limit: int) -> list[Result]:
        try:
            return self._service.runs(name, 0.0, limit)
        except Exception as error:  # a damaged history must not take the page along: what is wrong now is in memory
            log.warning("the page shows no past: history cannot be read: %s", error)
            return []

    def html(self, request: Request, template: str, status: int = 200, **content: object) -> Response:
        """A rendered template; call it off the event loop."""
        web = self._service.config.web
        text = self._templates.get_template(template).render(
            content,
            root=links.top(request.scope),
            assets=self._assets.versions,
            host=self._service.machine,
            version=VERSION,
            now=time.time(),
            grafana=self._service.config.grafana_url,
            lifecycle=web.enable_lifecycle,
            maintenance=self._service.maintenance(),
            injected=self._service.injected(),
            preparation=self._service.preparation(),
        )
        return Response(text.encode("utf-8", "replace"), status, replies.FRESH, "text/html")

    @functools.cached_property
    def _templates(self) -> Environment:
        from jinja2 import Environment, FileSystemLoader, StrictUndefined  # 3 MiB that only those pay who look

        made = Environment(
            loader=FileSystemLoader(TEMPLATES),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        made.filters |= {
            "duration": duration,
            "iso": lambda when: datetime.fromtimestamp(when).astimezone().isoformat(timespec="seconds"),
            "clock": lambda when: f"{datetime.fromtimestamp(when):%Y-%m-%d %H:%M:%S}",
            "link": links.of_check,
            "anchor": _anchor,
            "human": human,
            "pieces": remedy.pieces,
        }
        return made


def _anchor(name: str) -> str:
    """An id for the element of a check: names may hold characters that ids should not."""
    return "check-" + "".join(c if c.isalnum() else f"_{ord(c):x}_" for c in name)


def _told(check: Check, name: str, value: Json) -> str:
    """A param's value on one line, sizes and times in their units."""
    readers = {getattr(part, "func", None) for part in type(check.params).model_fields[name].metadata}
    if isinstance(value, int | float) and readers & {parse_bytes, _seconds}:
        return human("_bytes" if parse_bytes in readers else "_seconds", value)
    if isinstance(value, dict):
        return ", ".join(f"{key}: {_flat(item)}" for key, item in value.items())
    return _flat(value)


def _flat(value: Json) -> str:
    if isinstance(value, list):
        return ", ".join(map(_flat, value)) or "not set"
    if value is None or value == "":
        return "not set"
    return str(value) if isinstance(value, str | int | float) else json.dumps(value)
