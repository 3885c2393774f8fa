"""Cross-view geo-localization: a street view in, a place on the map out."""
