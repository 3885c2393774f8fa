"""Make a CUDA torchvision importable beside a CPU torch.

Where the package index has no CPU build of torchvision, importing it (and so timm) fails with
`operator torchvision::nms does not exist`. All geoloc needs of it is pure Python.
"""

import importlib
import sys
import types

MISSING_OPS = "torchvision::nms does not exist"
META = "torchvision._meta_registrations"


def mend_torchvision() -> bool:
    """Import torchvision; True if it had to be mended, False if it was whole or absent.

    Mended, it lacks `ops.nms` and the `torchvision.io` codecs. A whole torchvision is left alone.
    """
    try:
        importlib.import_module("torchvision")
    except ModuleNotFoundError:
        return False
    except RuntimeError as cause:
        if MISSING_OPS not in str(cause):
            raise
    else:
        return META in sys.modules and not hasattr(sys.modules[META], "__file__")
    for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
        del sys.modules[name]
    sys.modules[META] = types.ModuleType(META)
    importlib.import_module("torchvision")
    return True
