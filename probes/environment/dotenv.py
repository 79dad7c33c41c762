"""Does the .env file set the variables that are needed, well-formed and for its owner's eyes only?

Values are judged and forgotten: none reaches a finding, a measurement, evidence or an error.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from pydantic import Field

from probes.api import KIB, Fact, Metric, Params, Probe, Regex, Rule, World, recorded
from probes.environment.variables import SHAPES, flaw, hidden_cards, parse

LIMIT = 256 * KIB  # what is longer is no .env file
CARDS = "CUDA_VISIBLE_DEVICES"


class DotenvParams(Params):
    path: str = Field(description="The file, like `/srv/app/.env`.")
    required: tuple[str, ...] = Field((), description="Variables that must be set and not empty.")
    recommended: tuple[str, ...] = Field((), description="Variables better set, like `PYTORCH_CUDA_ALLOC_CONF`.")
    shapes: dict[str, Regex] = Field(
        default_factory=dict,
        description="Regular expressions that whole values must match, by variable. "
        f"Known without being told: {', '.join(SHAPES)}.",
    )
    allowed_mode: str = Field("600", pattern=r"^[0-7]{3}$", description="The most that the file's mode may permit.")
    owner_uid: int | None = Field(None, ge=0, description="User id that must own the file; unset allows any.")


VARIABLES = Metric("variables", "Variables that this check watches, by state.", ("path", "state"))
ABSENT = Rule(
    "dotenv-absent",
    "critical",
    "The .env file does not exist.",
    "1. `cp .env.example .env` where the application ships an example.\n2. `chmod 600 .env`, then fill it in.",
)
MISSING = Rule(
    "dotenv-variable-missing",
    "critical",
    "A required variable is not set, or empty.",
    "1. `nano PATH` and add `NAME=value`.\n"
    "2. Tokens: https://huggingface.co/settings/tokens for `HF_TOKEN`; the provider's console for other API keys.\n"
    "3. Restart the application: it reads the file when it starts.",
)
MALFORMED = Rule(
    "dotenv-variable-malformed",
    "warning",
    "A variable is set to something that cannot be right.",
    "1. `grep -n '^NAME=' PATH` shows the line: look for a cut-off token, a stray quote or a placeholder.\n"
    "2. `PYTORCH_CUDA_ALLOC_CONF` takes `option:value,option:value`, with colons.\n"
    "3. If the value is right, set the check's `shapes:` for that variable.",
)
RECOMMENDED = Rule(
    "dotenv-variable-recommended",
    "info",
    "A recommended variable is not set.",
    "1. `echo 'PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True' >> PATH` lessens fragmentation of GPU memory.",
)
CARDS_HIDDEN = Rule(
    "dotenv-gpus-hidden",
    "warning",
    "CUDA_VISIBLE_DEVICES hides cards from the application.",
    "1. `nvidia-smi -L` lists the cards.\n2. Set `CUDA_VISIBLE_DEVICES=0,1` (indices or UUIDs), or delete the line to "
    "show all.\n3. If hiding them is meant, say so with `shapes: {CUDA_VISIBLE_DEVICES: '.*'}`.",
)
EXPOSED = Rule(
    "dotenv-exposed",
    "critical",
    "Others than the owner may read or change the file with the secrets.",
    "1. `chmod 600 PATH`.\n2. Renew the tokens in it if other people use this machine.\n"
    "3. `git check-ignore PATH` must print it, or it will be committed one day.",
)
OTHER_OWNER = Rule(
    "dotenv-owner",
    "warning",
    "The file belongs to another user than it should.",
    "1. `ls -ln PATH` shows the owner.\n2. `sudo chown UID PATH` gives it to the right one.",
)
UNREADABLE = Rule(
    "dotenv-unreadable-lines",
    "warning",
    "Some lines are no assignments: what they should set is not set.",
    "1. `sed -n 'LINEp' PATH` shows a line; write `NAME=value`, quotes closed, one a line.\n"
    "2. `file PATH` tells whether it is text at all: UTF-16 from a Windows editor is not.",
)
REPEATED = Rule(
    "dotenv-repeated",
    "warning",
    "A variable is set more than once; the last one wins.",
    "1. `cut -d= -f1 PATH | sort | uniq -d` lists them, without values.\n2. Delete the lines that are out of date.",
)


def run(params: DotenvParams, world: World) -> Iterator[Fact]:
    text, stat = world.read_text(params.path, LIMIT), world.stat(params.path)
    if text is None or stat is None:
        yield ABSENT("no such file", subject=params.path)
        return
    if stat.mode & ~int(params.allowed_mode, 8):
        yield EXPOSED(f"mode {stat.mode:03o}, allowed is {params.allowed_mode}", subject=params.path)
    if params.owner_uid is not None and stat.uid != params.owner_uid:
        yield OTHER_OWNER(f"owned by user {stat.uid}, not {params.owner_uid}", subject=params.path)
    found = parse(text)
    if stat.size > LIMIT:
        yield UNREADABLE(f"{stat.size} bytes, of which {LIMIT} were read", subject=params.path)
    elif found.unreadable:
        yield UNREADABLE(f"no assignment in {_lines(found.unreadable)}", subject=params.path)
    if found.repeated:
        yield REPEATED(f"set before and again in {_lines(found.repeated)}", subject=params.path)
    yield from _judge(params, found.values)


def _judge(params: DotenvParams, values: Mapping[str, str]) -> Iterator[Fact]:
    shapes = {**SHAPES, **params.shapes}
    watched = dict.fromkeys((*params.required, *params.recommended, *(name for name in shapes if name in values)))
    states = Counter({"present": 0, "missing": 0, "malformed": 0})
    for name in watched:
        value = values.get(name, "")
        wrong = flaw(value, shapes.get(name)) if value else ""
        states["malformed" if wrong else "present" if value else "missing"] += 1
        if wrong:
            yield MALFORMED(f"{name} {wrong}", subject=name)
        elif not value and name in params.required:
            yield MISSING(f"{name} is {'empty' if name in values else 'not set'}", subject=name)
        elif not value and name in params.recommended:
            yield RECOMMENDED(f"{name} is not set", subject=name)
    for state, count in states.items():
        yield VARIABLES(count, path=params.path, state=state)
    hidden = hidden_cards(values[CARDS]) if CARDS in values and CARDS not in params.shapes else ""
    if hidden:
        yield CARDS_HIDDEN(f"{CARDS} {hidden}", subject=params.path)


def _lines(numbers: tuple[int, ...]) -> str:
    return f"line {', '.join(map(str, numbers[:5]))}" + (f" and {len(numbers) - 5} more" if numbers[5:] else "")


PROBE = Probe(
    "dotenv",
    DotenvParams,
    run,
    metrics=(VARIABLES,),
    rules=(ABSENT, MISSING, MALFORMED, RECOMMENDED, CARDS_HIDDEN, EXPOSED, OTHER_OWNER, UNREADABLE, REPEATED),
    every="5m",
    timeout="10s",
    examples=recorded(__file__),
)
