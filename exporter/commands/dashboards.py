"""The Grafana dashboards that come with gpu-canary: for a folder, or for a Grafana that is there already."""

from __future__ import annotations

import argparse
import difflib
import json
import os
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from exporter import VERSION, shipped
from exporter.commands.rules import export
from exporter.console import Console, Mistake
from exporter.grafana import Grafana, GrafanaError, Json, Kept, location, prepared

UID = re.compile(r"[A-Za-z0-9_-]{1,40}")  # https://grafana.com/docs/grafana/latest/developers/http_api/dashboard/
OWN = ("id", "version")  # what Grafana counts by itself
DOES = {"unchanged": "the same", "new": "new", "changed": "changed", "provisioned": "left alone"}


def main(args: argparse.Namespace, console: Console) -> int:
    if args.action == "export":
        export(shipped.dashboards(), Path(args.folder), args.force, console)
        console.note("in Grafana: Dashboards, New, Import; each asks which Prometheus it is for")
        return 0
    ours = _ours(Path(args.dir) if args.dir else shipped.DASHBOARDS)
    token = _token(Path(args.token_file))
    console.redact.learn([token])
    if not UID.fullmatch(args.folder):
        raise Mistake(f"--folder {args.folder!r}: at most 40 letters, digits, - and _; gpu-canary is one")
    try:
        python = vars(args)["grafana.python"] or prepared(location(os.environ), console.note)
        with Grafana(Path(python), args.url, token, args.ca_file or "") as grafana:
            grafana.version()
            if args.action == "diff":
                return _diff(grafana, ours, args.folder, console)
            return _push(grafana, ours, args, console)
    except GrafanaError as error:
        raise Mistake(str(error)) from None


@dataclass(frozen=True, slots=True)
class Difference:
    """How one of our dashboards stands to what Grafana has under its uid."""

    uid: str
    title: str
    state: str
    """A key of DOES."""
    diff: str


def _compared(grafana: Grafana, ours: dict[str, dict[str, Json]], folder: str) -> Iterator[Difference]:
    for uid, dashboard in ours.items():
        kept = grafana.kept(uid)
        yield _difference(uid, dashboard, kept, folder)


def _difference(uid: str, dashboard: dict[str, Json], kept: Kept | None, folder: str) -> Difference:
    title = str(dashboard["title"])
    if kept is None:
        return Difference(uid, title, "new", f"--- not in Grafana\n+++ {uid}")
    there = folder if kept.provisioned else kept.folder  # who provisions also says where
    lines = difflib.unified_diff(
        _text(kept.dashboard, there), _text(dashboard, folder), f"{uid} in Grafana", uid, lineterm=""
    )
    diff = "\n".join(lines)
    state = "unchanged" if not diff else "provisioned" if kept.provisioned else "changed"
    return Difference(uid, title, state, diff)


def _text(dashboard: dict[str, Json], folder: str) -> list[str]:
    """What is compared, one line a value."""
    compared = {key: value for key, value in dashboard.items() if key not in OWN}
    return json.dumps({"folder": folder, "dashboard": compared}, indent=1, sort_keys=True).splitlines()


def _diff(grafana: Grafana, ours: dict[str, dict[str, Json]], folder: str, console: Console) -> int:
    found = list(_compared(grafana, ours, folder))
    if console.as_json:
        console.json({"folder": folder, "dashboards": [asdict(one) for one in found]})
    for one in found if not console.as_json else ():
        if one.diff:
            console.line(one.diff)
    return int(any(one.diff for one in found))


def _push(grafana: Grafana, ours: dict[str, dict[str, Json]], args: argparse.Namespace, console: Console) -> int:
    found: list[Difference] = []
    folder_is_there = grafana.has_folder(args.folder)
    if not folder_is_there and not console.as_json:
        console.line(f"folder {args.folder}: new")
    for one in _compared(grafana, ours, args.folder):
        if one.state in ("new", "changed") and not args.dry_run:
            if not folder_is_there:
                grafana.make_folder(args.folder)
                folder_is_there = True
            grafana.save(ours[one.uid], args.folder, f"gpu-canary {VERSION}")
        found.append(one)
        if not console.as_json:
            console.line(f"{one.uid}: {DOES[one.state]}")
    if console.as_json:
        console.json({"folder": args.folder, "sent": not args.dry_run, "dashboards": [asdict(one) for one in found]})
    provisioned = [one.uid for one in found if one.state == "provisioned"]
    if provisioned:
        console.trouble(
            f"{', '.join(provisioned)}: Grafana reads these from files, which would undo a push; "
            "replace the files there (`gpu-canary dashboards export DIR` writes ours)"
        )
    if args.dry_run:
        console.note("nothing was sent: --dry-run; without it, what is new or changed is")
    return int(bool(provisioned))


def _ours(folder: Path) -> dict[str, dict[str, Json]]:
    """The dashboards of a folder by uid. Mistake when there is none, or a file is none."""
    found: dict[str, dict[str, Json]] = {}
    for path in sorted(folder.glob("*.json")):
        try:
            dashboard = json.loads(path.read_bytes())
        except (OSError, ValueError, RecursionError) as error:
            raise Mistake(f"{path} is not JSON ({type(error).__name__}); export it from Grafana anew") from None
        uid = dashboard.get("uid") if isinstance(dashboard, dict) else None
        if not isinstance(uid, str) or not UID.fullmatch(uid) or not isinstance(dashboard.get("title"), str):
            raise Mistake(f"{path} is no dashboard with a uid and a title; take it out of {folder}")
        if uid in found:
            raise Mistake(f"{path} has the uid {uid} of another file; give it one of its own")
        found[uid] = dashboard
    if not found:
        raise Mistake(f"no *.json in {folder}; `gpu-canary dashboards export DIR` writes ours")
    return found


def _token(path: Path) -> str:
    """The one word in that file. Mistake."""
    try:
        token = path.expanduser().read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        raise Mistake(f"the token in {path} cannot be read; `ls -l {path}` and `file {path}` tell more") from None
    if not token or not token.isprintable() or " " in token:
        raise Mistake(f"{path} must hold one line, Grafana's token alone; `wc {path}` counts what is there")
    return token
