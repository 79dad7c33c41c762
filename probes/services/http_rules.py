"""What can be wrong with an answer, and what to do about it?"""

from __future__ import annotations

from probes.api import Rule

UNREACHABLE = Rule(
    "http-unreachable",
    "critical",
    "The service gives no complete answer.",
    "1. `curl -v URL` shows where it ends: name, connection or answer.\n"
    "2. `ss -ltnp` lists what listens; `systemctl status SERVICE` or `docker ps` tells whether it runs.\n"
    "3. Inside a container 127.0.0.1 is the container itself: use the service's name or `host.docker.internal`, "
    "and let a service of the host listen beyond its loopback (`OLLAMA_HOST=172.17.0.1`, `--listen 172.17.0.1`).\n"
    "4. It runs and is silent: look for a full queue or an exhausted card in its log and with `nvidia-smi`.",
)
STATUS_WRONG = Rule(
    "http-status-wrong",
    "critical",
    "The service answers with a status that was not expected.",
    "1. `curl -i URL` shows status and body.\n"
    "2. 401 or 403: renew the token in `secret_headers:`. 404: the path moved with an upgrade. 5xx: read its log.\n"
    "3. 3xx: put the final address into `url:`. If the status is right, list it in `statuses:`.",
)
ASSERTION_FAILED = Rule(
    "http-assertion-failed",
    "critical",
    "The service answers, but not with what was expected.",
    "1. `curl -s URL | python3 -m json.tool` shows the answer; its beginning is in the result's evidence.\n"
    "2. Right status and wrong content often means a model that did not load: read the service's log.\n"
    "3. After an upgrade, compare the path or pattern in the config with the new answer.",
)
SLOW = Rule(
    "http-slow",
    "warning",
    "The answer took longer than it may.",
    "1. `gpucanary_http_phase_seconds` tells which phase it was: resolve, connect, tls, processing or transfer.\n"
    "2. processing: `nvidia-smi` and the service's queue. resolve: `resolvectl query HOST`.\n"
    "3. If the bound is too tight, raise `max_seconds:`.",
)
BODY_SIZE = Rule(
    "http-body-size",
    "warning",
    "The body is smaller or larger than it may be.",
    "1. `curl -s URL | wc -c` counts it.\n"
    "2. Too small is often an error page or a truncated file; too large a list that grew.\n"
    "3. If the size is right, change `min_bytes:` or `max_bytes:`.",
)
TLS_INVALID = Rule(
    "http-tls-invalid",
    "critical",
    "The TLS connection cannot be made or must not be trusted; no request was sent.",
    "1. `openssl s_client -connect HOST:443 -servername HOST -showcerts` shows what the server sends.\n"
    "2. Expired: renew it (`certbot renew`) and reload the server. Wrong host: use a name the certificate lists.\n"
    "3. Own authority: give its file as `ca_file:` or SSL_CERT_FILE.\n"
    "4. `unable to get local issuer`: configure the server with the full chain, intermediates included.",
)
TLS_EXPIRING = Rule(
    "http-tls-expiring",
    "warning",
    "A certificate of the chain expires soon.",
    "1. `openssl s_client -connect HOST:443 -servername HOST </dev/null | openssl x509 -noout -dates` shows the leaf's dates.\n"
    "2. `certbot renew`, or ask who issued it; then reload the server, which still holds the old one.",
)

RULES = (UNREACHABLE, STATUS_WRONG, ASSERTION_FAILED, SLOW, BODY_SIZE, TLS_INVALID, TLS_EXPIRING)
