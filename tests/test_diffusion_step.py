"""Is diffusion_step a layer of that transformer and a step of that decoder, and is its energy power times seconds?"""

from __future__ import annotations

from typing import Any

import pytest

from probes.benchmarks import diffusion_step
from probes.testing import RecordedWorld
from probes.world.gpus import Gpus
from tests.torch_side import TICK, WorkingWorld, at_our_clock, inside, measured, run


class Working(RecordedWorld):
    """A card that takes 200 joules a second, a second from one look to the next."""

    looks = 0

    def now(self) -> float:
        return float(self.looks)

    def gpus(self) -> Gpus:
        self.looks += 1
        seen: dict[str, Any] = {"index": 0, "uuid": "GPU-1", "energy": 200.0 * self.looks, "power": 50.0}
        self.world["gpus"] = {"library": True, "gpus": [seen]}
        return super().gpus()


@pytest.mark.torch
def test_a_real_worker_computes_both_parts_on_this_processor() -> None:
    values = measured(run(diffusion_step.PROBE, WorkingWorld(), seconds="200ms"))
    assert list(values) == [("layer_seconds", "480p", "cpu"), ("decode_seconds", "480p", "cpu")]
    assert all(1e-4 < value < 60 for value in values.values())


@pytest.mark.torch
def test_a_layer_and_a_decode_are_one_call_each() -> None:
    values = at_our_clock("diffusion_step", device="cpu", sizes=["480p"], seconds=1)
    assert values == {("layer_seconds", "480p", "cpu"): TICK, ("decode_seconds", "480p", "cpu"): TICK}


@pytest.mark.torch
def test_shapes_are_those_of_the_model() -> None:
    tokens, frames, layered = inside(
        "diffusion_step",
        """
tokens = [LATENT_FRAMES * (height // 16) * (width // 16) for height, width in SIZES.values()]
video = decoder(torch, "cpu", torch.float32, 4, 6)()
cos, sin = positions(torch, "cpu", torch.float32, 2, 3, 4)
print(json.dumps([tokens, list(video.shape), [list(cos.shape), float((cos ** 2 + sin ** 2 - 1).abs().max())]]))
""",
    )
    assert tokens == [32760, 75600, 171360]
    assert frames == [1, 3, 4, 32, 48], "one latent picture becomes four frames, eight times as wide and high"
    assert layered[0] == [2 * 3 * 4, 64]
    assert layered[1] < 1e-5


@pytest.mark.torch
def test_a_layer_is_what_a_double_reference_says() -> None:
    worst = inside(
        "diffusion_step",
        """
work = layer(torch, "cpu", torch.float64, 1, 2, 2)
names = dict(zip(work.__code__.co_freevars, (cell.cell_contents for cell in work.__closure__)))
x, own, text, prompt, shifts, up, down = (names[n] for n in ("x", "own", "text", "prompt", "shifts", "up", "down"))
cos, sin = positions(torch, "cpu", torch.float64, 1, 2, 2)
def norm(y):
    return (y - y.mean(-1, keepdim=True)) / (y.var(-1, unbiased=False, keepdim=True) + 1e-5).sqrt()
def root(y):
    return y / ((y * y).mean(-1, keepdim=True) + 1e-6).sqrt()
def turned(y):  # of one head: pairs beside each other
    spun = torch.view_as_complex(y.reshape(-1, 64, 2).contiguous()) * torch.complex(cos, sin)
    return torch.view_as_real(spun).reshape(-1, 128)
def attend(w, y, other, turn):
    q, k, v = root(y @ w[0].T)[0], root(other @ w[1].T)[0], (other @ w[2].T)[0]
    seen = []
    for head in range(12):
        a, b, c = (z[:, head * 128:head * 128 + 128] for z in (q, k, v))
        seen.append((turn(a) @ turn(b).T / 128 ** 0.5).softmax(-1) @ c)
    return torch.cat(seen, -1)[None] @ w[3].T
y = norm(x) * (1 + shifts[1]) + shifts[0]
z = x + attend(own, y, y, turned) * shifts[2]
z = z + attend(text, norm(z), prompt, lambda y: y)
h = (norm(z) * (1 + shifts[4]) + shifts[3]) @ up.T
h = 0.5 * h * (1 + ((2 / 3.141592653589793) ** 0.5 * (h + 0.044715 * h ** 3)).tanh())
print(json.dumps(float((work() - (z + h @ down.T * shifts[5])).abs().max())))
""",
    )
    assert worst < 1e-6


@pytest.mark.torch
def test_a_decode_is_what_a_double_reference_says() -> None:
    worst, largest = inside(
        "diffusion_step",
        """
work = decoder(torch, "cpu", torch.float32, 2, 3)
names = dict(zip(work.__code__.co_freevars, (cell.cell_contents for cell in work.__closure__)))
first, last, blocks, halves = (names[n] for n in ("first", "last", "blocks", "halves"))
def convolve(x, weight):  # a sum over the 27 places of the kernel
    around, (depth, height, width) = torch.nn.functional.pad(x, (1,) * 6), x.shape[2:]
    places = ((a, b, c) for a in range(3) for b in range(3) for c in range(3))
    return sum(torch.einsum("nihwd,oi->nohwd", around[:, :, a:a + depth, b:b + height, c:c + width],
                            weight[:, :, a, b, c].double()) for a, b, c in places)
def active(x):
    y = x / ((x * x).sum(1, keepdim=True)).sqrt() * x.shape[1] ** 0.5
    return y / (1 + (-y).exp())
def doubled(x, axis):
    return torch.repeat_interleave(x, 2, axis)
x = convolve(names["latent"].double(), first)
for level, half, time in zip(blocks, [*halves, None], (True, True, False, None)):
    for one, two in level:
        y = convolve(active(convolve(active(x), one)), two)
        x = y if x.shape != y.shape else x + y
    if half is not None:
        x = convolve(doubled(doubled(doubled(x, 2) if time else x, 3), 4), half)
expected = convolve(active(x), last)
print(json.dumps([float((work().double() - expected).abs().max()), float(expected.abs().max())]))
""",
    )
    assert worst < 1e-4 * largest


def test_energy_is_the_mean_power_by_the_counter_times_the_seconds() -> None:
    labels = {"size": "480p", "device": "cuda"}
    rows = [
        {"kind": "start", "data": {"device": "cuda"}},
        {"kind": "progress", "done": 0, "total": 1},
        {"kind": "fact", "metric": "layer_seconds", "value": 0.25, "labels": labels},
        {"kind": "end"},
    ]
    values = measured(run(diffusion_step.PROBE, Working({"workers": {"diffusion_step": rows}})))
    assert values["energy_joules", "layer", "480p"] == pytest.approx(200 * 0.25)


def test_nobody_takes_a_layer_for_a_video() -> None:
    told = [m.help for m in diffusion_step.PROBE.metrics if m.name.endswith("_seconds")]
    assert len(told) == 2
    assert all("Not the time of a video" in text for text in told)


@pytest.mark.torch
def test_each_class_of_cards_holds_what_it_is_given() -> None:
    defaults, sizes = inside("diffusion_step", "print(json.dumps([DEFAULTS, SIZES]))")
    assert defaults[-1][0] == 0
    for least, names in defaults:
        height, width = sizes[names[-1]]
        tokens = 21 * (height // 16) * (width // 16)
        layer = 2 * tokens * (2 * 8960 + 8 * 1536)  # the wide part before and after gelu, and eight times the tokens
        # the last level: what comes in, 192 channels wide, the 96 of its blocks four times, twice for a kernel's own memory
        decode = 2 * 2 * 4 * height * width * (192 + 4 * 96)
        assert max(layer, decode) < max(least, 7 * 2**30) * 0.75, names
