"""How providers and sources fare, as the daemon sees it."""

from __future__ import annotations

from uploaderd.errors import Fault, LedgerError
from uploaderd.ledger.chain import Event
from uploaderd.ledger.writer import Transaction
from uploaderd.model import FailureClass, Milliseconds, ProviderState, SourceState


def provider_troubled(tx: Transaction, provider_id: int, fault: Fault, next_probe_at: Milliseconds) -> bool:
    """The provider is down (`retrying`) or needs a person (`paused`). An event, and True, if that is new."""
    state = ProviderState.PAUSED if fault.failure is FailureClass.PROVIDER else ProviderState.RETRYING
    name, before, message = tx.conn.execute(
        "SELECT name, state, problem_message FROM providers WHERE id = ?", (provider_id,)
    ).fetchone()
    tx.conn.execute(
        "UPDATE providers SET state = ?, problem_class = ?, problem_message = ?, problem_hint = ?,"
        " problem_since = coalesce(problem_since, ?), probes = probes + 1, next_probe_at = ? WHERE id = ?",
        (state, fault.failure, fault.message, fault.hint, tx.now, next_probe_at, provider_id),
    )
    news = before != state or message != fault.message
    if news:
        detail = {
            "class": str(fault.failure),
            "code": fault.code,
            "message": fault.message,
            "hint": fault.hint,
        }
        tx.event(Event(f"provider-{state}", provider=name, detail=detail))
    return bool(news)


def provider_due(tx: Transaction, provider_id: int) -> None:
    """A probe succeeded: whatever waits for its backoff is due, so that one upload can try."""
    tx.conn.execute(
        "UPDATE uploads SET next_attempt_at = ? WHERE provider_id = ? AND state = 'retrying'"
        " AND next_attempt_at > ?",
        (tx.now, provider_id, tx.now),
    )


def provider_well(tx: Transaction, provider_id: int) -> bool:
    """The provider works (again); its waiting uploads are due at once. True if that is news."""
    row = tx.conn.execute(
        "UPDATE providers SET state = 'ok', problem_class = NULL, problem_message = NULL,"
        " problem_hint = NULL, problem_since = NULL, probes = 0, next_probe_at = NULL"
        " WHERE id = ? AND state IN ('retrying', 'paused') RETURNING name",
        (provider_id,),
    ).fetchone()
    if row is None:
        return False
    provider_due(tx, provider_id)
    tx.event(Event("provider-ok", provider=row[0]))
    return True


def configured(tx: Transaction, enabled: frozenset[int]) -> None:
    """Disable the providers that the configuration does not use (any more), enable those it does.

    A provider in trouble stays so until it shows that it works.

    Raises:
        LedgerError: one that was retired is enabled.
    """
    for provider_id, name, state in tx.conn.execute("SELECT id, name, state FROM providers").fetchall():
        if provider_id in enabled and state == ProviderState.RETIRED:
            raise LedgerError(
                f"[providers.{name}] is in use, but was retired",
                "give the destination another name, or remove the table",
            )
        if provider_id in enabled:
            new, kind = ProviderState.OK, "provider-enabled"
            move = state == ProviderState.DISABLED
        else:
            new, kind = ProviderState.DISABLED, "provider-disabled"
            move = state not in (ProviderState.DISABLED, ProviderState.RETIRED)
        if move:
            tx.conn.execute(
                "UPDATE providers SET state = ?, problem_class = NULL, problem_message = NULL,"
                " problem_hint = NULL, problem_since = NULL, probes = 0, next_probe_at = NULL WHERE id = ?",
                (new, provider_id),
            )
            tx.event(Event(kind, provider=name))


def source_seen(tx: Transaction, source_id: int, state: SourceState, device: int | None) -> None:
    """The source's root is there, or missing; an event when that is new."""
    name, before = tx.conn.execute("SELECT name, state FROM sources WHERE id = ?", (source_id,)).fetchone()
    if before == state and state is SourceState.MISSING:
        return
    tx.conn.execute(
        "UPDATE sources SET state = ?, device = coalesce(?, device),"
        " missing_since = CASE WHEN ? = 'missing' THEN ? END WHERE id = ?",
        (state, device, state, tx.now, source_id),
    )
    if before != state:
        tx.event(Event(f"source-{state}", source=name))


def swept(tx: Transaction, source_id: int, at: Milliseconds) -> None:
    """A full scan came to its end: the first of a run, one an hour, or the last."""
    tx.conn.execute("UPDATE sources SET last_sweep_at = ? WHERE id = ?", (at, source_id))


def unseen(tx: Transaction, source_id: int, folders: str | None) -> None:
    """These folders of the source cannot be looked into; None if all can. Kept, for whoever cannot ask us."""
    tx.conn.execute(
        "UPDATE sources SET unseen = ? WHERE id = ? AND unseen IS NOT ?", (folders, source_id, folders)
    )
