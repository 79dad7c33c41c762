"""What was typed, and which command answers? Words to calls: flags stand here, commands in `commands/`."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import traceback
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NoReturn, TypeAlias

from exporter import VERSION
from exporter.cli_benchmarks import benchmark_commands
from exporter.console import Console, Mistake, escaped

OK, FINDINGS, USAGE, OUR_FAULT = 0, 1, 2, 3
EPILOG = """\
Without a command, or with flags alone, it serves: `gpu-canary --config.file=canary.yml`.

exit codes:
  0  all is well, or does not apply to this machine
  1  findings: something is degraded or failed
  2  usage or config: the message says what to change
  3  nobody knows: our own error, or we could not look (blind), or the run was put off

Every flag --section.name that takes a value may come from the environment: --web.listen-address is
GPU_CANARY_WEB_LISTEN_ADDRESS. Where a config file says the same, the flag wins.
"""


if TYPE_CHECKING:
    Actions: TypeAlias = argparse._SubParsersAction["_Parser"]  # argparse has no public name for it


class _Parser(argparse.ArgumentParser):
    """Errors end with the nearest spelling and where to read on."""

    def __init__(self, **options: object) -> None:
        options.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(allow_abbrev=False, **options)  # type: ignore[arg-type]  # argparse's own options

    def _check_value(self, action: argparse.Action, value: object) -> None:
        if action.choices is not None and value not in action.choices:
            known = [str(choice) for choice in action.choices]
            raise argparse.ArgumentError(action, f"{value!r} is unknown{_hint(str(value), known)}")

    def unknown(self, word: str) -> NoReturn:
        options = [name for action in self._actions for name in action.option_strings]
        name = word.partition("=")[0]
        self.error(f"unknown {'flag' if word.startswith('-') else 'argument'} {escaped(name)!r}{_hint(name, options)}")

    def error(self, message: str) -> NoReturn:
        self.exit(USAGE, f"{self.prog}: {message}; `{self.prog} --help` tells all\n")


def _hint(word: str, known: Sequence[str]) -> str:
    from exporter.config.validation import nearest  # 0.2 s of imports that only a mistake pays

    return nearest(word, known) or f"; expected one of {', '.join(known)}"


def parser(environ: Mapping[str, str] = os.environ) -> argparse.ArgumentParser:
    """The whole command line. `environ` holds the flags' twins."""
    top = _Parser(prog="gpu-canary", description="Is this machine fit for its GPU work?", epilog=EPILOG)
    top.add_argument("--version", action="version", version=f"gpu-canary {VERSION}")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True, parser_class=_Parser)
    flags = _Flags(environ)

    def command(name: str, does: str, *shared: _Parser) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=does, description=f"{does[0].upper()}{does[1:]}.", parents=shared)
        added.set_defaults(chosen=added)
        return added

    serve = command("serve", "run the exporter until SIGTERM; SIGHUP reloads the config", flags.source, flags.storage)
    flags.of_serve(serve)
    run = command("run", "run checks once, exactly as the exporter does", flags.source, flags.storage, flags.output)
    _of_run(run)
    benchmark_commands(lambda name, does: command(name, does, flags.source, flags.storage, flags.output))
    listed = command("list", "list the probes there are, or the configured checks", flags.source, flags.output)
    listed.add_argument("--checks", action="store_true", help="the configured checks instead of the probes")
    explain = command("explain", "tell all about a probe (params, metrics, rules, remedies) or a rule", flags.output)
    explain.add_argument("probe", metavar="PROBE", help="a probe, or a rule that a finding named")
    status = command("status", "ask the running exporter what is wrong now", flags.source, flags.storage, flags.output)
    status.add_argument("--url", help="where the exporter answers, when it is not found by itself")
    flags.of_status(status)
    health = command("healthcheck", "exit with 0 while the exporter here answers, else 1", flags.storage, flags.output)
    health.add_argument("--url", help="where the exporter answers, when it is not found by itself")
    _of_maintenance(command("maintenance", "mute the alerts while somebody works here", flags.storage, flags.output))
    _of_inject(command("inject", "try the pager with a finding that is made up", flags.storage, flags.output))
    _of_export(command("rules", "write the shipped alert rules and runbooks to a folder"), flags)
    boards = command("dashboards", "write the shipped Grafana dashboards to a folder, or to a Grafana")
    flags.of_grafana(_of_export(boards, flags, "push", "diff"))
    _of_config(command("config", "check a config file, or print its JSON Schema"), flags)
    init = command("init", "write a commented config for what this machine has", flags.places, flags.output)
    init.add_argument("--output", default="gpu-canary.yml", metavar="FILE", help="default: %(default)s; - is stdout")
    init.add_argument("--force", action="store_true", help="replace FILE when it exists")
    verify = command("verify", "prove that a probe keeps the contract (probes/testing.py)", flags.output)
    verify.add_argument("probe", metavar="MODULE:PROBE", help="an importable module and the probe's name in it")
    flags.of_demo(command("demo", "serve a small simulated fleet, to see dashboards and alerts without a GPU"))
    command("version", "print versions", flags.output)
    return top


class _Flags:
    """Flags that several commands share, as parents of their parsers."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self.output, self.places, self.storage = (_Parser(add_help=False) for _ in range(3))
        self.output.add_argument("--json", action="store_true", help="print JSON")
        self._add(self.places, "--path.procfs", "DIR", "the host's /proc, where a container has it mounted")
        self._add(
            self.places, "--path.rootfs", "DIR", "the host's root, likewise; disks are named as the host names them"
        )
        locks = "where benchmarks of several gpu-canary take turns, a file for each card; default: /run/lock and /tmp"
        self._add(self.places, "--path.locks", "DIR", locks)
        self.source = _Parser(add_help=False, parents=[self.places])
        self._add(self.source, "--config.file", "FILE", "the config; without one it is built from what is found here")
        self._add(self.source, "--config.profile", "NAME", "lay FILE's overlay over it: config.NAME.yml")
        default = "$XDG_STATE_HOME/gpu-canary, or what systemd's StateDirectory= says"
        self._add(self.storage, "--storage.path", "DIR", f"where history is kept; default: {default}")

    def _add(self, to: argparse.ArgumentParser, name: str, metavar: str, text: str, *choices: str) -> None:
        twin = "GPU_CANARY_" + name.strip("-").replace(".", "_").replace("-", "_").upper()
        known = choices or None
        to.add_argument(name, default=self._environ.get(twin), metavar=metavar, choices=known, help=text)

    def of_serve(self, serve: argparse.ArgumentParser) -> None:
        self._add(serve, "--web.listen-address", "HOST:PORT", "where to listen; default: 127.0.0.1:19835")
        self._add(serve, "--web.config.file", "FILE", "TLS and users, in the format of Prometheus's exporter-toolkit")
        self._add(serve, "--web.external-url", "URL", "how people reach us from outside")
        self._add(serve, "--grafana-url", "URL", "Grafana's address; alerts link to it")
        self._add(serve, "--web.route-prefix", "PATH", "prefix of all our paths; default: /")
        self._add(serve, "--storage.retention.time", "30d", "how long runs are kept; default: 30d")
        self._add(serve, "--storage.retention.size", "1GiB", "how large history may grow; default: 1GiB")
        levels = ("debug", "info", "warn", "error")
        self._add(serve, "--log.level", "LEVEL", f"{', '.join(levels)}; default: info", *levels)
        self._add(serve, "--log.format", "FORMAT", "logfmt or json; default: logfmt", "logfmt", "json")
        serve.add_argument(
            "--web.enable-lifecycle", action="store_true", default=None, help="allow reload and run now by POST"
        )
        serve.add_argument(
            "--web.enable-inbox",
            action="store_true",
            default=None,
            help="show what Alertmanager sends to /api/v1/inbox",
        )
        serve.add_argument("--config.check", action="store_true", help="check the config and exit")
        serve.add_argument("--version", action="version", version=f"gpu-canary {VERSION}")

    def of_status(self, status: argparse.ArgumentParser) -> None:
        asked = "ask that Prometheus whether we are scraped and alerted on"
        status.add_argument("--prometheus", metavar="URL", help=asked)
        self._add(status, "--prometheus.user", "NAME", "the user it knows us as")
        for secret, what in (("password", "that user's password"), ("bearer", "a bearer token for it")):
            self._add(status, f"--prometheus.{secret}-file", "FILE", f"the file with {what}")
        self._add(status, "--prometheus.ca-file", "FILE", "the authority that signed its certificate")
        self._add(status, "--prometheus.client-cert-file", "FILE", "our certificate for it")
        self._add(
            status, "--prometheus.client-key-file", "FILE", "that certificate's key, where it is a file of its own"
        )

    def of_grafana(self, actions: Actions) -> None:
        does = {
            "push": "bring the dashboards to a Grafana",
            "diff": "print what a push would change; the exit code is 1 when anything",
        }
        for name, text in does.items():
            told = f"{text[0].upper()}{text[1:]}."
            action = actions.add_parser(name, help=text, description=told, parents=[self.output])
            action.add_argument(
                "dir", nargs="?", metavar="DIR", help="a folder of dashboards; default: the shipped ones"
            )
            action.add_argument("--url", required=True, help="Grafana's address, with its sub-path where it has one")
            action.add_argument("--token-file", required=True, metavar="FILE", help="a service account's token")
            action.add_argument("--folder", default="gpu-canary", metavar="UID", help="default: %(default)s")
            action.add_argument("--ca-file", metavar="FILE", help="the authority that signed its certificate")
            own = "a Python that has grafana-client; default: one is prepared, once, apart from this one"
            self._add(action, "--grafana.python", "FILE", own)
            if name == "push":
                action.add_argument("--dry-run", action="store_true", help="say what would be sent, and send nothing")
            action.set_defaults(chosen=action)

    def of_demo(self, demo: argparse.ArgumentParser) -> None:
        first = "where the first host listens, the next ones on the ports above; 0 takes any; default: 127.0.0.1:19835"
        self._add(demo, "--web.listen-address", "HOST:PORT", first)
        self._add(demo, "--web.external-url", "URL", "how people reach the first host from outside")
        self._add(demo, "--log.level", "LEVEL", "default: info", "debug", "info", "warn", "error")
        told = "a file, or one that is shipped: %(default)s (things move), healthy or sick (nothing does)"
        demo.add_argument("--scenario", default="scenario", metavar="FILE", help=told)
        demo.add_argument(
            "--hosts", default="", metavar="NAMES", help="only these of the scenario, with commas between"
        )
        demo.add_argument(
            "--speed", type=float, default=1.0, metavar="N", help="the scenario's time passes N times as fast"
        )
        past = "write that much past as OpenMetrics instead of serving, for promtool tsdb create-blocks-from"
        demo.add_argument("--backfill", metavar="48h", help=past)
        demo.add_argument(
            "--step", metavar="280s", help="of --backfill; default: %(metavar)s, as far apart as graphs allow"
        )
        demo.add_argument("--output", metavar="FILE", help="of --backfill; default: stdout")
        self._add(demo, "--grafana-url", "URL", "Grafana's address; alerts link to it")


def _of_run(run: argparse.ArgumentParser) -> None:
    run.add_argument(
        "name", metavar="CHECK|PROBE|FAMILY", help="a check's name wins over a probe's, that over a family's"
    )
    run.add_argument(
        "--param", action="append", default=[], metavar="KEY=VALUE", help="repeatable; lists and mappings as JSON"
    )
    run.add_argument("--interpreter", metavar="NAME", help="short for --param interpreter=NAME")
    run.add_argument("--timeout", metavar="30s", help="longest run of each check")
    run.add_argument("--record", action="store_true", help="add the results to history")


def _of_maintenance(maintenance: argparse.ArgumentParser) -> None:
    maintenance.add_argument("action", choices=("on", "off", "show"), metavar="on|off|show")
    maintenance.add_argument("--for", dest="length", metavar="2h", help="how long; it ends by itself")
    maintenance.add_argument("--why", metavar="TEXT", help="what is being done, for whoever looks")


def _of_inject(inject: argparse.ArgumentParser) -> None:
    inject.add_argument("rule", metavar="RULE", nargs="?", help="a rule's name; `explain PROBE` lists those of a probe")
    inject.add_argument("--check", metavar="CHECK", help="the check it is said of; default: the probe's name")
    inject.add_argument("--severity", choices=("critical", "warning", "info"), help="default: the rule's own")
    inject.add_argument("--subject", default="injected", metavar="TEXT", help="default: %(default)s")
    inject.add_argument(
        "--for", dest="length", default="10m", metavar="10m", help="how long, at most; default: %(default)s"
    )
    inject.add_argument("--off", action="store_true", help="end it now: RULE, or all that is injected")


def _of_export(command: argparse.ArgumentParser, flags: _Flags, *others: str) -> Actions:
    words = "|".join(("export", *others))
    actions: Actions = command.add_subparsers(dest="action", metavar=words, required=True, parser_class=_Parser)
    export = actions.add_parser("export", help="write the files", parents=[flags.output])
    export.add_argument("folder", metavar="DIR")
    export.add_argument("--force", action="store_true", help="replace files in DIR that differ")
    export.set_defaults(chosen=export)
    return actions


def _of_config(config: argparse.ArgumentParser, flags: _Flags) -> None:
    actions = config.add_subparsers(dest="action", metavar="check|schema", required=True, parser_class=_Parser)
    check = actions.add_parser("check", help="print every error of a config file", parents=[flags.output])
    check.add_argument("file", metavar="FILE")
    check.add_argument("--config.profile", metavar="NAME", help="with the overlay of that profile")
    schema = actions.add_parser("schema", help="print the JSON Schema for editors", parents=[flags.output])
    for action in (check, schema):
        action.set_defaults(chosen=action)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; its exit code (see EPILOG)."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or (words[0].startswith("-") and words[0] not in ("-h", "--help", "--version")):
        words = ["serve", *words]
    args, strange = parser().parse_known_args(words)
    if strange:
        args.chosen.unknown(strange[0])
    return _answer(args, Console(as_json=getattr(args, "json", False)))


def _answer(args: argparse.Namespace, console: Console) -> int:
    try:
        command = importlib.import_module(f"exporter.commands.{args.command.replace('-', '_')}")
        return int(command.main(args, console))
    except Mistake as mistake:
        console.trouble(str(mistake))
        return USAGE
    except KeyboardInterrupt:
        return 130  # 128 + SIGINT, as every shell does it
    except (
        BrokenPipeError
    ):  # `gpu-canary list | head`; see https://docs.python.org/3/library/signal.html#note-on-sigpipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except Exception:
        console.trouble(f"{traceback.format_exc()}\nThis is our fault, not yours: please report it with these lines.")
        return OUR_FAULT
