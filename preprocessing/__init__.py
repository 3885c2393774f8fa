"""Raw sources to tables of tiles and street views."""
