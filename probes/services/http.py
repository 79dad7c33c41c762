"""Does the service answer, with what is expected, in time, and with a certificate that is still good?"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

from probes.api import Evidence, Fact, Finding, Metric, Probe, World, recorded
from probes.services import http_rules as rules
from probes.services.assertions import SHOWN, failures, found, shown
from probes.services.http_params import DAY, HttpParams
from probes.world.http import Response

PHASES = ("resolve", "connect", "tls", "processing", "transfer")
PHASES_WITHOUT_TLS = ("resolve", "connect", "processing", "transfer")
EXCERPT = 2000  # characters of the body that join a result with findings

DURATION = Metric("duration_seconds", "Time for the whole answer, redirects included.", better="lower")
PHASE = Metric("phase_seconds", "Time of each phase of the last request.", ("phase",))
STATUS = Metric("status_code", "Status of the answer.")
BODY = Metric("body_bytes", "Size of the body after decompression.")
REDIRECTS = Metric("redirects", "Redirects that were followed.")
VERSION = Metric("version_info", "HTTP version of the answer.", ("version",), kind="info")
NOT_AFTER = Metric(
    "tls_not_after_timestamp_seconds", "End of validity: leaf, and earliest of the chain.", ("position",)
)
VERIFIED = Metric("tls_verified", "Is the certificate trusted and the server's own? 0 where `verify: false`.")


def run(params: HttpParams, world: World) -> Iterator[Fact]:
    response = world.http(params.request())
    host = urlsplit(params.url).netloc
    if not response.error and (not 200 <= response.status <= 999 or response.seconds < 0):
        raise ValueError(f"status {response.status} after {response.seconds} s without an error cannot be true")
    yield from _measured(response)
    if response.error:
        rule = {"tls": rules.TLS_INVALID, "redirects": rules.STATUS_WRONG, "too_large": rules.BODY_SIZE}
        yield rule.get(response.error, rules.UNREACHABLE)(response.detail + _leaf(response), subject=host)
        if response.error == "too_large":
            yield from _judged(params, response, host)
        return
    text = response.body.decode("utf-8", "replace")
    findings = [*_judged(params, response, host), *_asserted(params, response, text)]
    left = min((c.not_after for c in response.certificates), default=math.inf) - world.now()
    if left < params.minimum_validity:
        findings.append(rules.TLS_EXPIRING(f"{left / DAY:.1f} days left{_leaf(response)}", subject=host))
    yield from findings
    if findings and text:
        yield Evidence("body", text[:EXCERPT])


def _measured(response: Response) -> Iterator[Fact]:
    """What the answer weighs, as far as there was one."""
    if response.status:
        yield STATUS(response.status)
    if response.version:
        yield VERSION(version=response.version)
    if not response.error:
        yield DURATION(response.seconds)
        for phase in PHASES if response.verified is not None else PHASES_WITHOUT_TLS:
            yield PHASE(getattr(response.phases, phase), phase=phase)
        yield BODY(len(response.body))
        yield REDIRECTS(response.redirects)
    if response.verified is not None:
        yield VERIFIED(response.verified)
    if response.certificates:
        yield NOT_AFTER(response.certificates[0].not_after, position="leaf")
        yield NOT_AFTER(min(c.not_after for c in response.certificates), position="earliest")


def _judged(params: HttpParams, response: Response, host: str) -> Iterator[Finding]:
    """The answer as a whole."""
    if not {str(response.status), f"{response.status // 100}xx"} & set(params.statuses):
        yield rules.STATUS_WRONG(f"{response.status}, expected {' or '.join(params.statuses)}", subject=host)
    if len(response.body) < params.min_bytes:
        yield rules.BODY_SIZE(f"{len(response.body)} bytes, expected {params.min_bytes} at least", subject=host)
    if params.max_seconds is not None and response.seconds > params.max_seconds:
        yield rules.SLOW(f"{response.seconds:.3f} s, expected {params.max_seconds:g} s at most", subject=host)


def _asserted(params: HttpParams, response: Response, text: str) -> Iterator[Finding]:
    """Every assertion that does not hold, under its own name."""
    failed = rules.ASSERTION_FAILED
    for name, pattern in params.header_matches.items():
        value = response.headers.get(name.lower())
        if value is None or not found(pattern, value):
            yield failed("no such header" if value is None else f"{shown(value)} does not match", f"header {name}")
    for n, pattern in enumerate(params.body_matches):
        if not found(pattern, text):
            yield failed(f"the body does not contain {pattern[:SHOWN]}", f"body_matches[{n}]")
    for n, pattern in enumerate(params.body_not_matches):
        if found(pattern, text):
            yield failed(f"the body contains {pattern[:SHOWN]}", f"body_not_matches[{n}]")
    if params.json_values:
        yield from (failed(seen, f"json {path[:SHOWN]}") for path, seen in failures(params.json_values, response.body))


def _leaf(response: Response) -> str:
    """The leaf certificate in words, after what is said about it."""
    if not response.certificates:
        return ""
    leaf = response.certificates[0]
    until = time.strftime("%Y-%m-%d", time.gmtime(leaf.not_after))
    return f"; {shown(leaf.subject)}, issued by {shown(leaf.issuer)}, valid until {until}"


PROBE = Probe(
    "http",
    HttpParams,
    run,
    metrics=(DURATION, PHASE, STATUS, BODY, REDIRECTS, VERSION, NOT_AFTER, VERIFIED),
    rules=rules.RULES,
    every="30s",
    timeout="15s",
    examples=recorded(__file__),
)
