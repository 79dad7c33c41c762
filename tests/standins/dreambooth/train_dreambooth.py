"""Stands in for diffusers' DreamBooth training: a small UNet-like net learns a few noises, with the bar of tqdm."""

import sys
import time

import torch
from torch.utils.checkpoint import checkpoint

wanted = {name: value for name, _, value in (word.lstrip("-").partition("=") for word in sys.argv[1:])}
steps = int(wanted["max_train_steps"])
torch.manual_seed(7)
net = torch.nn.Sequential(torch.nn.Conv2d(4, 32, 3, padding=1), torch.nn.SiLU(), torch.nn.Conv2d(32, 4, 3, padding=1))
optimizer = torch.optim.AdamW(net.parameters(), lr=1e-2)
images, noise = torch.randn(2, 4, 16, 16), torch.randn(2, 4, 16, 16) * 0.3
began = time.perf_counter()
for step in range(1, steps + 1):
    with torch.autocast("cpu", torch.bfloat16, enabled="mixed_precision" in wanted):
        told = checkpoint(net, images, use_reentrant=False) if "gradient_checkpointing" in wanted else net(images)
    loss = torch.nn.functional.mse_loss(told.float(), noise)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    pace = (time.perf_counter() - began) / step
    print(f"\rSteps: {step}/{steps} [{pace:.5f}s/it, loss={loss.item():.4f}, lr=5e-6]", end="", file=sys.stderr)
print(file=sys.stderr)
