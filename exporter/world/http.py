"""What does a server answer? One request on a new connection, through libcurl; the only importer of pycurl.

Nothing is kept between requests but idle handles, for the parsed CA bundle that they may hold.
"""

from __future__ import annotations

import errno
import math
import os
import socket
import threading
import time
from collections import defaultdict
from contextlib import suppress
from dataclasses import replace
from typing import Protocol

import pycurl

from exporter import VERSION
from exporter.world.answer import Body, explain, head, phases
from exporter.world.redirects import redirected
from exporter.world.tls import NATIVE, authorities, certificates, readable
from exporter.world.token import Token
from probes.api import Blind
from probes.world.http import HttpError, Request, Response

# pycurl has no names for these two. https://curl.se/libcurl/c/CURLOPT_QUICK_EXIT.html: without it a resolver that hangs
# holds `perform` and `close` for as long as it hangs.
CA_CACHE_TIMEOUT, QUICK_EXIT = 321, 322
CA_CACHE_SECONDS = 60  # a bundle that was replaced is seen after this long; libcurl's default is a day
IDLE_HANDLES = 16  # per CA bundle
OUR_LIMITS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

ERRORS: dict[int, HttpError] = {
    pycurl.E_COULDNT_RESOLVE_HOST: "resolve",
    pycurl.E_COULDNT_CONNECT: "unreachable",
    pycurl.E_OPERATION_TIMEDOUT: "timeout",
    pycurl.E_WRITE_ERROR: "too_large",
    **dict.fromkeys((pycurl.E_GOT_NOTHING, pycurl.E_SEND_ERROR, pycurl.E_RECV_ERROR, pycurl.E_PARTIAL_FILE), "reset"),
    **dict.fromkeys((pycurl.E_SSL_CONNECT_ERROR, pycurl.E_PEER_FAILED_VERIFICATION, pycurl.E_SSL_CIPHER), "tls"),
    **dict.fromkeys((pycurl.E_SSL_ISSUER_ERROR, pycurl.E_SSL_INVALIDCERTSTATUS, 98), "tls"),  # 98: CURLE_SSL_CLIENTCERT
}
UNTRUSTED = frozenset({pycurl.E_PEER_FAILED_VERIFICATION, pycurl.E_SSL_ISSUER_ERROR, pycurl.E_SSL_INVALIDCERTSTATUS})
OUR_FILES = frozenset({pycurl.E_SSL_CACERT_BADFILE, pycurl.E_SSL_CERTPROBLEM})
OUR_FAULT = frozenset(
    {
        pycurl.E_BAD_FUNCTION_ARGUMENT,
        pycurl.E_FAILED_INIT,
        pycurl.E_OUT_OF_MEMORY,
        pycurl.E_UNKNOWN_OPTION,
        pycurl.E_URL_MALFORMAT,
    }
)

MARKS = (pycurl.NAMELOOKUP_TIME, pycurl.CONNECT_TIME, pycurl.APPCONNECT_TIME, pycurl.STARTTRANSFER_TIME)
VERSIONS = {1: "1.0", 2: "1.1", 3: "2", 30: "3"}  # https://curl.se/libcurl/c/CURLINFO_HTTP_VERSION.html
REFUSED: int = pycurl.SOCKET_BAD

_idle: defaultdict[str, list[pycurl.Curl]] = defaultdict(list)


class Address(Protocol):
    """What libcurl is about to connect to."""

    family: int
    socktype: int
    protocol: int


def fetch(request: Request, token: Token) -> Response:
    """The server's answer, after at most `follow_redirects` redirects and `request.timeout` seconds in all.

    Raises Aborted when the token fires: at once, except that a name is resolved to its end or to the timeout. Blind when
    a certificate file of ours cannot be used.
    """
    ends = time.monotonic() + request.timeout
    hop, seconds, redirects = request, 0.0, 0
    while True:
        answer = _exchange(hop, max(ends - time.monotonic(), 0.001), token)
        seconds += answer.seconds
        if redirects:
            answer = replace(answer, seconds=seconds, redirects=redirects)
        if answer.error or not request.follow_redirects:
            return answer
        try:
            following = redirected(hop, answer)
        except ValueError as why:
            return replace(answer, error="redirects", detail=f"redirected to where we do not follow: {why}")
        if following is None:
            return answer
        if redirects == request.follow_redirects:
            return replace(answer, error="redirects", detail=f"still redirected after {redirects} redirects")
        hop, redirects = following, redirects + 1


def _exchange(request: Request, seconds: float, token: Token) -> Response:
    """One hop. Only a handle whose transfer ended well is kept: an error may have left a resolver thread behind."""
    token.check()
    secure = request.url.startswith("https:")
    bundle = authorities(request.ca_file) if secure and request.verify else ""
    # One millisecond more than the token has left, so that a deadline is seen as the token's and not as the server's.
    milliseconds = math.ceil(min(seconds, token.remaining() + 0.001) * 1000)
    handle = _take(bundle)
    transfer = _Transfer(request)
    kept = False
    try:
        transfer.prepare(handle, milliseconds)
        if secure:
            _secure(handle, request, bundle)
        code, message = transfer.perform(handle, token)
        token.check()
        response = transfer.response(handle, code, message)
        kept = response.error is None
        return response
    finally:
        if kept and len(_idle[bundle]) < IDLE_HANDLES:
            handle.reset()  # lets go of the callbacks, and so of the body
            _idle[bundle].append(handle)
        else:
            handle.close()


def _take(bundle: str) -> pycurl.Curl:
    try:
        return _idle[bundle].pop()
    except IndexError:
        return pycurl.Curl()


def _secure(handle: pycurl.Curl, request: Request, bundle: str) -> None:
    handle.setopt(pycurl.OPT_CERTINFO, 1)
    handle.setopt(pycurl.SSL_SESSIONID_CACHE, 0)
    handle.setopt(pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_2TLS)
    if request.verify:
        if bundle == NATIVE:
            handle.setopt(pycurl.SSL_OPTIONS, pycurl.SSLOPT_NATIVE_CA)
        elif os.path.isdir(bundle):
            handle.unsetopt(pycurl.CAINFO)  # or libcurl reads its built-in bundle too
            handle.setopt(pycurl.CAPATH, bundle)
        else:
            handle.setopt(pycurl.CAINFO, bundle)
        handle.setopt(CA_CACHE_TIMEOUT, CA_CACHE_SECONDS)
    else:
        handle.setopt(pycurl.SSL_VERIFYPEER, 0)
        handle.setopt(pycurl.SSL_VERIFYHOST, 0)
    if request.cert_file:
        handle.setopt(pycurl.SSLCERT, readable(request.cert_file))
        handle.setopt(pycurl.SSLKEY, readable(request.key_file or request.cert_file))
        handle.setopt(pycurl.SSLKEYPASSWD, "")  # or OpenSSL asks for it on the terminal


class _Transfer:
    """One request on one handle, and how another thread ends it."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.body = Body(request.limit)
        self.head: list[bytes] = []
        self._sockets: list[socket.socket] = []
        self._lock = threading.Lock()
        self._interrupted = False
        self._our_limit: OSError | None = None

    def prepare(self, handle: pycurl.Curl, milliseconds: int) -> None:
        """Everything about the request that is not TLS."""
        for option, value in (
            (pycurl.URL, self.request.url),
            (pycurl.PROTOCOLS, pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS),
            (pycurl.PROXY, ""),  # none, whatever the environment says
            (pycurl.TIMEOUT_MS, milliseconds),
            (pycurl.NOSIGNAL, 1),
            (QUICK_EXIT, 1),
            (pycurl.FRESH_CONNECT, 1),
            (pycurl.FORBID_REUSE, 1),
            (pycurl.DNS_CACHE_TIMEOUT, 0),
            (pycurl.ACCEPT_ENCODING, "gzip, deflate"),
            (pycurl.USERAGENT, f"gpu-canary/{VERSION}"),
            (pycurl.OPENSOCKETFUNCTION, self._open),
            (pycurl.HEADERFUNCTION, self.head.append),
            (pycurl.WRITEFUNCTION, self.body.write),
        ):
            handle.setopt(option, value)
        _method(handle, self.request)

    def perform(self, handle: pycurl.Curl, token: Token) -> tuple[int, str]:
        """libcurl's code (0 when all went well) and message. OSError when this process ran out of sockets."""
        forget = token.on_cancel(self._interrupt)
        try:
            handle.perform()
            return 0, ""
        except pycurl.error as error:
            if self._our_limit is not None:
                raise self._our_limit from error
            return int(error.args[0]), str(error.args[1])
        finally:
            forget()
            with self._lock:
                for each in self._sockets:
                    each.close()

    def response(self, handle: pycurl.Curl, code: int, message: str) -> Response:
        """What was collected, with what libcurl knows about it."""
        request = self.request
        secure = request.url.startswith("https:")
        status = handle.getinfo(pycurl.RESPONSE_CODE)
        resolved, connected, shaken, begun = (handle.getinfo(mark) for mark in MARKS)
        total = handle.getinfo(pycurl.TOTAL_TIME)
        # Without TLS no hands are shaken; without an answer libcurl still notes when it would have begun.
        spent, last = phases((resolved, connected, shaken if secure else connected, begun if status else 0.0), total)
        error = _error(handle, code, request, message) if code else None if status >= 200 else "protocol"
        message = message or f"the last status was {status}"
        return Response(
            status=status if status >= 200 else 0,
            headers=head(self.head),
            body=bytes(self.body.data),
            seconds=total,
            phases=spent,
            version=VERSIONS.get(handle.getinfo(pycurl.INFO_HTTP_VERSION), ""),
            url=request.url,
            certificates=certificates(handle.getinfo_raw(pycurl.INFO_CERTINFO)) if secure else (),
            verified=False if code in UNTRUSTED else request.verify if shaken else None,
            error=error,
            detail=explain(error, request, last, handle.getinfo(pycurl.OS_ERRNO), message) if error else "",
        )

    def _open(self, purpose: int, address: Address) -> socket.socket | int:
        """libcurl duplicates the socket; ours stays, so that another thread can shut the connection down safely."""
        try:
            made = socket.socket(address.family, address.socktype, address.protocol)
        except OSError as error:
            self._our_limit = error if error.errno in OUR_LIMITS else None
            return REFUSED
        with self._lock:
            self._sockets.append(made)
            return REFUSED if self._interrupted else made

    def _interrupt(self) -> None:
        with self._lock:
            self._interrupted = True
            for each in self._sockets:
                with suppress(OSError):  # it is not connected, or no longer: nothing to end
                    each.shutdown(socket.SHUT_RDWR)


def _method(handle: pycurl.Curl, request: Request) -> None:
    """Method, headers and body. In libcurl's list `Name;` sends an empty header, and `Name:` none."""
    lines = [f"{name}: {value}" if value else f"{name};" for name, value in request.headers.items()]
    if request.method == "HEAD":
        handle.setopt(pycurl.NOBODY, 1)
    elif request.body or request.method != "GET":
        if request.body or request.method in ("POST", "PUT", "PATCH"):
            handle.setopt(pycurl.POSTFIELDS, request.body)
            given = {name.lower() for name in request.headers}
            lines += [f"{name}:" for name in ("Content-Type", "Expect") if name.lower() not in given]
        handle.setopt(pycurl.CUSTOMREQUEST, request.method)
    handle.setopt(pycurl.HTTPHEADER, lines)


def _error(handle: pycurl.Curl, code: int, request: Request, message: str) -> HttpError:
    """Whose fault is it? The server's is returned; Blind or RuntimeError when it is ours."""
    if code in OUR_FILES or (code == pycurl.E_BAD_FUNCTION_ARGUMENT and request.cert_file):  # a key that stays locked
        raise Blind("no_source", f"{message}; see {request.ca_file or 'the CA bundle'} {request.cert_file}".rstrip())
    if code in OUR_FAULT:
        raise RuntimeError(f"libcurl refused the request to {request.url}: {message}")
    if code == pycurl.E_COULDNT_CONNECT and handle.getinfo(pycurl.OS_ERRNO) == errno.ECONNREFUSED:
        return "refused"
    return ERRORS.get(code, "protocol")
