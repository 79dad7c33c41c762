"""Stands in for the video app's profiler: writes the seconds of each stage into profile.json."""

import json
import time

import torch

stages = {}
for name, work in (
    ("transformer", torch.nn.Linear(256, 256)),
    ("vae", torch.nn.Conv2d(256, 8, 3)),
):
    began = time.perf_counter()
    with torch.inference_mode():
        work(torch.rand(1, 256, 32, 256) if name == "transformer" else torch.rand(1, 256, 32, 32))
    stages[name] = time.perf_counter() - began
with open("profile.json", "w") as file:
    json.dump({"stages": stages}, file)
