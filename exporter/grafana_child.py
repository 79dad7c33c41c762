"""What does Grafana answer? Started by exporter/grafana.py in an environment that has grafana-client, never imported.

One JSON object a line: first whom to ask, {"protocol", "host", "port", "path", "token", "timeout", "verify", "proxies"},
then calls, {"call": "dashboard.get_dashboard", "arguments": {...}}. Each is answered by {"result": ...} or by
{"trouble": KIND, "status": HTTP status or 0, "detail": TEXT}.
"""

from __future__ import annotations

import json
import os
import re
import sys
from operator import attrgetter
from typing import Any

import niquests
from grafana_client import GrafanaApi
from grafana_client.client import GrafanaException, GrafanaTimeoutError

MEMORY = 2 << 30  # an answer without end shall not take the machine along


def main() -> None:
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a library prints is no answer
    _bound_memory()
    api = _api(json.loads(sys.stdin.readline()))
    for line in sys.stdin:
        answers.write(json.dumps(_answer(api, json.loads(line))) + "\n")
        answers.flush()


def _bound_memory() -> None:
    if sys.platform != "win32":
        import resource

        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY if hard < 0 else min(MEMORY, hard), hard))


def _api(whom: dict[str, Any]) -> Any:
    """Not GrafanaApi.from_url: it makes http://host/grafanaapi of http://host/grafana, and drops the brackets of IPv6."""
    api = GrafanaApi(
        whom["token"],
        protocol=whom["protocol"],
        host=whom["host"],
        port=whom["port"],
        url_path_prefix=whom["path"],
        timeout=whom["timeout"],
        verify=whom["verify"],
    )
    api.client.s.trust_env = whom["proxies"]
    api.client.s.max_redirects = 0  # Grafana's API has none, and a POST would arrive as a GET
    return api


def _answer(api: Any, wanted: dict[str, Any]) -> dict[str, Any]:
    try:
        return {"result": attrgetter(wanted["call"])(api)(**wanted["arguments"])}
    except GrafanaTimeoutError as error:
        return _trouble("timeout", error)
    except GrafanaException as error:
        return {"trouble": "status", "status": error.status_code, "detail": str(error.message)}
    except niquests.exceptions.SSLError as error:
        return _trouble("tls", error)
    except niquests.exceptions.TooManyRedirects as error:
        return _trouble("redirect", error)
    except (niquests.exceptions.JSONDecodeError, AttributeError) as error:  # of HTML it makes a str, and asks that on
        return _trouble("language", error)
    except niquests.exceptions.ConnectionError as error:
        return _trouble("timeout" if "timed out" in str(error) else "silence", error)
    except Exception as error:
        return _trouble("other", error)


def _trouble(kind: str, error: BaseException) -> dict[str, Any]:
    system = re.search(r"\[Errno -?\d+\] ([^')]+)", str(error))  # the words of the system, which are wrapped four times
    detail = system[1] if system else f"{type(error).__name__}: {error}"
    return {"trouble": kind, "status": 0, "detail": detail}


if __name__ == "__main__":
    main()
