"""The faces: command line and map page."""
