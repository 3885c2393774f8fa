"""Worlds: biomes with their own land, materials, skies and cameras, drawn wide for transfer."""
