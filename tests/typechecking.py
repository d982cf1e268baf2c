"""The checker that conftest puts on every function of vidpara: beartype, where an int is also a float."""

from __future__ import annotations

from beartype import BeartypeConf, beartype

check = beartype(conf=BeartypeConf(is_pep484_tower=True))
