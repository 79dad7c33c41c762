"""Is the chosen card sound? Its link, its memory's errors, its XIDs, and who uses it: panels for specialists."""

from __future__ import annotations

from dashboards.board import annotation
from dashboards.cards import CARD, MIG, THIS, this
from dashboards.findings import chosen
from dashboards.lines import bounded, stepped
from dashboards.panels import Panel, Query, series, stat, words
from dashboards.tables import Column, table

XIDS = annotation(
    "XIDs",
    "The driver reported an XID.",
    f"time() - {chosen('gpucanary_gpu_xid_last_timestamp_seconds', THIS)} < 300",
    "orange",
    "XID {{xid}}",
    "{{instance}} gpu {{gpu}}",
)


def panels() -> list[Panel]:
    return [*link_to_host(), *memory_errors(), *xids(), *use()]


def link_to_host() -> list[Panel]:
    generation = series(
        "PCIe generation",
        "Which generation does the link run at, of which card and slot are capable (dashed)? Low while idle is right, low "
        "under load is not.",
        [Query(this("pcie_link_generation"), "now"), Query(this("pcie_link_max_generation"), "most")],
        "none",
        width=8,
    )
    lanes = series(
        "PCIe lanes",
        "How many lanes does the link use, of how many card and slot have (dashed)? Fewer: a riser, a bent pin, a shared "
        "slot.",
        [Query(this("pcie_link_lanes"), "now"), Query(this("pcie_link_max_lanes"), "most")],
        "none",
        width=8,
    )
    replays = series(
        "PCIe packets sent again",
        "How often does the link have to repeat itself? More than a few a minute: a bad connection.",
        [Query(f"60 * rate({this('pcie_replays_total')}[$__rate_interval])", "a minute")],
        "cpm",
        width=8,
    )
    return [stepped(bounded(generation, "^most")), stepped(bounded(lanes, "^most")), replays]


def memory_errors() -> list[Panel]:
    counted = {
        "in the card's life": "ecc_errors_total",
        "since the driver was loaded": "ecc_volatile_errors_total",
    }
    rates = [
        Query(f"increase({this(metric)}[$__rate_interval])", f"{{{{kind}}}}, {words}")
        for words, metric in counted.items()
    ]
    found = table(
        "Memory rows and errors",
        "How many errors did the memory have, in the card's life, since the driver was loaded and in the shown time "
        "range, and how many rows were replaced? pending waits for a reset, failure has no spare row left.",
        [
            Query(f"max by (kind) ({this('ecc_errors_total')})"),
            Query(f"max by (kind) ({this('ecc_volatile_errors_total')})"),
            Query(f"max by (kind) (increase({this('ecc_volatile_errors_total')}[$__range]))"),
            Query(f"max by (kind) ({this('remapped_rows')})"),
        ],
        [
            Column("kind", "Kind"),
            Column("Value #A", "Errors in its life", "none"),
            Column("Value #B", "Since the driver", "none"),
            Column("Value #C", "Shown time", "none"),
            Column("Value #D", "Rows", "none"),
        ],
        width=12,
        height=8,
        empty="This card tells of no ECC: most that are not for data centers have none.",
    )
    return [
        found,
        series("New memory errors", "When did the memory have errors, and could it correct them?", rates, "none"),
    ]


def xids() -> list[Panel]:
    last = this("xid_last_timestamp_seconds")
    listed = table(
        "XIDs",
        "Which errors did the driver report for this card, and when last? What each means, the findings and "
        "docs.nvidia.com/deploy/xid-errors tell.",
        [Query(f"1000 * max by ({CARD}, xid) ({last})")],
        [
            Column("xid", "XID"),
            Column("instance", "Instance"),
            Column("Value", "Last seen", "dateTimeFromNow"),
        ],
        width=12,
        height=8,
        empty="The driver reported no XID for this card since the exporter first looked.",
    )
    events = series(
        "XIDs by class",
        "When did the driver report errors, and of which class? memory, link, board and driver are the card's; "
        "application is a program's.",
        [Query(f"increase({this('xid_events_total')}[$__rate_interval])", "{{class}}")],
        "none",
    )
    return [listed, events]


def use() -> list[Panel]:
    action = table(
        "What the driver asks for",
        "Does the driver want the card reset, drained or rebooted, and is it divided (MIG)? n/a: it does not tell.",
        [
            Query(f"max by ({CARD}) ({this('mig_active')})"),
            Query(f"max by ({CARD}, action) ({this('recovery_action_info')})"),
        ],
        [
            Column("instance", "Instance"),
            Column("gpu", "GPU"),
            Column("action", "Asks for"),
            Column("Value #A", "Card", mapping=words(MIG)),
        ],
        width=8,
        height=8,
        empty="Nothing is known of it: choose a card that this exporter reads.",
    )
    processes = series(
        "Processes",
        "Who uses the card: we, others, or processes of a foreign pid namespace (a container that we cannot see into)?",
        [Query(this("processes"), "{{class}}, {{kind}}")],
        "none",
        width=12,
    )
    energy = stat(
        "Energy",
        "How much energy did the card use in the shown time range?",
        [Query(f"increase({this('energy_joules_total')}[$__range])")],
        "joule",
        height=8,
    )
    return [action, stepped(processes), energy]
