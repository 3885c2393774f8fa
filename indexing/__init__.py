"""Tiles to a gallery of embeddings, and search in it."""
