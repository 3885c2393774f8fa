"""How figures read in a table, on the terminal and on a page."""

from collections.abc import Iterator
from typing import Any

Figures = dict[str, Any]
SHARES = ("recall", "heading<", "coverage", "hit_rate", "mAP")


def rows(way: Figures) -> Iterator[tuple[str, str]]:
    """The names of a way's figures, and their labels: recall@1% says its k."""
    for name, value in way.items():
        if name != "hfov_deg" and isinstance(value, float):
            yield name, f"{name} (k = {way[f'{name}_k']})" if f"{name}_k" in way else name


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
