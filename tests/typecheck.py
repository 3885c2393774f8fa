"""The checker of shapes and types in tests: beartype, with an int where a float is meant."""

from beartype import BeartypeConf, beartype

checked = beartype(conf=BeartypeConf(is_pep484_tower=True))
