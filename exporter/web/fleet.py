"""Which exporters are there to scrape? `GET /sd`: this one, then the config's `fleet:`.

The format is that of https://prometheus.io/docs/prometheus/latest/http_sd/
"""

from __future__ import annotations

from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import Response

from exporter.config.fleet import SELF
from exporter.web import replies
from exporter.web.service import Service
from probes.api import Json

EVERYWHERE = ("", "0.0.0.0", "[::]")  # noqa: S104  # compared, not bound


class Fleet:
    """The endpoint. `tls`: whether this exporter speaks TLS itself."""

    def __init__(self, service: Service, tls: bool) -> None:
        self._service, self._tls = service, tls

    async def groups(self, request: Request) -> Response:
        config = self._service.config
        labels: dict[str, str] = {}
        for entry in config.fleet:
            if SELF in entry.targets:
                labels |= entry.labels
        target, found = self._own(request)
        groups: list[Json] = [{"targets": [target], "labels": {**found, **labels}}]
        for entry in config.fleet:
            others: list[Json] = [other for other in entry.targets if other not in (SELF, target)]
            if others:
                groups.append({"targets": others, "labels": dict(entry.labels)})
        return replies.data(groups)

    def _own(self, request: Request) -> tuple[str, dict[str, str]]:
        """HOST:PORT of ourselves, and the labels that tell Prometheus how to ask there where it is not the usual way."""
        web = self._service.config.web
        outside = urlsplit(web.external_url)
        if outside.hostname:
            scheme, prefix = outside.scheme, outside.path
            host = f"[{outside.hostname}]" if ":" in outside.hostname else outside.hostname
            target = f"{host}:{outside.port or (443 if scheme == 'https' else 80)}"
        else:
            scheme, prefix = ("https" if self._tls else "http"), web.route_prefix
            host, _, port = web.listen_address.rpartition(":")
            # Who listens everywhere has many names: that by which we were asked is one that the asker reaches.
            name = request.url.hostname if host in EVERYWHERE else host
            shown = f"[{name}]" if name and ":" in name and not name.startswith("[") else name
            target = f"{shown}:{_port(request, port)}"
        path = f"{prefix.rstrip('/')}/metrics"
        labels = {"__scheme__": scheme} if scheme != "http" else {}
        return target, labels if path == "/metrics" else {**labels, "__metrics_path__": path}


def _port(request: Request, configured: str) -> str:
    """The port we were really given, where the config leaves the choice to the system."""
    server = request.scope.get("server")
    return str(server[1]) if server and server[1] and configured == "0" else configured
