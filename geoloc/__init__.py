"""Cross-view geo-localization: a street view in, a place on the map out."""

from geoloc.torchvision_mend import mend_torchvision

mend_torchvision()
