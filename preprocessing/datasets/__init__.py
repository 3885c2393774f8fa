"""Datasets as downloaded, each read into the same table of pairs."""
