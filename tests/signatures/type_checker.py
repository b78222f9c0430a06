"""How tests check the types and shapes in signatures (pyproject.toml): an int is a number where a float is asked for."""

from beartype import BeartypeConf, beartype

checked = beartype(conf=BeartypeConf(is_pep484_tower=True))
