from __future__ import annotations

from dataclasses import replace

import pytest

from uploaderd.model import Claim, FileIdentity, Milliseconds, Token
from uploaderd.vacancy import LARGEST, LARGEST_TRIAL, ROW, TRIAL, Vacancy

FRESH = Claim(
    upload_id=1,
    recording_id=1,
    source="cams",
    root=b"/cams",
    path=b"a.mp4",
    identity=FileIdentity(size=1000, mtime_ns=0, device=1, inode=1, fingerprint=b""),
    content=None,
    key="a.mp4",
    token=Token("0" * 32),
    replaces=None,
    handle=None,
    part_size=None,
    completing=False,
    attempt=1,
    failures=0,
    found_at=Milliseconds(0),
    finished_at=Milliseconds(0),
    parts=(),
)


def after(*free: bool) -> Vacancy:
    vacancy = Vacancy()
    for one in free:
        vacancy.found(FRESH, free=one)
    return vacancy


def test_it_takes_a_row_of_free_keys() -> None:
    assert not after(*[True] * (ROW - 1)).likely(FRESH)
    assert after(*[True] * ROW).likely(FRESH)
    assert not after(*[True] * 100, False).likely(FRESH)
    assert not after(False, *[True] * (ROW - 1)).likely(FRESH)
    assert after(False, *[True] * ROW).likely(FRESH)


@pytest.mark.parametrize(
    "claim",
    [
        replace(FRESH, attempt=2),
        replace(FRESH, completing=True),
        replace(FRESH, handle="CRC64NVME:session"),
        replace(FRESH, replaces="etag"),
        replace(FRESH, identity=replace(FRESH.identity, size=LARGEST + 1)),
    ],
    ids=["tried before", "perhaps written", "begun", "replaces", "large"],
)
def test_whose_key_may_hold_something_is_looked_at(claim: Claim) -> None:
    assert not after(*[True] * ROW).likely(claim)


def test_only_first_looks_count() -> None:
    vacancy = Vacancy()
    for _ in range(2 * ROW):
        vacancy.found(replace(FRESH, attempt=2), free=True)
    assert not vacancy.likely(FRESH)
    vacancy = after(*[True] * ROW)
    vacancy.found(replace(FRESH, attempt=2), free=False)
    assert not vacancy.likely(FRESH)


def test_a_trial_is_due_once_after_many_free_keys() -> None:
    assert not after(*[True] * (TRIAL - 1)).begin_trial(1000)
    vacancy = after(*[True] * TRIAL)
    assert not vacancy.begin_trial(LARGEST_TRIAL + 1)
    assert vacancy.begin_trial(LARGEST_TRIAL)
    assert not vacancy.begin_trial(1000), "one at a time"
    vacancy.tried(settled=True)
    assert not vacancy.begin_trial(1000)


def test_without_an_answer_trials_become_rarer() -> None:
    vacancy = Vacancy()
    due = []
    for number in range(1, 9 * TRIAL):
        vacancy.found(FRESH, free=True)
        if vacancy.begin_trial(1000):
            due.append(number)
            vacancy.tried(settled=False)
    assert due == [TRIAL, 2 * TRIAL, 4 * TRIAL, 8 * TRIAL]
