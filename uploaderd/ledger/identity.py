"""Is this file a new recording, or one that the ledger knows? DESIGN.md, "Identity".

Same path, size, mtime and inode: the same. Only inode or mtime differ (remount, restore, touch):
compare fingerprint, then content. Same inode, mtime and fingerprint under another path: renamed, or a
hard link if the old path still has it. Anything else: new, and if the path was known, a new version.

What only the disk can answer is asked for (`Question`): the caller finds out, outside of the
transaction, and settles again with the `Evidence`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from uploaderd.keys import text_of
from uploaderd.ledger import held, intake
from uploaderd.ledger.intake import Known, NewRecording
from uploaderd.ledger.writer import Transaction
from uploaderd.model import FileIdentity


class Settled(StrEnum):
    """What a finished file turned out to be."""

    QUEUED = "queued"
    HELD = "held"
    SKIPPED = "skipped"
    SAME = "same"
    TOUCHED = "touched"
    RENAMED = "renamed"
    LINKED = "linked"
    """A hard link to a recording that is still at its own path."""


@dataclass(frozen=True, slots=True)
class SameContent:
    """Has the file at the new recording's path the content of this one?

    `ranges` (offset, size, CRC-64/NVME) are what was read of it so far; the whole, if it was read.
    """

    known: Known
    ranges: tuple[tuple[int, int, int], ...]


@dataclass(frozen=True, slots=True)
class StillThere:
    """Is the known recording's file still at its own path, under the same inode?"""

    known: Known


Question = SameContent | StillThere


@dataclass(frozen=True, slots=True)
class Evidence:
    """The answers, by the known recording's id."""

    same_content: Mapping[int, bool] = field(default_factory=dict)
    still_there: Mapping[int, bool] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Rules:
    """What the ledger cannot know by itself.

    Attributes:
        inodes: whether inodes mean something; on network file systems they do not.
        providers: the providers' names by id, for messages.
    """

    inodes: bool
    providers: Mapping[int, str]


def settle(tx: Transaction, one: NewRecording, evidence: Evidence, rules: Rules) -> Settled | Question:
    """Take the file in as what it is; or ask what must be known before."""
    here = intake.at_path(tx.conn, one.source_id, one.path)
    if here is not None:
        if _untouched(here, one, rules):
            return _again(tx, here, one, rules)
        told = _returned(tx, here, one, evidence, rules)
        if told is not None:
            return told
    if rules.inodes:
        told = _elsewhere(tx, here, one, evidence, rules)
        if told is not None:
            return told
    if here is None and (past := intake.last_at_path(tx.conn, one.source_id, one.path)) is not None:
        told = _returned(tx, past, one, evidence, rules)
        if told is not None:
            return told
    return _new(tx, one, rules)


def _untouched(here: Known, one: NewRecording, rules: Rules) -> bool:
    if rules.inodes:
        return here.identity.same_stat(one.identity)
    return (here.identity.size, here.identity.mtime_ns) == (one.identity.size, one.identity.mtime_ns)


def _again(
    tx: Transaction, here: Known, one: NewRecording, rules: Rules, otherwise: Settled = Settled.SAME
) -> Settled:
    """A recording that is known; one that was held, or could not be read, is queued if it may be now."""
    if here.state == "failed" and not one.held and held.readable_again(tx, here.id):
        return Settled.QUEUED
    if here.state != "held":
        return otherwise
    one = _with_free_keys(tx, _let_through(one, here), rules, here.id)
    if one.held or one.skipped:
        held.because(tx, here.id, one)
        return otherwise
    held.unhold(tx, here.id, one)
    return Settled.QUEUED


def _let_through(one: NewRecording, here: Known) -> NewRecording:
    """The same, without the gate that a person opened for it."""
    if one.gate is None or not here.released:
        return one
    return replace(one, held=None, gate=None, doubt=f"{one.held}; it was released all the same")


def _returned(
    tx: Transaction, known: Known, one: NewRecording, evidence: Evidence, rules: Rules
) -> Settled | Question | None:
    """The recording of the same path, if it has the same content; None if it has not."""
    if not _alike(known.identity, one.identity):
        return None
    same = evidence.same_content.get(known.id)
    if same is None:
        ranges = _read_so_far(tx, known)
        if ranges:
            return SameContent(known, ranges)
        # Nothing was read of it but the fingerprint: whatever is sent will be what is there now. What
        # is gone for good and was never read, though, cannot be compared.
        same = not known.gone or known.state in ("lost", "superseded")
    if not same:
        return None
    if known.gone:
        intake.revive(tx, known.id, one.path)
    intake.touched(tx, known.id, one.identity)
    return _again(tx, known, one, rules, otherwise=Settled.TOUCHED)


def _alike(known: FileIdentity, found: FileIdentity) -> bool:
    return (known.size, known.fingerprint) == (found.size, found.fingerprint)


def _read_so_far(tx: Transaction, known: Known) -> tuple[tuple[int, int, int], ...]:
    if known.crc64nvme is not None:
        return ((0, known.identity.size, known.crc64nvme),)
    return tuple(intake.sent_ranges(tx.conn, known.id))


def _elsewhere(
    tx: Transaction, here: Known | None, one: NewRecording, evidence: Evidence, rules: Rules
) -> Settled | Question | None:
    """The file is known under another path: it was renamed, or has two names; None if it is not."""
    # Inodes are used again: only one that kept its mtime as well, as a rename does, is the same.
    for known in intake.at_inode(tx.conn, one.source_id, one.identity.inode, one.identity.mtime_ns):
        if known.path == one.path and not known.gone:
            continue
        if not (known.identity.same_stat(one.identity) and _alike(known.identity, one.identity)):
            continue
        if not known.gone:
            there = evidence.still_there.get(known.id)
            if there is None:
                return StillThere(known)
            if there:
                return Settled.LINKED
        if here is not None:
            intake.replace(tx, here.id)
            intake.superseded(tx, here.id, known.id)
        if known.gone:
            intake.revive(tx, known.id, one.path)
        if known.path != one.path:
            intake.renamed(tx, known.id, one.path, (text_of(known.path), text_of(one.path)))
        if known.state == "held":
            _again(tx, known, one, rules)
        return Settled.RENAMED
    return None


def _new(tx: Transaction, one: NewRecording, rules: Rules) -> Settled:
    one = _with_free_keys(tx, one, rules, None)
    if intake.enqueue(tx, [one])[0] is None:
        return Settled.SAME
    if one.skipped:
        return Settled.SKIPPED
    return Settled.HELD if one.held else Settled.QUEUED


def _with_free_keys(tx: Transaction, one: NewRecording, rules: Rules, own_id: int | None) -> NewRecording:
    """The same, or held if another recording that is present has one of its keys.

    One that was renamed away from this very path is an earlier version of it: what is at its key is
    dealt with when the upload looks there.
    """
    if one.held or one.skipped:
        return one
    for upload in one.uploads:
        for other_id, source_id, path in intake.at_key(tx.conn, upload.provider_id, upload.key):
            if other_id == own_id or (source_id, path) == (one.source_id, one.path):
                continue
            if source_id == one.source_id and intake.was_at(tx.conn, other_id, text_of(one.path)):
                continue
            reason = (
                f"its key {upload.key!r} at {rules.providers[upload.provider_id]} is already that of"
                f" {text_of(path)!r}; rename it, or make `key` tell them apart"
            )
            return replace(one, held=reason, uploads=())
    return one
