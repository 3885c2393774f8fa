"""Contact sheets: pictures in a row with a line of text below each, as HTML that holds all it shows."""

import base64
import io
from dataclasses import dataclass
from html import escape
from typing import Literal

import numpy as np
from jaxtyping import UInt8
from PIL import Image

THUMB_PX = {"street": 420, "satellite": 240}


@dataclass(frozen=True)
class Shot:
    """One picture of a sheet: its side, what is above the line and below it, and if it is right or wrong."""

    rgb: UInt8[np.ndarray, "h w 3"]
    side: Literal["street", "satellite"]
    head: str
    caption: str
    kind: Literal["", "right", "wrong"] = ""


def sheet(shots: list[Shot]) -> str:
    """The pictures in a row."""
    return f'<div class="sheet">{"".join(map(_figure, shots))}</div>'


def data_uri(blob: bytes, kind: str) -> str:
    """An image's bytes as an address that needs no file."""
    return f"data:image/{kind};base64,{base64.b64encode(blob).decode()}"


def metres(away_m: float) -> str:
    """A distance in words."""
    return f"{away_m:,.0f} m" if away_m < 10_000 else f"{away_m / 1000:,.0f} km"


def _figure(shot: Shot) -> str:
    image = Image.fromarray(shot.rgb)
    image.thumbnail((THUMB_PX[shot.side], THUMB_PX[shot.side]))
    blob = io.BytesIO()
    image.save(blob, format="JPEG", quality=82)
    head, source = escape(shot.head), data_uri(blob.getvalue(), "jpeg")
    return (
        f'<figure class="{shot.kind}"><img alt="{head}" src="{source}">'
        f"<figcaption><b>{head}</b>{escape(shot.caption)}</figcaption></figure>"
    )
