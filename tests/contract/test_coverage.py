"""No provider type and no promise is left out of the suite unseen."""

from __future__ import annotations

from typing import get_args

import pytest

from tests.contract.conftest import all_backends
from tests.contract.place import Check
from uploaderd.config import Provider

TYPES = [str(get_args(config.model_fields["type"].annotation)[0]) for config in get_args(Provider)]

NOT_HAD = {
    ("directory", "login"): "whoever runs the daemon; see tests/provider_directory/test_faults.py",
    ("directory", "signing"): "nothing serves the files",
    ("azure", "aborting"): "uncommitted blocks cannot be discarded: they expire after a week",
}


def test_every_type_has_its_backends() -> None:
    servers: dict[str, set[str | None]] = {}
    for backend in all_backends():
        servers.setdefault(backend.type, set()).add(backend.server)

    assert set(servers) == set(TYPES)
    for type_, at in servers.items():
        assert type_ == "directory" or ("strict" in at and len(at) >= 2), (
            "an emulator and the strict endpoint"
        )


@pytest.mark.parametrize("type_", TYPES)
@pytest.mark.parametrize("check", get_args(Check))
def test_every_promise_is_put_to_the_test_somewhere(type_: str, check: Check) -> None:
    held_to = [b.name for b in all_backends() if b.type == type_ and check not in b.lenient]

    assert bool(held_to) != ((type_, check) in NOT_HAD)


def test_the_strict_endpoint_is_strict() -> None:
    for backend in all_backends():
        if backend.server == "strict":
            assert backend.lenient <= {"aborting"}, backend.name
