"""Expected output in files.

`TESTS_GOLDEN=write` writes them anew: read the difference before you keep it.
"""

from __future__ import annotations

import os
from difflib import unified_diff
from pathlib import Path

FILES = Path(__file__).parent / "golden"


def same(name: str, text: str, folder: Path) -> None:
    """Compare with the file of that name; the test's own folder stands in it as DIR."""
    text = text.replace(str(folder), "DIR")
    file = FILES / name
    if os.environ.get("TESTS_GOLDEN") == "write":
        FILES.mkdir(exist_ok=True)
        file.write_text(text, encoding="utf-8")
    kept = file.read_text(encoding="utf-8")
    assert text == kept, "\n".join(
        unified_diff(kept.splitlines(), text.splitlines(), name, "said", "", "", 1)
    )
