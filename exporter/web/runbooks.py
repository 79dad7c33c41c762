"""What does an alert or a rule mean, and what is to be done? Pages that need no network, made from what comes with us.

An alert has a page written by hand, `alerts/runbooks/NAME.md`. A rule's page is made from its declaration; it leads to the
hand-written pages that name the rule (`<!-- remedies: rule-a, rule-b -->`).
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import Response

from exporter import shipped
from exporter.config.validation import nearest
from exporter.web import remedy
from exporter.web.aside import Aside
from exporter.web.service import Service
from probes.api import Rule
from probes.rules import HOUSE_RULES

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.token import Token

COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
REMEDIES = re.compile(r"<!--\s*remedies:([^>]*?)-->")
ALERT = re.compile(r"GpuCanary[A-Za-z0-9]+")
FOLDER = shipped.ALERTS / "runbooks"
SHOWN = 80  # characters of a wrong name


@dataclass(frozen=True, slots=True)
class Known:
    """A rule, and the probes that may fire it; none for those that any check can fire."""

    rule: Rule
    probes: tuple[str, ...]


class Runbooks:
    """The HTML endpoints. `html` renders a template (exporter/web/pages.py)."""

    def __init__(self, service: Service, aside: Aside, html: Callable[..., Response]) -> None:
        self._service, self._aside, self._html = service, aside, html

    async def all(self, request: Request) -> Response:
        return await self._aside(self._all, request)

    async def one(self, request: Request) -> Response:
        return await self._aside(self._one, request, request.path_params["name"])

    # -- on a thread ----------------------------------------------------------------------------------------------

    def _all(self, request: Request) -> Response:
        return self._html(request, "runbooks.html", alerts=sorted(self._pages()), groups=self._grouped())

    def _one(self, request: Request, name: str) -> Response:
        if not name:
            return self._all(request)
        pages, rules = self._pages(), self._rules()
        if name in pages:
            text = pages[name].read_text(encoding="utf-8", errors="replace")
            return self._html(request, "runbook.html", name=name, text=self._rendered(text, {*pages, *rules}))
        if name in rules:
            return self._rule(request, rules[name], pages)
        shown = "".join(c if c.isprintable() else "?" for c in name[:SHOWN])
        hint = nearest(name[:SHOWN], {*pages, *rules}).removeprefix("; did you mean ").removesuffix("?")
        return self._html(request, "runbook_absent.html", 404, name=shown, near=hint)

    def _rule(self, request: Request, known: Known, pages: Mapping[str, Path]) -> Response:
        rule = known.rule
        checks = [c.name for c in self._service.checks.values() if c.probe.name in known.probes]
        return self._html(
            request,
            "rule.html",
            rule=rule,
            probes=known.probes,
            checks=sorted(checks),
            steps=remedy.steps(rule.remedy),
            alerts=sorted(alert for alert, page in pages.items() if rule.name in _named(page)),
        )

    def _pages(self) -> dict[str, Path]:
        """By name. What was asked for is only ever looked up here: it never becomes a path."""
        return {page.stem: page for page in FOLDER.glob("*.md") if ALERT.fullmatch(page.stem)}

    def _rules(self) -> dict[str, Known]:
        probes = {**self._service.registry.probes, **{c.probe.name: c.probe for c in self._service.checks.values()}}
        known = {rule.name: Known(rule, ()) for rule in HOUSE_RULES}
        for name, probe in sorted(probes.items()):
            for rule in probe.rules:
                before = known.get(rule.name)
                known[rule.name] = Known(rule, (*(before.probes if before else ()), name))
        return known

    def _grouped(self) -> list[tuple[str, list[Rule]]]:
        groups: dict[str, list[Rule]] = {}
        for known in self._rules().values():
            groups.setdefault(", ".join(known.probes) or "any check", []).append(known.rule)
        return sorted(groups.items(), key=lambda group: (group[0] == "any check", group[0]))

    def _rendered(self, text: str, known: set[str]) -> str:
        """The page's HTML. Links lead out, within the page or to another runbook; what leads elsewhere is plain text."""
        tokens = self._markdown.parse(COMMENT.sub("", text))
        for block in tokens:
            for token in block.children or ():
                if token.type == "link_open":
                    _redirect(token, known)
        return str(self._markdown.renderer.render(tokens, self._markdown.options, {}))

    @functools.cached_property
    def _markdown(self) -> MarkdownIt:
        from markdown_it import MarkdownIt  # 2 MiB that only those pay who ask for a runbook

        return MarkdownIt("commonmark", {"html": False}).enable("table").disable("image")


def _redirect(token: Token, known: set[str]) -> None:
    target = str(token.attrs.get("href", ""))
    name = target.partition("#")[0].removesuffix(".md").removeprefix("./")
    if name in known:
        token.attrs["href"] = name
    elif not target.startswith(("https://", "http://", "#")):
        del token.attrs["href"]


def _named(page: Path) -> set[str]:
    """The rules whose remedies a hand-written page holds."""
    found = REMEDIES.findall(page.read_text(encoding="utf-8", errors="replace"))
    return {name.strip() for names in found for name in names.split(",")}
