"""How long do whole pieces of work take, and does the card stand them? Panels of the benchmarks board."""

from __future__ import annotations

from dataclasses import dataclass

from dashboards.findings import chosen
from dashboards.lines import stepped
from dashboards.links import from_series
from dashboards.panels import Panel, Query, series

MINE = 'check=~"$check"'
LINE_ALONE = (from_series("This benchmark alone", "benchmarks", "instance", "check"),)


@dataclass(frozen=True, slots=True)
class Work:
    """One panel: its question, and metrics of one unit with the labels that tell their series apart."""

    title: str
    question: str
    unit: str
    metrics: tuple[tuple[str, str, tuple[str, ...]], ...]  # full name, words of the legend, labels

    def panel(self) -> Panel:
        asked = []
        for name, words, labels in self.metrics:
            legend = " ".join(("{{instance}} {{check}}", words, *(f"{{{{{label}}}}}" for label in labels)))
            asked.append(Query(chosen(f"gpucanary_{name}", MINE), " ".join(legend.split())))
        return stepped(series(self.title, self.question, asked, self.unit, width=8, height=8, links=LINE_ALONE))


WORKS = (
    Work(
        "Wrong bits",
        "Did a repeated kernel give other bits than before? Anything but 0 is a fault of the card.",
        "none",
        (("corruption_differing_values", "", ("kernel", "device")),),
    ),
    Work(
        "Bits compared",
        "How much did the search for wrong bits look at? Values of repeated outputs, held against the first.",
        "short",
        (("corruption_compared_values", "", ("kernel", "device")),),
    ),
    Work(
        "Speed under a minute of load",
        "How many operations a second does the device keep up? The median of the whole load.",
        "flops",
        (("sustained_flops_per_second", "", ("device",)),),
    ),
    Work(
        "Lost under load",
        "Which share of its speed did the device lose within the load, and how often was it held back?",
        "percentunit",
        (
            ("sustained_decay_ratio", "lost", ("device",)),
            ("sustained_variation_ratio", "varied by", ()),
            ("sustained_throttled_ratio", "held back by", ("reason",)),
        ),
    ),
    Work(
        "Heat under load",
        "How hot did the card get, quarter by quarter of the load?",
        "celsius",
        (("sustained_temperature_celsius", "quarter", ("quarter",)),),
    ),
    Work(
        "Power under load",
        "How much power did the card draw, quarter by quarter of the load?",
        "watt",
        (("sustained_power_watts", "quarter", ("quarter",)),),
    ),
    Work(
        "Clock under load",
        "Which clock did the card keep, quarter by quarter of the load?",
        "hertz",
        (("sustained_clock_hertz", "quarter", ("quarter",)),),
    ),
    Work(
        "First token",
        "How long does a small language model with random weights take for its first token?",
        "s",
        (("llm_decode_first_token_seconds", "", ("device",)),),
    ),
    Work(
        "Tokens a second",
        "How many tokens a second does it take in of a prompt, and give of an answer?",
        "short",
        (
            ("llm_decode_prefill_tokens_per_second", "prompt", ("device",)),
            ("llm_decode_decode_tokens_per_second", "answer", ("device",)),
        ),
    ),
    Work(
        "Parts of a denoising step",
        "How long do one layer of a video transformer and one decode of its VAE take? Not the time of a whole video.",
        "s",
        (
            ("diffusion_step_layer_seconds", "a layer", ("size", "device")),
            ("diffusion_step_decode_seconds", "a decode", ("size", "device")),
        ),
    ),
    Work(
        "VRAM of a denoising step",
        "What is the most VRAM that one layer of a video transformer, or one decode of its VAE, holds?",
        "bytes",
        (("diffusion_step_peak_memory_bytes", "", ("part", "size")),),
    ),
    Work(
        "Energy of a denoising step",
        "How much energy does one layer of a video transformer, or one decode of its VAE, take?",
        "joule",
        (("diffusion_step_energy_joules", "", ("part", "size")),),
    ),
    Work(
        "Disk of the models",
        "How many bytes a second does the disk of the model directory take and give? direct: past the page cache; kept: the "
        "memory answered, not the disk.",
        "Bps",
        (
            ("disk_io_write_bytes_per_second", "written", ("cache",)),
            ("disk_io_read_bytes_per_second", "read", ("cache",)),
        ),
    ),
    Work(
        "A training step",
        "How long does a step of a small fine-tuning take?",
        "s",
        (("training_step_step_seconds", "", ("device",)),),
    ),
    Work(
        "VRAM of a training step",
        "What is the most VRAM that the phases of a step hold?",
        "bytes",
        (("training_step_memory_bytes", "", ("phase",)), ("training_step_checkpoint_bytes", "checkpoint", ("device",))),
    ),
    Work(
        "Checkpoints",
        "How long do writing and reading a checkpoint take?",
        "s",
        (
            ("training_step_checkpoint_save_seconds", "write", ("device",)),
            ("training_step_checkpoint_load_seconds", "read", ("device",)),
        ),
    ),
    Work(
        "Loss",
        "Does the training learn? The mean loss of its last steps as a part of that of its first.",
        "percentunit",
        (("training_step_loss_ratio", "", ()),),
    ),
    Work(
        "Model load",
        "How many bytes a second does a model of the usual format take from the disk to the device? cold: the disk had to be "
        "asked; warm: the memory had it.",
        "Bps",
        (("model_load_bytes_per_second", "", ("cache", "device")),),
    ),
    Work(
        "Largest batch",
        "How many pictures at once fit into the memory that is free?",
        "none",
        (("max_batch_pictures", "", ("device",)),),
    ),
    Work(
        "Left after running out",
        "Did torch give everything back after it ran out of memory on purpose? Anything but 0 leaks.",
        "bytes",
        (("max_batch_left_bytes", "", ()),),
    ),
    Work(
        "VRAM that a service keeps",
        "What does a service hold of the card before and after the same work, and at most? What it holds more each time, it "
        "leaks.",
        "bytes",
        (
            ("vram_leak_before_bytes", "before", ()),
            ("vram_leak_peak_bytes", "most", ()),
            ("vram_leak_after_bytes", "after", ()),
            ("vram_leak_residual_bytes", "stayed", ()),
        ),
    ),
    Work(
        "Error of our own measurements",
        "How far is what we measure of a load from that load? No line: others made too much noise to tell.",
        "percentunit",
        (("monitor_accuracy_error_ratio", "", ("resource",)),),
    ),
)
