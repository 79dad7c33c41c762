"""What are the cards and the host doing, and are they sound?"""

from __future__ import annotations

from dataclasses import replace

from dashboards import cards, hosts, soundness
from dashboards.board import INSTANCE, JOB, Board, Row, Variable
from dashboards.conditions import DRIVER_CHANGED
from dashboards.findings import what_is_wrong

FAMILY = "hardware"
ABOUT = (
    "All cards and machines, then the one card chosen under GPU: what it does, how near it is to its limits, and whether "
    "it is sound. How fast it is: **Benchmarks**. Driver and torch: **Environment**. All that is wrong: **Overview**."
)
# Cards that only another exporter reads count, too: alerts/peers.yml.
ANY = '{__name__=~"gpucanary_build_info|instance_gpu:info:max"}'
ANY_OF_JOB = '{__name__=~"gpucanary_build_info|instance_gpu:info:max",job=~"$job"}'
SLOTS = f'label_replace({cards.reading("info")}, "slot", "gpu $1", "gpu", "(.+)")'
NAMED = f'max by (card, uuid) (label_join({SLOTS}, "card", " ", "instance", "slot", "model"))'
GPU = Variable(
    "gpu",
    "GPU",
    f"query_result({NAMED})",
    "One card: its machine, index and model. Its value is the card's UUID.",
    many=False,
    regex='/card="(?<text>[^"]+)".*uuid="(?<value>[^"]+)"/',
)

BOARD = Board(
    FAMILY,
    "gpu-canary / Hardware",
    __doc__,
    (
        what_is_wrong(FAMILY, ABOUT),
        Row("All cards and machines", (cards.all_cards(), hosts.machines())),
        Row("The chosen card", (*cards.numbers(), *cards.lines())),
        Row("Is the chosen card sound? Link, memory, XIDs, use", soundness.panels(), collapsed=True),
        Row("The machine", hosts.pressure()),
        Row("The machine in detail", (*hosts.details(), *hosts.traffic()), collapsed=True),
    ),
    (
        replace(JOB, query=f"label_values({ANY}, job)"),
        replace(INSTANCE, query=f"label_values({ANY_OF_JOB}, instance)"),
        GPU,
    ),
    annotations=(soundness.XIDS, DRIVER_CHANGED),
)
