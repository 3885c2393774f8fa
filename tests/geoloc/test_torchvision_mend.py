import importlib
import sys
import types

import pytest

from geoloc import torchvision_mend
from geoloc.torchvision_mend import META, mend_torchvision


def test_timm_imports_after_the_mend() -> None:
    mend_torchvision()
    timm = importlib.import_module("timm")
    assert timm.list_models("resnet18")


def test_a_whole_torchvision_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = types.ModuleType("torchvision")
    meta = types.ModuleType(META)
    meta.__file__ = "somewhere"
    monkeypatch.setitem(sys.modules, "torchvision", whole)
    monkeypatch.setitem(sys.modules, META, meta)
    assert mend_torchvision() is False
    assert sys.modules["torchvision"] is whole
    assert sys.modules[META] is meta


def test_missing_operators_are_mended(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
        monkeypatch.delitem(sys.modules, name)
    calls = []

    def broken_once(name: str) -> types.ModuleType:
        calls.append(name)
        if META not in sys.modules:
            monkeypatch.setitem(sys.modules, "torchvision.half", types.ModuleType("torchvision.half"))
            raise RuntimeError("operator torchvision::nms does not exist")
        return types.ModuleType(name)

    monkeypatch.setattr(torchvision_mend.importlib, "import_module", broken_once)
    assert mend_torchvision() is True
    assert calls == ["torchvision", "torchvision"]
    assert "torchvision.half" not in sys.modules
    monkeypatch.delitem(sys.modules, META)


def test_other_faults_and_absence(monkeypatch: pytest.MonkeyPatch) -> None:
    def other(name: str) -> types.ModuleType:
        raise RuntimeError("something else")

    monkeypatch.setattr(torchvision_mend.importlib, "import_module", other)
    with pytest.raises(RuntimeError, match="something else"):
        mend_torchvision()

    def absent(name: str) -> types.ModuleType:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(torchvision_mend.importlib, "import_module", absent)
    assert mend_torchvision() is False
