"""Worlds: biomes, land, materials, skies and cameras drawn from wide distributions, for transfer to photographs."""
