"""What does the probe `sustained` measure under load, and what can be wrong with a card that does not keep its speed?"""

from __future__ import annotations

from probes.api import Metric, Rule

FLOPS = Metric(
    "flops_per_second",
    "Floating-point operations a second in a matrix product, the median of a whole minute under load.",
    ("device",),
    better="higher",
)
DECAY = Metric(
    "decay_ratio",
    "Share of its speed that the device lost from the first to the last quarter of the load.",
    ("device",),
    better="lower",
)
DEGREES = Metric(
    "temperature_celsius", "Temperature of the card under the load, by quarter of it.", ("quarter",), better="lower"
)
CLOCK = Metric("clock_hertz", "SM clock of the card under the load, by quarter of it.", ("quarter",), better="higher")
POWER = Metric("power_watts", "Power that the card drew under the load, by quarter of it.", ("quarter",))
THROTTLED = Metric(
    "throttled_ratio",
    "Share of the looks under the load in which this held the clocks back.",
    ("reason",),
    better="lower",
)
VARIATION = Metric(
    "variation_ratio",
    "How widely the speed varied around its trend from slice to slice: standard deviation by mean.",
    better="lower",
)
METRICS = (FLOPS, DECAY, VARIATION, DEGREES, CLOCK, POWER, THROTTLED)
THERMAL = ("hw_thermal", "sw_thermal")
SLOWER = Rule(
    "sustained-slows-down",
    "warning",
    "Under load the card loses speed from minute to minute.",
    "1. The finding names what held the clocks back: heat, the power limit, or the power supply.\n"
    "2. `nvidia-smi dmon -s pct -d 1` shows temperature, power and clocks while `gpu-canary run sustained` runs.\n"
    "3. Clean fans and filters, free the air's way, raise the fan curve; keep a long run's speed in mind, not the burst's.",
)
HOT = Rule(
    "sustained-overheats",
    "warning",
    "Under load heat holds the card's clocks back.",
    "1. `nvidia-smi -q -d TEMPERATURE,PERFORMANCE` while `gpu-canary run sustained` runs shows how hot it gets.\n"
    "2. The core is hot: clean fans and filters, look whether the fans turn, renew the thermal paste.\n"
    "3. The core is cool: the memory is hot; renew its thermal pads, or lower its clock with `nvidia-smi -lmc`.",
)
UNSTEADY = Rule(
    "sustained-unsteady",
    "warning",
    "Under load the speed varies widely from second to second: somebody else works in the background.",
    "1. `nvidia-smi pmon -c 5` while `gpu-canary run sustained` runs shows who else works on the card.\n"
    "2. `top` shows who takes the processor: the card waits for the program that feeds it. End it, or run it another time.\n"
    "3. Nobody there: power or heat that comes and goes; `nvidia-smi dmon -s pct -d 1` shows both.",
)
RULES = (SLOWER, HOT, UNSTEADY)
