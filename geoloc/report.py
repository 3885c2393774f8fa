"""How long work says where it stands."""

from collections.abc import Callable

Report = Callable[[int, int], None]
"""Called with what is done and what there is in all."""

StageReport = Callable[[str, int, int], None]
"""Called with a stage's name, what of it is done and what there is of it in all."""
