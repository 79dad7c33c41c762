"""What do the generated pages say? Reference, commands, the list of alerts, remedies within runbooks (`make docs`)."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml
from prometheus_client.parser import text_string_to_metric_families

from exporter import history_probe, inbox_probe
from exporter.about import Own
from exporter.cli import EPILOG, parser
from exporter.commands.explain import params
from exporter.exposition import Exposition
from exporter.history_probe import UNWRITTEN
from exporter.live import live_series
from exporter.registry import load, metric_names
from exporter.result import Check, Comparison, Expectation, Latest, Result, Target
from exporter.schedule import Running
from exporter.shipped import ALERTS
from probes import BUILTIN
from probes.api import FAMILIES, HOUSE_RULES, Energy, Metric, Probe, Rule

DOCS = Path(__file__).parent
MARK = "<!-- Written by `make docs` from the declarations in the code; changes belong there. -->\n"


REMEDIES = re.compile(r"(<!-- remedies: ([^>]+) -->\n).*?(<!-- end -->)", re.DOTALL)
LIST = re.compile(r"(<!-- alerts -->\n).*?(<!-- end -->)", re.DOTALL)


def pages() -> dict[Path, str]:
    """Every generated page and its text; of runbooks, what stands between the marks."""
    written = {DOCS / "reference.md": "\n".join(reference()), DOCS / "commands.md": "\n".join(commands())}
    listed = "\n".join((*alerts(), ""))
    page = (DOCS / "alerts.md").read_text(encoding="utf-8")
    written[DOCS / "alerts.md"] = LIST.sub(lambda found: f"{found[1]}{listed}\n{found[2]}", page)
    return {**written, **dict(runbooks(ALERTS / "runbooks"))}


def table(heads: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    """A Markdown table; nothing at all when it has no row."""
    lines = ["| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in row) + " |" for row in rows]
    if lines:
        yield from ("", "| " + " | ".join(heads) + " |", "|" + "---|" * len(heads), *lines)


def labelled(name: str, labels: Iterable[str]) -> str:
    shown = ",".join(labels)
    return f"`{name}{{{shown}}}`" if shown else f"`{name}`"


# -- reference.md ---------------------------------------------------------------------------------------------------


def reference() -> Iterator[str]:
    probes = load().probes
    yield from ("# Probes, metrics, rules", "", MARK)
    yield "`gpu-canary explain PROBE` prints the same for one probe, examples included. Every series of a check carries"
    yield "the label `check` besides those named here."
    for family in filter(BUILTIN.get, BUILTIN):
        yield from ("", f"## {family}", "", FAMILIES[family])
        for stem in BUILTIN[family]:
            yield from of_probe(probes[stem])
    yield from ("", "## Series of every check, and of the exporter itself", "")
    yield "Besides these there are prometheus_client's `process_*` series."
    yield from table(("series", "type", "what it says"), sorted(house_series()))
    yield from ("", "## Rules of the house", "", "Any check can fire these.")
    for rule in HOUSE_RULES:
        yield from of_rule(rule)
    yield from ("", "## Checks that nobody configures", "")
    yield "`history` looks after the exporter's own file; `inbox`, with `--web.enable-inbox`, after what Alertmanager sends."
    own = (("history", (history_probe.SIZE,)), ("inbox", (inbox_probe.ALERTS, inbox_probe.WATCHDOG)))
    rows = ((labelled(f"gpucanary_{name}_{m.name}", m.labels), kind(m), m.help) for name, ms in own for m in ms)
    yield from table(("series", "type", "what it says"), rows)
    for rule in (history_probe.UNWRITTEN, inbox_probe.NO_PAGER):
        yield from of_rule(rule)
    yield ""


def of_probe(probe: Probe[Any]) -> Iterator[str]:
    lane = "an idle GPU of its own" if probe.needs.idle else f"lane `{probe.needs.lane}`"
    yield from ("", f"### {probe.name}", "", f"{probe.title} Every {probe.every}, for at most {probe.timeout}; {lane}.")
    rows = (
        (f"`{name}`", typed, f"`{default}`" if default else "", about) for name, typed, default, about in params(probe)
    )
    yield from table(("param", "type", "default", "what it says"), rows)
    names = zip(metric_names([probe]), probe.metrics, strict=True)
    yield from table(("series", "type", "what it says"), ((labelled(n, m.labels), kind(m), m.help) for n, m in names))
    for rule in probe.rules:
        yield from of_rule(rule)


def kind(metric: Metric) -> str:
    shown = {"events": "counter", "info": "info"}.get(metric.kind, metric.kind)
    return f"{shown}, {metric.better} is better" if metric.better else shown


def of_rule(rule: Rule) -> Iterator[str]:
    yield from ("", f"**`{rule.name}`** ({rule.severity}): {rule.summary}", "", rule.remedy)


def house_series() -> Iterator[tuple[str, str, str]]:
    """What a scrape holds besides measurements: read from the scrape of one check that has everything."""
    probe = load().probes["disk"]
    metric = probe.metrics[0]
    target = Target(metric.name, at_least=0.0, at_most=1.0, labels={"path": "/"})
    check = Check("disk", probe, probe.params(), 60.0, 10.0, (target,), objective=0.99)
    skipped = Result("disk", probe.name, 1.0, 0.1, "skipped", skip=("deferred", "lane_busy"))
    compared = (Comparison(metric.name, (("path", "/"),), "ok", 60, 1.0, 0.0, 0.0),)
    expected = (Expectation(metric.name, (("path", "/"),), 1.0, 1.0),)
    facts = (metric(1, path="/"),)
    used = (Energy(0, "GPU-1", 1.0),)
    measured = Result(
        "disk", probe.name, 2.0, 0.1, "ok", facts, comparisons=compared, expectations=expected, energy=used
    )
    own = Own((probe.rules[0],), "", "")
    own.about.lanes, own.about.next_runs = {"light": (0, 16)}, {"disk": 1.0}
    own.about.held = {"gpu:0": 0.0}
    exposition = Exposition(own.blocks, lambda: live_series({"disk": Running(1.0, 0.5, 1.0)}))
    exposition.update(replace(check, name="put-off"), Latest.first(skipped))
    exposition.update(check, Latest.first(measured))
    text = exposition.plain().decode()
    exposition.close()
    others = set(metric_names([probe]))
    for family in text_string_to_metric_families(text):
        if family.name not in others and not family.name.startswith("process_"):
            counted = "_total" if family.type == "counter" else ""
            labels = sorted(set(family.samples[0].labels) - {"le"})
            yield labelled(family.name + counted, labels), family.type, family.documentation


# -- alerts.md ------------------------------------------------------------------------------------------------------


def alerts() -> Iterator[str]:
    """A table for each rule file, and one of the alerts that wait for their metric."""
    for path in sorted(ALERTS.glob("*.yml"), key=lambda path: (path.stem != "gpucanary", path.stem)):
        groups = yaml.safe_load(path.read_text(encoding="utf-8")).get("groups", ())
        rows = [of_alert(rule) for group in groups for rule in group["rules"] if "alert" in rule]
        if rows:
            yield from ("", f"### {path.name}")
            yield from table(("alert", "severity", "after", "what it says"), rows)
    planned = yaml.safe_load((ALERTS / "planned.yml").read_text(encoding="utf-8"))["planned"]
    yield from ("", "### Planned", "", "No series says this yet; a test fails when one does and the alert is missing.")
    yield from table(("alert", "waits for", "why"), ((x["alert"], f"`{x['metric']}`", x["why"]) for x in planned))


def of_alert(rule: Mapping[str, Any]) -> tuple[str, str, str, str]:
    page = f"[{rule['alert']}](../alerts/runbooks/{rule['alert']}.md)"
    return page, rule["labels"]["severity"], rule.get("for", ""), rule["annotations"]["summary"]


# -- runbooks -------------------------------------------------------------------------------------------------------


def runbooks(folder: Path) -> Iterator[tuple[Path, str]]:
    """Every runbook with marks, the remedies of the rules they name written between them."""
    rules = {rule.name: rule for rule in known_rules()}
    for page in sorted(folder.glob("*.md")):
        text = page.read_text(encoding="utf-8")
        if REMEDIES.search(text):
            yield page, REMEDIES.sub(lambda found: with_remedies(found, rules), text)


def known_rules() -> Iterator[Rule]:
    """Those of the registry, and those of the checks that the exporter brings along."""
    yield from load().rules()
    yield UNWRITTEN


def with_remedies(found: re.Match[str], rules: Mapping[str, Rule]) -> str:
    names = [name.strip() for name in found[2].split(",")]
    unknown = [name for name in names if name not in rules]
    if unknown:
        raise SystemExit(
            f"{found[0].splitlines()[0]}: no rule is called {', '.join(unknown)}; `gpu-canary explain PROBE`"
        )
    lines = [line for name in names for line in of_rule(rules[name])]
    return "\n".join((found[1].rstrip(), *lines, "", found[3]))


# -- commands.md ----------------------------------------------------------------------------------------------------


def commands() -> Iterator[str]:
    yield from ("# Commands", "", MARK)
    yield from ("```text", EPILOG.strip(), "```")
    yield from of_parser(parser({}))
    yield ""


def of_parser(command: argparse.ArgumentParser, does: str = "") -> Iterator[str]:
    below: list[tuple[argparse.ArgumentParser, str]] = []
    rows = []
    for action in command._actions:  # argparse has no public list of them
        if isinstance(action, argparse._SubParsersAction):
            helps = {choice.dest: choice.help for choice in action._choices_actions}
            below.extend((child, helps.get(name) or "") for name, child in action.choices.items())
        elif not isinstance(action, argparse._HelpAction | argparse._VersionAction):
            shown = action.metavar if isinstance(action.metavar, str) else ""
            names = ", ".join(action.option_strings)
            about = (action.help or "").replace("%(default)s", str(action.default))
            rows.append((f"`{names} {shown}`".replace(" `", "`").replace("` ", "`"), about))
    if command.prog.count(" "):
        yield from ("", f"## {command.prog}", "", command.description or f"{does.capitalize()}.")
        yield from table(("argument", "what it does"), rows)
    for child, help_of_child in below:
        yield from of_parser(child, help_of_child)


if __name__ == "__main__":
    for page, written in pages().items():
        page.write_text(written, encoding="utf-8")
