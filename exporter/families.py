"""How does a number become exposition text? By prometheus_client, once for each line; then only the number is new.

That library spends 8 us on a line, nearly all of it on names and labels that stay the same from run to run. So its
output is kept as a template for as long as a family has the same rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from prometheus_client import generate_latest
from prometheus_client.core import Metric
from prometheus_client.utils import floatToGoString

PREFIX = "gpucanary_"

Labels = tuple[tuple[str, str], ...]
Row = tuple[str, Labels]  # what follows the family's name ("" or _bucket, _sum, _count), and the labels
Rows = tuple[Row, ...]
Blocks = dict[str, tuple[bytes, bytes]]  # family -> (HELP and TYPE lines, sample lines)

ONE: Rows = (("", ()),)  # the rows of a family of one sample without labels of its own
written: Callable[[float], str] = lru_cache(4096)(floatToGoString)  # most numbers are 0, 1 or what they were before


@dataclass(frozen=True, slots=True)
class Family:
    """One metric family as text format 0.0.4 names it: counters end in `_total`, infos are gauges that end in `_info`."""

    name: str
    documentation: str
    rows: Rows
    values: Sequence[float]
    type: Literal["gauge", "counter", "histogram"] = "gauge"

    def metric(self, labels: Labels = ()) -> Metric:
        """The library's own object, for its exposition. `labels` come before those of the rows."""
        family = Metric(
            self.name.removesuffix("_total") if self.type == "counter" else self.name, self.documentation, self.type
        )
        for (suffix, own), value in zip(self.rows, self.values, strict=True):
            family.add_sample(self.name + suffix, dict((*labels, *own)), value)
        return family


def gauge(name: str, documentation: str, value: float) -> Family:
    """A gauge of one sample."""
    return Family(f"{PREFIX}{name}", documentation, ONE, (float(value),))


@dataclass(frozen=True, slots=True)
class _Learnt:
    """What the library prints for a family with these rows, with places for the constant label and for each number."""

    rows: Rows
    header: bytes
    template: str


SUBJECT = "\x00subject\x00"  # stands for the value of the constant label; no label value holds a NUL
_learnt: dict[tuple[str, Rows], _Learnt] = {}  # shared by all subjects: a thousand checks, one template
LEARNT_LIMIT = 20_000


class Renderer:
    """Renders the families of one subject; `label` and `subject` are the constant label that comes first, if any."""

    def __init__(self, label: str = "", subject: str = "") -> None:
        self._labels: Labels = ((label, SUBJECT),) if label else ()
        self._subject = _escaped(subject)
        self._known: dict[str, _Learnt] = {}

    def __call__(self, families: Iterable[Family]) -> Blocks:
        return {family.name: self._block(family) for family in families}

    def _block(self, family: Family) -> tuple[bytes, bytes]:
        known = self._known.get(family.name)
        if known is None or known.rows != family.rows:
            known = self._known[family.name] = learnt(family, self._labels)
        text = known.template % tuple(map(written, family.values))
        return known.header, text.replace(SUBJECT, self._subject).encode()


def learnt(family: Family, labels: Labels) -> _Learnt:
    """From the library, once for all subjects whose family has the same rows."""
    key = (f"{family.name} {bool(labels)}", family.rows)
    known = _learnt.get(key)
    if known is None:
        text = generate_latest(Registry([family.metric(labels)])).decode()
        help_line, type_line, *lines = text.removesuffix("\n").split("\n")  # splitlines() knows other ends too
        beginnings = (line.rpartition(" ")[0].replace("%", "%%") for line in lines)
        known = _Learnt(key[1], f"{help_line}\n{type_line}\n".encode(), "".join(f"{b} %s\n" for b in beginnings))
        if len(_learnt) >= LEARNT_LIMIT:
            _learnt.clear()
        _learnt[key] = known
    return known


def _escaped(value: str) -> str:
    """A label value as the library writes it."""
    line = generate_latest(Registry([gauge("x", "x", 0.0).metric((("x", value),))])).decode().split("\n")[2]
    return line[line.index('"') + 1 : line.rindex('"')]


@dataclass(frozen=True)
class Registry:
    """What `generate_latest` wants: something to collect from."""

    metrics: Sequence[Metric]

    def collect(self) -> Sequence[Metric]:
        return self.metrics


def of_metrics(metrics: Iterable[Metric]) -> Iterator[Family]:
    """Families of the library's own gauges and counters (the process collector's)."""
    for metric in metrics:
        rows = tuple(("", tuple(sample.labels.items())) for sample in metric.samples)
        counter = metric.type == "counter"
        name = f"{metric.name}_total" if counter else metric.name
        values = [sample.value for sample in metric.samples]
        yield Family(name, metric.documentation, rows, values, "counter" if counter else "gauge")
