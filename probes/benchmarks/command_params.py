"""How is the probe `command` told what to run, and where the figures are in what it says?"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from probes.api import Json, Params, Regex, Secret

NAME = r"[A-Za-z][A-Za-z0-9_.-]{0,59}"
PATH = re.compile(r"([^.\[\]]+|\[[0-9]+\])(\.[^.\[\]]+|\[[0-9]+\])*")


def checked_path(path: str) -> str:
    """The path itself. ValueError unless it reads like `results[0].seconds`."""
    if path and not PATH.fullmatch(path):
        raise ValueError(f"{path!r} is not a path; write it like seconds, vram.peak or results[0].seconds")
    return path


class Figure(Params):
    json_path: Annotated[str, AfterValidator(checked_path)] = Field(
        "",
        description="Where the number is in the JSON, like `results[0].seconds`: the whole output, or what "
        "stands there from the last line on that begins with a brace.",
    )
    regex: Regex = Field(
        "",
        description="Pattern; of its last match the first group, or else the whole, is the number. Colours are left out, and "
        "what a progress bar writes over itself is a line each.",
    )
    scale: float = Field(
        1.0, gt=0, allow_inf_nan=False, description="What the number is multiplied by, to base units: 1e9 for GB."
    )

    @model_validator(mode="after")
    def _has_one_pattern(self) -> Figure:
        if bool(self.json_path) == bool(self.regex):
            raise ValueError("give one of json_path and regex")
        return self


class CommandParams(Params):
    command: tuple[str, ...] = Field(
        (),
        description="The program and its arguments, without a shell; empty: nothing is configured, and nothing runs.",
    )
    interpreter: str = Field(
        "",
        description="Python whose environment the program runs in, as if activated: a name of `interpreters:`, a path, or "
        "`auto`. Empty: none, the program runs as it is.",
    )
    directory: str = Field("", description="Absolute working directory; `~` is home. Empty: a temporary one.")
    environ: Mapping[str, str] = Field({}, description="Variables it gets besides the few that any worker gets.")
    secret_environ: Mapping[str, Secret] = Field({}, description="The same, of values that are shown nowhere.")
    device: Literal["auto", "cuda", "cpu"] = Field(
        "auto",
        description="What it works on. With a card, that card alone is visible to it, taken, idle and watched; what needs "
        "none, like most plugins, waits for none with `cpu`.",
    )
    gpu: str = Field("", description="Index or UUID of the card; empty for the first.")
    answers: Literal["program", "nagios"] = Field(
        "program", description="`nagios`: exit codes 0 to 3 and performance data as monitoring plugins give them."
    )
    figures: Mapping[Annotated[str, Field(pattern=f"^{NAME}$")], Figure] = Field(
        {},
        max_length=50,
        description="Numbers in what it says, by name. One that is not there is a finding. Besides, it may append rows to the "
        'file that `$GPU_CANARY_ROWS` names: `{"kind": "fact", "metric": "loss", "value": 0.07}`.',
    )
    file: str = Field(
        "", description="JSON or text file that it writes, in `directory`; figures are read there, not in its output."
    )

    @model_validator(mode="after")
    def _is_whole(self) -> CommandParams:
        if self.command and not self.command[0]:
            raise ValueError("the program has no name")
        if any("\0" in text for text in (*self.command, *self.environ, *self.environ.values(), self.directory)):
            raise ValueError("no text may hold a NUL")
        if any(not name or "=" in name for name in (*self.environ, *self.secret_environ)):
            raise ValueError("a variable's name is not empty and holds no `=`")
        if self.directory and not self.directory.startswith(("/", "~")):
            raise ValueError("`directory` is absolute, or begins with ~")
        if self.file and not self.directory and not self.file.startswith("/"):
            raise ValueError("`file` needs a `directory`")
        return self

    def sent(self, expanded: str) -> Mapping[str, Json]:
        """What the worker gets; `expanded` is the directory."""
        secrets = {name: value.get_secret_value() for name, value in self.secret_environ.items()}
        return {
            "command": list(self.command),
            "interpreter": self.interpreter,
            "directory": expanded,
            "environ": {**self.environ, **secrets},
            "file": self.file,
            "figures": {name: figure.model_dump(mode="json") for name, figure in self.figures.items()},
        }
