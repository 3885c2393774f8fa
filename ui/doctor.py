"""`geoloc doctor`: what is installed, which device, what would be slow or broken and how to mend it."""

import importlib.metadata
import json
import platform
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal

import typer

from geoloc.cores import cores

PACKAGES = ("torch", "torchvision", "timm", "rasterio", "geopandas", "h5py", "streamlit", "pydeck")
LEAST_FREE_GB = 2.0


@dataclass(frozen=True)
class Finding:
    """One thing looked at. remedy: what to do where state is not `ok`."""

    name: str
    state: Literal["ok", "slow", "broken"]
    says: str
    remedy: str = ""


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")] = False,
) -> None:
    """Say what is installed, which device is used, and what would be slow or broken.

    Exits with 1 if something is broken.
    """
    findings = examine()
    if as_json:
        print(json.dumps({"findings": [asdict(finding) for finding in findings]}))
    else:
        for finding in findings:
            print(f"{finding.state:<7}{finding.name:<14}{finding.says}")
            if finding.remedy:
                print(f"{'':<21}-> {finding.remedy}")
    if any(finding.state == "broken" for finding in findings):
        raise typer.Exit(1)


def examine() -> list[Finding]:
    """Every finding, in the order they are printed."""
    return [
        Finding("python", "ok", f"{platform.python_version()} on {platform.machine()}, {cores()} cores"),
        *map(_package, PACKAGES),
        _device(),
        _torchvision(),
        _faiss(),
        _browser(),
        _disk(Path.cwd()),
    ]


def _package(name: str) -> Finding:
    try:
        return Finding(name, "ok", importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        return Finding(name, "broken", "not installed", "pip install -e . in the repository")


def _device() -> Finding:
    try:
        import torch
    except (ImportError, OSError, RuntimeError) as cause:
        return Finding("device", "broken", f"torch: {cause}", "install torch again, of this Python's build")
    if torch.cuda.is_available():
        return Finding("device", "ok", torch.cuda.get_device_name())
    return Finding(
        "device",
        "slow",
        f"CPU, {torch.get_num_threads()} threads: enough for the sample, slow for much training",
        "on a machine with a GPU install the CUDA build of torch",
    )


def _torchvision() -> Finding:
    try:
        from geoloc.torchvision_mend import mend_torchvision

        mended = mend_torchvision()
    except (ImportError, OSError, RuntimeError) as cause:
        return Finding("torchvision", "broken", str(cause), "install the torchvision that matches torch")
    if not mended:
        return Finding("torchvision", "ok", "whole")
    return Finding("torchvision", "ok", "without compiled operators, which geoloc does not use")


def _faiss() -> Finding:
    """Which build answers to `import faiss`, and whether another one has overwritten parts of it."""
    builds = [name for name in ("faiss-cpu", "faiss-gpu") if _installed(name)]
    remedy = "pip uninstall -y faiss-cpu faiss-gpu, then pip install the one you want"
    try:
        import faiss
        import numpy as np

        index = faiss.index_factory(4, "Flat", faiss.METRIC_INNER_PRODUCT)
        index.add(np.eye(4, dtype=np.float32))
        found = index.search(np.eye(4, dtype=np.float32), 1)[1][:, 0].tolist()
    except (ImportError, OSError, AttributeError) as cause:
        return Finding(
            "faiss", "broken", f"{' and '.join(builds) or 'nothing'} installed, but {cause}", remedy
        )
    if found != [0, 1, 2, 3]:
        return Finding("faiss", "broken", "searches wrongly", remedy)
    if len(builds) != 1:
        return Finding(
            "faiss", "broken", f"{len(builds)} builds share their files: {', '.join(builds)}", remedy
        )
    gpu = hasattr(faiss, "StandardGpuResources")
    if builds == ["faiss-gpu"] and not gpu:
        return Finding("faiss", "broken", "faiss-gpu without its GPU classes", remedy)
    return Finding("faiss", "ok", f"{builds[0]} {importlib.metadata.version(builds[0])}")


def _installed(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _browser() -> Finding:
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if path := shutil.which(name):
            return Finding("browser", "ok", path)
    return Finding(
        "browser", "ok", "no Chromium on the path: the page works in any browser, its tests are skipped",
        "install Chromium to run the browser tests",
    )  # fmt: skip


def _disk(folder: Path) -> Finding:
    free_gb = shutil.disk_usage(folder).free / 1e9
    if free_gb < LEAST_FREE_GB:
        return Finding("disk", "broken", f"{free_gb:.1f} GB free in {folder}", "free some space")
    return Finding("disk", "ok", f"{free_gb:.0f} GB free in {folder}")
