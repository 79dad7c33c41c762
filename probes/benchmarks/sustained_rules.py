"""What is wrong with a card that does not keep its speed, and what to do about it?"""

from __future__ import annotations

from probes.api import Rule

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
