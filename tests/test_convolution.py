"""Does convolution measure convolutions, and does it count their operations as one would by hand?"""

from __future__ import annotations

import pytest

from probes.benchmarks import convolution
from tests.torch_side import TICK, WorkingWorld, at_our_clock, inside, measured, run

LAYERS = ("lowest", "low", "middle", "high")


@pytest.mark.torch
def test_a_real_worker_measures_all_four_layers_on_this_processor() -> None:
    values = measured(run(convolution.PROBE, WorkingWorld(), seconds="200ms"))
    assert list(values) == [("flops_per_second", layer, "fp32", "cpu") for layer in LAYERS]
    assert all(1e6 < value < 1e14 for value in values.values())


@pytest.mark.torch
def test_operations_are_counted_as_by_hand() -> None:
    # A picture of 2 x 2 with one channel, two channels out: 8 values, each of 9 multiplications and 9 additions.
    assert inside("convolution", "print(json.dumps(operations(1, 2, 2)))") == 8 * 18
    values = at_our_clock("convolution", device="cpu")
    by_hand = [
        2 * 9 * 512 * 512 * 8 * 8,
        2 * 9 * 512 * 512 * 16 * 16,
        2 * 9 * 256 * 256 * 32 * 32,
        2 * 9 * 128 * 128 * 64 * 64,
    ]
    assert list(values.values()) == [operations / TICK for operations in by_hand]


@pytest.mark.torch
def test_what_is_measured_is_a_convolution_as_large_as_its_picture() -> None:
    worst, shape = inside(
        "convolution",
        """
picture, weight = torch.randn(1, 3, 6, 5), torch.randn(4, 3, 3, 3)
edged = torch.nn.functional.pad(picture.double(), (1, 1, 1, 1))
expected = torch.zeros(1, 4, 6, 5, dtype=torch.float64)
for row in range(3):
    for column in range(3):
        part = edged[:, :, row:row + 6, column:column + 5]
        expected += torch.einsum("bchw,oc->bohw", part, weight[:, :, row, column].double())
found = convolve(torch, picture, weight)
print(json.dumps([float((found.double() - expected).abs().max()), list(found.shape)]))
""",
    )
    assert worst < 1e-4
    assert shape == [1, 4, 6, 5]


@pytest.mark.torch
def test_the_largest_layer_fits_a_card_of_eight_gigabytes() -> None:
    layers, classes = inside("convolution", "print(json.dumps([list(LAYERS.values()), SHRUNK]))")
    assert classes[-1][0] == 0, "every card has a class"
    for least, shrunk in classes:
        needed = max(2 * (before + after) * (side // shrunk) ** 2 for before, after, side in layers)
        assert needed < max(least, 4 * 2**30) / 8
