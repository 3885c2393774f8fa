"""A larger encoder answers as the smaller one did, and what is new of it learns."""

import dataclasses

import pytest
import torch

from geoloc.encoder import TwinEncoder
from geoloc.errors import ModelError
from geoloc.spec import EncoderSpec
from geoloc.training.grow import grown

WIDER = {"widths": (32, 64, 80, 128)}
DEEPER = {"depths": (1, 2, 3, 2)}


@pytest.fixture
def small(tiny_spec: EncoderSpec) -> TwinEncoder:
    """All four stages, and norms whose statistics and weights say something."""
    torch.manual_seed(0)
    small = TwinEncoder(dataclasses.replace(tiny_spec, stage=4, output_stride=8)).eval()
    for module in small.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            for value, low in (
                (module.running_mean, -0.5), (module.running_var, 0.5),
                (module.weight.data, 0.5), (module.bias.data, -0.5),
            ):  # fmt: skip
                value.uniform_(low, 1.5)  # type: ignore[union-attr]
    return small


@pytest.mark.parametrize("change", [WIDER, DEEPER, WIDER | DEEPER], ids=["wider", "deeper", "both"])
@pytest.mark.parametrize("head", ["azimuth", "gem"])
def test_answers_as_the_smaller_one(
    small: TwinEncoder, change: dict[str, tuple[int, ...]], head: str
) -> None:
    if head == "gem":
        torch.manual_seed(1)
        pooled = dataclasses.replace(small.spec, head="gem", azimuth_bins=1)
        other = TwinEncoder(pooled).eval()
        other.load_state_dict(
            other.state_dict() | {k: v for k, v in small.state_dict().items() if ".head." not in k}
        )
        small = other
    large = grown(small, dataclasses.replace(small.spec, **change))  # type: ignore[arg-type]
    sizes = [sum(value.numel() for value in one.parameters()) for one in (small, large)]
    assert sizes[1] > 1.5 * sizes[0]
    with torch.inference_mode():
        street, tiles = torch.rand(3, 4, 32, 128), torch.rand(3, 3, 48, 48)
        assert torch.allclose(large.embed_street(street), small.embed_street(street), atol=1e-5)
        assert torch.allclose(large.embed_satellite(tiles), small.embed_satellite(tiles), atol=1e-5)


def test_all_that_is_new_learns(small: TwinEncoder) -> None:
    """No channel is a copy of another, and none stays unheard."""
    large = grown(small, dataclasses.replace(small.spec, **(WIDER | DEEPER))).train()  # type: ignore[arg-type]
    before = {name: value.detach().clone() for name, value in large.named_parameters()}
    optimizer = torch.optim.AdamW(large.parameters(), lr=1e-3, weight_decay=0.0)
    torch.manual_seed(2)
    for _ in range(4):
        loss = (large.street_bins(torch.rand(4, 4, 32, 128)) - torch.randn(4, 8, 4)).square().mean()
        loss += (large.satellite_bins(torch.rand(4, 3, 48, 48)) - torch.randn(4, 8, 4)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    old = dict(small.named_parameters())
    for name, value in large.named_parameters():
        new = torch.ones_like(value, dtype=torch.bool)
        if name in old:
            new[tuple(slice(side) for side in old[name].shape)] = False
        if new.any():
            assert (value.detach() != before[name])[new].float().mean() > 0.25, name  # some ReLUs are shut


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"widths": (16, 64, 80, 128)}, "None may shrink"),
        ({"widths": (32, 32, 80, 128)}, "None may shrink"),
        ({"widths": (48, 64, 80, 128)}, "width of its first stage"),
    ],
)
def test_what_cannot_grow(small: TwinEncoder, change: dict[str, tuple[int, ...]], says: str) -> None:
    with pytest.raises(ModelError, match=says):
        grown(small, dataclasses.replace(small.spec, **change))  # type: ignore[arg-type]


def test_no_block_is_lost(small: TwinEncoder) -> None:
    deep = grown(small, dataclasses.replace(small.spec, **DEEPER))  # type: ignore[arg-type]
    with pytest.raises(ModelError, match="None may shrink"):
        grown(deep, dataclasses.replace(small.spec, depths=(1, 1, 3, 2)))
