"""What the program says while it works, and what it must never say.

`mask` and `register_secret` are here and cost nothing to import; the ledger and the errors use them
too. `uploaderd.logs.setup` configures the log lines; it imports structlog (75 ms, which brings rich),
so commands that only read the ledger leave it alone.
"""

from uploaderd.logs.secrets import MASK, mask, register_secret

__all__ = ["MASK", "mask", "register_secret"]
