"""How figures read in a table, on the terminal and on a page."""

from collections.abc import Iterator, Sequence
from typing import Any

Figures = dict[str, Any]
SHARES = ("recall", "heading<", "coverage", "hit_rate", "mAP")


def rows(ways: Sequence[Figures]) -> Iterator[tuple[str, str]]:
    """The names of the figures that any way has, and their labels: recall@1% says its k."""
    numbers = (name for way in ways for name, value in way.items() if isinstance(value, float))
    for name in dict.fromkeys(numbers):
        if name != "hfov_deg":
            k = next((way[f"{name}_k"] for way in ways if f"{name}_k" in way), None)
            yield name, name if k is None else f"{name} (k = {k})"


def cell(name: str, value: object) -> str:
    """Shares in percent, metres and degrees to a tenth, ranks as they are; a dash for none."""
    if not isinstance(value, float):
        return "-"
    if name.startswith(SHARES):
        return f"{value:.2%}"
    if name.endswith(("_m", "_deg")):
        return f"{value:,.1f}"
    return f"{value:,g}" if name == "median_rank" else f"{value:.3f}"


def interval(name: str, way: Figures) -> str:
    """The figure's 95 % interval, as [38.9, 83.3]; nothing where it has none."""
    pair = way.get("intervals", {}).get(name)
    return "" if pair is None else f"[{100 * pair[0]:.1f}, {100 * pair[1]:.1f}]"


def heading(way: Figures) -> str:
    """Whether headings were told."""
    return f"heading {'unknown' if way['unknown_heading'] else 'known'}"
