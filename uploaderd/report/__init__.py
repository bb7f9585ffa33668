"""Is everything safe? The ledger, and what only the running daemon knows, as people and programs read it.

`model` has the shapes, which are those of `--json`; `status`, `recordings`, `history` and `why` fill
them; `text` and `pages` put them into lines for people; `ask` talks to the daemon. Nothing here writes,
and nothing loads a cloud library.
"""
