"""Which lines of a log mean trouble, and what may be shown of them? The first signatures of the probe `log_tail`."""

from __future__ import annotations

import re
from dataclasses import dataclass

from probes.api import Rule

LINE = 2048  # characters of a line that are searched: what a pattern can cost grows faster than the line
EXCERPT = 200  # characters of a line that are shown
HIDDEN = "[hidden]"
# https://docs.github.com/en/code-security/secret-scanning/introduction/supported-secret-scanning-patterns
SECRET = re.compile(
    r"(?i)(?P<key>(?:api[_-]?key|token|secret|passw(?:or)?d|authorization|bearer|cookie)[\"']?\s*[:= ]\s*(?:bearer |basic )?)"
    r"[\"']?[^\s\"',;&]{4,}"
    r"|(?P<scheme>[a-z][a-z0-9+.-]{1,20}://)[^\s/@]+@"
    r"|\b(?:hf_|sk-|r8_|gh[opsur]_|github_pat_|glpat-|xox[abprs]-|AKIA|AIza|eyJ)[\w.-]{6,}"
    r"|\b(?=[A-Za-z_+=-]*[0-9])[\w+=-]{32,}"
)


@dataclass(frozen=True, slots=True)
class Signature:
    """A class of trouble: the pattern of its lines (named groups are shown in the finding) and its rule."""

    pattern: re.Pattern[str]
    rule: Rule


def excerpt(text: str) -> str:
    """The beginning of a text, printable, and without anything that looks like a secret."""
    plain = "".join(c if c.isprintable() else " " for c in text).strip()
    hidden = SECRET.sub(lambda m: (m["key"] or m["scheme"] or "") + HIDDEN + ("@" if m["scheme"] else ""), plain)
    return hidden if len(hidden) <= EXCERPT else hidden[: EXCERPT - 3] + "..."


MATCH = Rule(
    "log-tail-match",
    "warning",
    "A pattern of the config matched a line of the log.",
    "1. `grep -nE PATTERN PATH | tail` shows the lines, `gpu-canary explain log_tail` this probe.\n"
    "2. Narrow the pattern in the check's `patterns:` if the line is harmless.",
)
KNOWN = {
    # https://github.com/pytorch/pytorch/blob/main/c10/cuda/CUDACachingAllocator.cpp ("capacty" was in torch 2.1)
    "cuda_oom": Signature(
        re.compile(
            r"CUDA out of memory\. Tried to allocate (?P<size>[0-9.]+ [KMGT]?i?B)"
            r"(?:.{0,4}GPU (?P<gpu>[0-9]+)(?:;| has a total capac\w+ of) (?P<capacity>[0-9.]+ [KMGT]?i?B))?"
        ),
        Rule(
            "log-tail-cuda-oom",
            "warning",
            "The application ran out of GPU memory.",
            "1. `nvidia-smi` shows who else holds memory: close it.\n"
            "2. Lower the resolution, frames or batch size; when training: gradient checkpointing, accumulation, fp16.\n"
            "3. `pipe.enable_attention_slicing()`, `pipe.vae.enable_tiling()`, `pipe.enable_model_cpu_offload()`.\n"
            "4. `export PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True` where much is reserved and little allocated.",
        ),
    ),
    "model_download_timeout": Signature(
        re.compile(r"(?:Read|Connect)Timeout.{0,400}huggingface\.co|huggingface\.co.{0,400}(?:timed out|Timeout)"),
        Rule(
            "log-tail-model-download-timeout",
            "warning",
            "A model download timed out.",
            "1. `curl -sI https://huggingface.co` tells whether the hub can be reached.\n"
            "2. `HF_HUB_DOWNLOAD_TIMEOUT=60 hf download MODEL` fetches the model before the application needs it.\n"
            "3. `HF_ENDPOINT` names a mirror, `HF_TOKEN` lifts the limits, `df -h ~/.cache/huggingface` shows the room.",
        ),
    ),
    "dtype_mismatch": Signature(
        re.compile(r"expected scalar type (?P<expected>\w+) but found (?P<found>\w+)"),
        Rule(
            "log-tail-dtype-mismatch",
            "warning",
            "Two parts of a model have different number formats.",
            "1. `git pull` the application: known scripts were fixed.\n"
            "2. Look for `text_encoder.to(weight_dtype)`: every part that is not trained needs the cast.\n"
            "3. `--mixed_precision no` trains meanwhile, slower and with more memory.",
        ),
    ),
    "db_locked": Signature(
        re.compile(r"database (?:table )?is locked"),
        Rule(
            "log-tail-db-locked",
            "warning",
            "SQLite refused a write because another process holds the database.",
            "1. `fuser -v FILE.db` shows who has it open: stop the second writer.\n"
            "2. `sqlite3 FILE.db 'PRAGMA journal_mode=WAL'` lets readers and one writer work at once.\n"
            "3. Give tests a database of their own.",
        ),
    ),
    "rate_limited": Signature(
        re.compile(
            r"(?i)429.{0,20}too many requests|too many requests|rate.?limit (?:exceeded|reached)|RateLimitError"
        ),
        Rule(
            "log-tail-rate-limited",
            "warning",
            "A service refused requests because there were too many.",
            "1. `curl -sI URL | grep -i -e retry-after -e ratelimit` shows the limit and when it ends.\n"
            "2. Back off and retry in the application; spread scheduled work.\n"
            "3. A token (`HF_TOKEN`) or a larger plan raises the limit.",
        ),
    ),
}


def signatures(known: bool, own: dict[str, str]) -> dict[str, Signature]:
    """The signatures of a check by class. Its own pattern replaces that of a known class and keeps the known remedy."""
    found = dict(KNOWN) if known else {}
    for name, pattern in own.items():
        found[name] = Signature(re.compile(pattern), KNOWN[name].rule if name in KNOWN else MATCH)
    return found
