import dataclasses
import json

import pytest

from geoloc.errors import ModelError
from geoloc.spec import EncoderSpec


def test_round_trip(tiny_spec: EncoderSpec) -> None:
    assert EncoderSpec.from_json(tiny_spec.to_json()) == tiny_spec
    assert tiny_spec.dim == 32
    wide = dataclasses.replace(tiny_spec, widths=(32, 64, 96, 192), depths=(1, 2, 2, 2))
    assert EncoderSpec.from_json(wide.to_json()) == wide


def test_entries_with_a_default_may_be_absent(tiny_spec: EncoderSpec) -> None:
    """The specs in older models and galleries go on being read."""
    raw = json.loads(tiny_spec.to_json())
    for name in ("head", "street_layout", "output_stride", "widths", "depths"):
        del raw[name]
    assert EncoderSpec.from_json(json.dumps(raw)) == tiny_spec
    del raw["backbone"]
    with pytest.raises(ModelError, match="backbone"):
        EncoderSpec.from_json(json.dumps(raw))


@pytest.mark.parametrize(
    "change",
    [
        {"head": "best"},
        {"head": "pooled"},
        {"street_layout": "centre"},
        {"azimuth_bins": 0},
        {"azimuth_bins": 3},
        {"street_hw": (4, 128)},
        {"satellite_px": 100_000},
        {"street_elevation_deg": (10.0, -10.0)},
        {"footprint_m": 0.0},
        {"footprint_m": float("nan")},
        {"std": (0.0, 1.0, 1.0)},
        {"std": (float("nan"), 1.0, 1.0)},
        {"mean": (float("nan"), 0.5, 0.5)},
        {"backbone": "hf-hub:somebody/model"},
        {"backbone": "../elsewhere"},
        {"interpolation": "nearest"},
        {"channels": 10_000_000},
        {"widths": (32, 64, 96)},
        {"widths": (32, 64, 96, 10_000)},
        {"depths": (1, 2, 2, 0)},
        {"widths": (4096,) * 4, "depths": (64,) * 4},
        {"widths": (4096,) * 4},
        {"depths": (1, 2, 2, 2, 2)},
        {"head": "pooled", "azimuth_bins": 1, "polar": False, "widths": (32, 64, 96, 192)},
    ],
    ids=str,
)
def test_impossible_specs(tiny_spec: EncoderSpec, change: dict[str, object]) -> None:
    with pytest.raises(ModelError, match="impossible"):
        dataclasses.replace(tiny_spec, **change)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "change",
    [
        {"schema": 2},
        {"surprise": 1},
        {"stage": "two"},
        {"stage": True},
        {"street_hw": [32]},
        {"street_hw": "32x128"},
        {"backbone": None},
        {"widths": [32, 64, 96, "192"]},
        {"depths": 2},
    ],
    ids=str,
)
def test_text_that_is_no_spec(tiny_spec: EncoderSpec, change: dict[str, object]) -> None:
    raw = json.loads(tiny_spec.to_json()) | change
    with pytest.raises(ModelError):
        EncoderSpec.from_json(json.dumps(raw))


@pytest.mark.parametrize(
    "text", ["", "[]", "{", "[" * 100_000, "null"], ids=["empty", "list", "open", "deep", "null"]
)
def test_text_that_is_no_json(text: str) -> None:
    with pytest.raises(ModelError):
        EncoderSpec.from_json(text)
