"""Exit codes, as scripts and service managers read them (69, 75 and 78 are those of sysexits.h)."""

from __future__ import annotations

from typing import Final

OK: Final = 0
PROBLEMS: Final = 1
USAGE: Final = 2
NOT_RUNNING: Final = 3
UNAVAILABLE: Final = 69
TRY_AGAIN: Final = 75
CONFIGURATION: Final = 78
INTERRUPTED: Final = 130
"""By Ctrl-C, as shells have it: 128 and the signal's number."""

OF_REFUSAL: Final = {"usage": USAGE, "unavailable": UNAVAILABLE, "again": TRY_AGAIN}
"""By the kind of an `errors.Refused`; any other is `PROBLEMS`."""

LINGER_SECONDS: Final = 2.0
"""How long threads and tasks have to end after all is done and said; the ledger is closed by then."""
