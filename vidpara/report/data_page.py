"""What the checks of data found, as a page and as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import get_args

from vidpara.data.finding import Finding, Verdict
from vidpara.files import write_atomically
from vidpara.report.page import media, render


def write(folder: Path, findings: Mapping[str, Sequence[Finding]], pictures: Sequence[Path]) -> Path:
    """Write `page.html` and `findings.json` into `folder`; `findings` are by source. Gives the page."""
    counts = {verdict: 0 for verdict in get_args(Verdict)}
    for finding in (each for of_source in findings.values() for each in of_source):
        counts[finding.verdict] += 1
    record = {source: [each._asdict() for each in found] for source, found in findings.items()}
    write_atomically(folder / "findings.json", (json.dumps(record, indent=1) + "\n").encode())
    page = render(
        "data.html.jinja",
        title="Is this data right?",
        summary=f"{counts['error']} errors, {counts['warning']} warnings, {counts['ok']} checks passed"
        + (f", {counts['left out']} left out." if counts["left out"] else "."),
        sources=[{"name": source, "findings": found} for source, found in findings.items()],
        media=[media(path, path.stem.replace("_", " ")) for path in pictures],
    )
    write_atomically(folder / "page.html", page.encode())
    return folder / "page.html"
