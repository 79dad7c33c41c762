"""How long does a fine-tuning step take, what does it hold, and does a killed training go on exactly? Imports torch."""

import json
import os
import subprocess
import sys

# The same bits each time: https://docs.nvidia.com/cuda/cublas/#results-reproducibility
os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"

# DreamBooth's shape: a U-Net that learns the noise of a handful of latent pictures, told by a prompt. Channels of its
# levels and side of a latent picture; small, for the checkpoint is three times the weights.
CLASSES, TOY = ((7 * 2**30, ((160, 320, 640), 64)), (0, ((96, 192, 384), 32))), ((8, 16), 8)
PICTURES, BATCH, TEXT, WORDS = 4, 2, 768, 77
SECONDS, STEPS = 5.0, 4  # steps before the checkpoint, and as many after it
DOOMED = "import runpy, sys; runpy.run_path(sys.argv[1], run_name='bench')['doomed'](*sys.argv[2:])"


def bench(kit, params):
    torch, device = kit.torch(params.get("device", "auto"))
    shape = kit.fitting(CLASSES, TOY)
    kit.progress(0, 3)
    training = Training(torch, device, shape)
    kit.fact("step_seconds", kit.seconds(training.step, kit.budget(params, SECONDS)), device=device)
    if device == "cuda":

        def held(phase):
            kit.fact("memory_bytes", torch.cuda.max_memory_allocated() - kit.flush.numel(), phase=phase)
            torch.cuda.reset_peak_memory_stats()

        torch.cuda.reset_peak_memory_stats()
        training.step(held)
    kit.progress(1, 3)
    torch.use_deterministic_algorithms(True)  # from here on slower kernels, and the same bits
    training = None  # makes room for the next
    training = Training(torch, device, shape)
    whole = [training.step() for _ in range(2 * STEPS)]
    training, path = None, os.path.abspath("checkpoint.pt")  # in the run's own folder, that goes with it
    torch.cuda.empty_cache()  # room for the one that is killed
    killed(device, shape, path)
    kit.progress(2, 3)
    training = Training(torch, device, shape)
    began = kit.clock()
    training.load(path)
    kit.fact("checkpoint_load_seconds", kit.clock() - began, device=device)
    resumed = [training.step() for _ in range(STEPS)]
    began = kit.clock()
    training.save(path)
    kit.fact("checkpoint_save_seconds", kit.clock() - began, device=device)
    kit.fact("checkpoint_bytes", os.path.getsize(path), device=device)
    kit.data(whole=[loss.hex() for loss in whole], resumed=[loss.hex() for loss in resumed])
    kit.progress(3, 3)


def killed(device, shape, path):
    """Another process trains, saves, goes on, and is killed in the middle of that."""
    argv = [sys.executable, "-c", DOOMED, __file__, device, json.dumps(shape), path]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as child:
        said = child.stdout.readline().strip()
        child.kill()
    if said != "saved":
        raise RuntimeError("the training that was to be killed ended before: %s" % (said or "without a word"))


def doomed(device, shape, path):
    try:
        import torch

        torch.use_deterministic_algorithms(True)
        training = Training(torch, device, json.loads(shape))
        [training.step() for _ in range(STEPS)]
        training.save(path)
        print("saved", flush=True)
        while training.step():  # until it is killed; or the worker is, whose end of the pipe is closed then
            print("still here", flush=True)
    except Exception as error:  # out of memory, say: the worker tells it as its own
        print("%s: %s" % (type(error).__name__, str(error).replace("\n", " ")), flush=True)


class Training:
    """The U-Net, its optimizer, its pictures, and whatever decides the next loss."""

    def __init__(self, torch, device, shape):
        (self.torch, self.device), (channels, side) = (torch, device), shape
        torch.manual_seed(0)
        self.generator = torch.Generator().manual_seed(1)  # which pictures come next: part of the checkpoint
        self.model = network(torch, channels).to(device)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=3e-4)
        self.pictures, self.noise = (torch.randn(PICTURES, 4, side, side).to(device) for _ in "pn")
        self.text = torch.randn(1, WORDS, TEXT).to(device)

    def step(self, after=lambda phase: None):
        """One step; its loss as a number, which the worker tells with every bit (and JSON knows no NaN)."""
        chosen = self.torch.randperm(PICTURES, generator=self.generator)[:BATCH].to(self.device)
        pictures, noise = self.pictures[chosen], self.noise[chosen]
        half = self.device == "cuda" and self.torch.cuda.get_device_capability() >= (8, 0)
        with self.torch.autocast(self.device, self.torch.bfloat16, enabled=half):
            said = self.model(0.7 * pictures + 0.7 * noise, self.text)
        loss = ((said.float() - noise) ** 2).mean()
        after("forward")
        loss.backward()
        after("backward")
        self.optimizer.step()
        self.optimizer.zero_grad()
        after("optimizer")
        return loss.item()

    def save(self, path):
        parts = {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}
        with open(path, "wb", buffering=0) as file:
            self.torch.save({**parts, "generator": self.generator.get_state()}, file)
            os.fsync(file.fileno())  # else the disk is not measured

    def load(self, path):
        state = self.torch.load(path, map_location="cpu", weights_only=True)  # AdamW counts its steps there
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.generator.set_state(state["generator"])


def network(torch, channels):
    """A small U-Net: convolutions down and up, what went down handed across, and attention to the prompt at the bottom."""
    nn, pairs, wide = torch.nn, list(zip(channels, channels[1:])), channels[-1]

    def convolution(into, out, **how):
        return nn.Sequential(nn.GroupNorm(4, into), nn.SiLU(), nn.Conv2d(into, out, 3, padding=1, **how))

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Conv2d(4, channels[0], 3, padding=1), convolution(channels[0], 4)
            self.down = nn.ModuleList(nn.Sequential(convolution(a, a), convolution(a, a)) for a, _ in pairs)
            self.shrink = nn.ModuleList(convolution(a, b, stride=2) for a, b in pairs)
            self.query, self.text = nn.Linear(wide, wide), nn.Linear(TEXT, 2 * wide)
            self.grow = nn.ModuleList(nn.Sequential(nn.Conv2d(b, 4 * a, 1), nn.PixelShuffle(2)) for a, b in pairs)
            self.up = nn.ModuleList(nn.Sequential(convolution(2 * a, a), convolution(a, a)) for a, _ in pairs)

        def forward(self, x, text):
            x, across = self.first(x), []
            for block, shrink in zip(self.down, self.shrink):
                across.append(block(x))
                x = shrink(across[-1])
            query, (key, value) = self.query(x.flatten(2).transpose(1, 2)), self.text(text).chunk(2, -1)
            seen = (query @ key.transpose(1, 2) / wide**0.5).softmax(-1) @ value
            x = x + seen.transpose(1, 2).reshape(x.shape)
            for block, grow, beside in reversed(list(zip(self.up, self.grow, across))):
                x = block(torch.cat((grow(x), beside), 1))
            return self.last(x)

    return Net()
