"""What does the probe `command` measure of a program, and what can be wrong with it?"""

from __future__ import annotations

from probes.api import Metric, Rule

WALL = Metric("wall_seconds", "Time from the program's start to its end, of a run that succeeded.", better="lower")
EXIT = Metric("exit_code", "The program's exit code; negative for the signal that ended it.")
RSS = Metric(
    "peak_rss_bytes",
    "Most memory that its processes held together, looked at once a second; a page they share counts in each.",
    better="lower",
)
VRAM = Metric(
    "peak_vram_bytes",
    "Most memory of the card that its processes held; the growth of the card's use where the driver does not tell theirs.",
    better="lower",
)
BUSY = Metric("gpu_utilization_ratio", "How busy the card was, the mean of one sample a second.")
POWER = Metric("gpu_power_watts", "What the card drew, the mean of one sample a second.")
FIGURE = Metric("figures", "A number that the program told, in the unit it told it or `scale` made of it.", ("figure",))
METRICS = (WALL, EXIT, RSS, VRAM, BUSY, POWER, FIGURE)

FAILED = Rule(
    "command-failed",
    "critical",
    "The program did not start, or ended with an exit code that means failure.",
    "1. The finding has its last lines, `gpu-canary run CHECK` prints more of them.\n"
    "2. Run it by hand as the exporter's user, in the same directory and environment.\n"
    "3. SIGKILL, or `out of memory` in its output: `dmesg | tail` and `nvidia-smi` tell who ran out of what.",
)
WARNED = Rule(
    "command-warned",
    "warning",
    "A monitoring plugin ended with exit code 1: a warning.",
    "1. The finding says what the plugin said; `gpu-canary run CHECK` prints all of it.\n"
    "2. The plugin's own limits (`-w`, `-c`) stand in the check's `command:`.",
)
TIMEOUT = Rule(
    "command-timeout",
    "critical",
    "The program did not end before the check's timeout and was killed with all its processes.",
    "1. `gpu-canary run CHECK` prints its last lines: does it wait for something, or is it slow?\n"
    "2. `nvidia-smi` must answer within a second; if it hangs, the driver is wedged.\n"
    "3. Raise `timeout:` of the check if it is merely slow; a target on `wall_seconds` tells how slow it may be.",
)
MISSING = Rule(
    "figure-missing",
    "critical",
    "A figure was not in what the program said, or was no number.",
    "1. `gpu-canary run CHECK` prints what it said: is the figure there, and does the pattern of `figures:` match it?\n"
    "2. Of JSON, the whole output is read, or what stands there from the last line on that begins with a brace.\n"
    "3. What `file:` names must be written by this run.",
)
RULES = (FAILED, WARNED, TIMEOUT, MISSING)
