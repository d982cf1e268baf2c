"""What a check of data says."""

from __future__ import annotations

from typing import Literal, NamedTuple

Verdict = Literal["ok", "warning", "error", "left out"]
PASSED = "passed"
"""A file in the folder of a check that found no error."""


class Finding(NamedTuple):
    """One check's answer. `fix` is empty where nothing is to be done."""

    check: str
    verdict: Verdict
    found: str
    fix: str = ""
