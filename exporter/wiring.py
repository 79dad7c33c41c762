"""Would anybody be told? Asked of Prometheus: are we scraped, are our rules loaded, is there a pager, what fires?"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

from exporter.config import DEFAULT_PORT
from exporter.world.control import Alert, Alertmanager, ControlError, LoadedRule, Prometheus, ScrapeTarget

PREFIX = "gpucanary_"
OURS = f"count by (job, instance) ({PREFIX}build_info)"
INTEGRATION = re.compile(r"^\s+(?:- )?([a-z0-9]+)_configs:", re.MULTILINE)  # of a receiver: webhook, email, ...
WEBHOOK = re.compile(r"^\s+(?:- )?url: *[\"']?([^\s\"']+)", re.MULTILINE)
INBOX, HIDDEN = "/api/v1/inbox", "<secret>"
UNPAGED = f'{PREFIX}finding{{rule="pager-not-configured"}} == 1'
SHOWN = 20  # alerts
RELOAD = "reload Prometheus (`kill -HUP $(pidof prometheus)`)"


@dataclass(frozen=True, slots=True)
class Answer:
    """A plain answer to one question; `todo` says what to do about it, unless it is `ok`."""

    question: str
    state: Literal["ok", "warn", "bad"]
    detail: str
    todo: str = ""


def wiring(prometheus: Prometheus, reach: Callable[[str], Alertmanager] = Alertmanager) -> tuple[Answer, ...]:
    """Every answer, in the order in which trouble travels. `reach` opens the door to an Alertmanager's URL."""
    try:
        known = {(s.labels.get("job"), s.labels.get("instance")) for s in prometheus.query(OURS)}
        targets = [t for t in prometheus.targets() if _is_ours(t, known)]
        rules = [rule for rule in prometheus.rules() if PREFIX in rule.query]
        managers = prometheus.alertmanagers()
        unpaged = bool(prometheus.query(UNPAGED))
    except ControlError as error:
        return (Answer("Does Prometheus answer?", "bad", str(error), f"`curl {prometheus.shown}/-/ready` must say so"),)
    return (*_scraped(targets, bool(known)), _loaded(rules), *_paged(managers, reach, unpaged), *_firing(rules))


def _is_ours(target: ScrapeTarget, known: set[tuple[str | None, str | None]]) -> bool:
    """A target that is down has no series any more: then it is known by its port or its job's name."""
    pool, instance = target.labels.get("job", ""), target.labels.get("instance", "")
    named = re.search(r"gpu.?canary", pool, re.IGNORECASE) is not None
    return (pool, instance) in known or named or _port(target.url) == DEFAULT_PORT


def _port(url: str) -> int | None:
    try:
        return urlsplit(url).port
    except ValueError:
        return None


def _scraped(targets: Sequence[ScrapeTarget], answered: bool) -> Iterator[Answer]:
    question = "Are we scraped?"
    if not targets:
        entry = f"{{job_name: gpu-canary, static_configs: [{{targets: ['HOST:{DEFAULT_PORT}']}}]}}"
        yield Answer(
            question,
            "bad",
            "no target of this Prometheus is a gpu-canary",
            f"add `{entry}` to `scrape_configs:` and {RELOAD}",
        )
    for target in targets:
        if target.health == "up":
            yield Answer(question, "ok", f"yes, {target.url}")
        elif target.health == "unknown":
            yield Answer(question, "warn", f"{target.url} was not scraped yet", "ask again after one scrape interval")
        else:
            todo = f"`curl {target.url}` from Prometheus's host; `gpu-canary serve --web.listen-address` decides who may connect"
            yield Answer(question, "bad", f"{target.url} is {target.health}: {target.error[:300]}", todo)
    if targets and not answered and all(target.health == "up" for target in targets):
        yield Answer(
            question, "warn", f"no {PREFIX}build_info arrived", "does another program answer there? `curl` the target"
        )


def _loaded(rules: Sequence[LoadedRule]) -> Answer:
    question = "Are our rules loaded?"
    alerting = [rule for rule in rules if rule.kind == "alerting"]
    broken = [rule for rule in rules if rule.health == "err"]
    if broken:
        first = f"{broken[0].name} of {broken[0].file}: {broken[0].error[:300]}"
        return Answer(
            question, "bad", f"{len(broken)} cannot be evaluated; {first}", "`promtool check rules` that file"
        )
    if not alerting:
        todo = f"`gpu-canary rules export DIR` writes ours; add them to `rule_files:` and {RELOAD}"
        return Answer(question, "bad", f"no alerting rule of this Prometheus asks for {PREFIX} series", todo)
    files = sorted({rule.file for rule in alerting})
    return Answer(question, "ok", f"yes, {len(alerting)} alerting rules from {', '.join(files[:5])}")


def _paged(managers: Sequence[str], reach: Callable[[str], Alertmanager], unpaged: bool) -> Iterator[Answer]:
    question = "Is there a pager?"
    if not managers:
        todo = f"add `alerting: {{alertmanagers: [{{static_configs: [{{targets: ['HOST:9093']}}]}}]}}` and {RELOAD}"
        yield Answer(question, "bad", "this Prometheus sends its alerts to nobody", todo)
    for url in managers:
        try:
            config = reach(url).config()
        except ControlError as error:
            detail = f"alerts go to {url}, which we could not ask: {error}"
            todo = "ask from where it is known; in compose: `docker compose exec exporter gpu-canary status --prometheus http://prometheus:9090`"
            yield Answer(question, "warn", detail, todo)
            continue
        sends = _sends(config, unpaged)
        if sends == "pager":
            detail = f"yes, {url} has a receiver that sends; `gpu-canary inject disk-low --severity critical` tries it"
            yield Answer(question, "ok", detail)
        elif sends == "inbox":
            detail = f"no, {url} only sends to an exporter's inbox, its status page: nobody is called"
            yield Answer(
                question, "warn", detail, "docs/paging.md: give the receivers `page` and `ticket` a way to you"
            )
        else:
            todo = "add `webhook_configs:` or `email_configs:` to a receiver; `amtool check-config` proves the file"
            yield Answer(question, "bad", f"{url} has only receivers that send nothing", todo)


def _sends(config: str, unpaged: bool) -> Literal["pager", "inbox", ""]:
    """Whom does that Alertmanager tell? Newer ones hide the URLs of webhooks; then what the inbox itself says counts."""
    kinds = set(INTEGRATION.findall(config))
    if kinds != {"webhook"}:
        return "pager" if kinds else ""
    urls = WEBHOOK.findall(config)
    if unpaged and HIDDEN in urls:
        return "inbox"
    return "inbox" if urls and all(url.partition("?")[0].endswith(INBOX) for url in urls) else "pager"


def _firing(rules: Sequence[LoadedRule]) -> Iterator[Answer]:
    question = "What fires?"
    firing = [alert for rule in rules for alert in rule.alerts if alert.state == "firing"]
    if not firing:
        pending = sum(alert.state == "pending" for rule in rules for alert in rule.alerts)
        yield Answer(question, "ok", f"nothing{f', {pending} pending' if pending else ''}")
    for alert in firing[:SHOWN]:
        critical = alert.labels.get("severity") == "critical"
        yield Answer(question, "bad" if critical else "warn", _told(alert), _advice(alert))
    if firing[SHOWN:]:
        yield Answer(question, "warn", f"and {len(firing) - SHOWN} more", "Prometheus's page /alerts lists them all")


def _told(alert: Alert) -> str:
    where = ", ".join(alert.labels[key] for key in ("instance", "check", "rule", "subject") if alert.labels.get(key))
    said = alert.annotations.get("summary") or alert.annotations.get("description") or ""
    test = "a test, injected: " if alert.labels.get("injected") else ""
    return f"{test}{alert.name} ({where or 'everywhere'}){f': {said[:300]}' if said else ''}"


def _advice(alert: Alert) -> str:
    notes = alert.annotations
    return (notes.get("remedy") or notes.get("runbook_url") or "`gpu-canary status` tells what to do")[:600]
