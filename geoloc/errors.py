"""The errors geoloc raises on purpose. Every message names the cause and the remedy.

GeolocError                    anything a user can mend; the command line prints it and exits with 2
├── ImageError                 a street view that cannot be read
├── ImageryError               satellite imagery that cannot be read or indexed
├── ModelError                 a model folder or spec that is wrong or does not match
├── DataError                  a dataset or table of pairs that is wrong or incomplete
└── GalleryError               a gallery that is missing, damaged, or in use
"""


class GeolocError(Exception):
    """The root: one sentence of cause, one of remedy."""


class ImageError(GeolocError):
    """A street view that cannot be decoded, is too large, or is nonsense."""


class ImageryError(GeolocError):
    """Satellite imagery that cannot be read, placed on the earth, or tiled."""


class ModelError(GeolocError):
    """A model folder that is missing, damaged, or of another make than asked for."""


class DataError(GeolocError):
    """A dataset, table of pairs or configuration that is wrong or incomplete."""


class GalleryError(GeolocError):
    """A gallery that is missing, damaged, of another model, or being built."""


def first_line(cause: BaseException) -> str:
    """What an error of a library says, without what follows for its developers."""
    return next(iter(str(cause).splitlines()), type(cause).__name__)
