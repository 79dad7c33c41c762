"""Where does a redirect lead, and may the request go there?"""

from __future__ import annotations

from dataclasses import replace
from urllib.parse import SplitResult, quote, urldefrag, urljoin, urlsplit

from probes.world.http import Request, Response

STATUSES = frozenset({301, 302, 303, 307, 308})
# Headers that say nothing about who asks: all that another host gets to see.
HARMLESS = frozenset({"accept", "accept-encoding", "accept-language", "content-type", "user-agent"})


def redirected(request: Request, response: Response) -> Request | None:
    """The request a redirect asks for, None when the response is none. ValueError says why it must not be sent.

    The method changes as browsers change it (https://www.rfc-editor.org/rfc/rfc9110#section-15.4). Another host, or the
    same one without TLS, gets neither credentials nor body.
    """
    location = response.headers.get("location", "")
    if response.status not in STATUSES or not location:
        return None
    target = urldefrag(urljoin(request.url, quote(location.encode("latin-1"), safe="%/:?#[]@!$&'()*+,;=~"))).url
    following = replace(request, url=target)
    to_get = response.status == 303 and request.method != "HEAD"
    if to_get or (response.status in (301, 302) and request.method == "POST"):
        headers = {k: v for k, v in request.headers.items() if not k.lower().startswith("content-")}
        following = replace(following, method="GET", body=b"", headers=headers)
    if _trusted(urlsplit(request.url), urlsplit(following.url)):
        return following
    if following.body:
        raise ValueError(f"the redirect would hand the body to {urlsplit(following.url).netloc}; use that url directly")
    harmless = {k: v for k, v in following.headers.items() if k.lower() in HARMLESS}
    return replace(following, headers=harmless, cert_file="", key_file="")


def _trusted(here: SplitResult, there: SplitResult) -> bool:
    """Is it the same server, or the same host that now insists on TLS?"""
    if here.hostname != there.hostname:
        return False
    ports = [url.port or {"http": 80, "https": 443}[url.scheme] for url in (here, there)]
    return (here.scheme == there.scheme and ports[0] == ports[1]) or (there.scheme == "https" and ports == [80, 443])
