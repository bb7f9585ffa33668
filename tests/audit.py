"""Asks the public advisories about every package that the image installs or is built with.

    python -m tests.audit                     # .ci/requirements.lock and .ci/build.lock
    python -m tests.audit other.lock
    python -m tests.audit --osv URL           # a mirror of OSV instead of the public one

Exit 0: it was asked about each, and nothing is known. 1: something is; each is named, with the version that
mends it. 75: nobody could be asked, so nothing is known of anything, and standard error says why.

OSV has what PyPI, GitHub and the projects publish; its protocol: https://google.github.io/osv.dev/api/. It is
asked about a release with well-known holes as well: an answer without them is no audit but a mirror that
serves something else, and would pass for a clean bill.
"""

from __future__ import annotations

import argparse
import http.client
import json
import re
import sys
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from packaging.requirements import Requirement

CI: Final = Path(__file__).parents[1] / ".ci"
LOCKS: Final = (CI / "requirements.lock", CI / "build.lock")
PUBLIC: Final = "https://api.osv.dev"
TIMEOUT: Final = 30  # seconds, for one answer
ACCEPTED: Final[dict[str, str]] = {}
"""Advisories that do not concern us: id -> why. An entry goes when the pin has moved on."""
NOTHING_KNOWN, KNOWN, NOT_ASKED = 0, 1, 75


class NotAskedError(Exception):
    """There is no audit: nobody answered, or not what OSV answers; says what happened."""


@dataclass(frozen=True, slots=True, order=True)
class Pin:
    """One line of a lock file."""

    name: str
    version: str

    @classmethod
    def all_of(cls, lock: str) -> list[Self]:
        """Those for other systems and Pythons too: the lock is for all of them."""
        found = [Requirement(line) for line in re.findall(r"^([a-zA-Z0-9].*?)(?: \\)?$", lock, re.MULTILINE)]
        return [cls(one.name, next(iter(one.specifier)).version) for one in found]


HOLED: Final = Pin("aiohttp", "3.9.0")
"""CVE-2024-23334 and others."""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Audits lock files against the public advisories.")
    parser.add_argument("locks", nargs="*", type=Path, default=LOCKS, metavar="LOCK")
    parser.add_argument("--osv", default=PUBLIC, metavar="URL", help=f"default: {PUBLIC}")
    options = parser.parse_args(arguments)
    pins = sorted({pin for lock in options.locks for pin in Pin.all_of(lock.read_text())})
    try:
        known = audit(pins, options.osv)
    except NotAskedError as error:
        print(f"not audited: {error}", file=sys.stderr)
        return NOT_ASKED
    for line in known:
        print(line)
    print(f"{len(pins)} packages asked about; advisories: {len(known)}")
    return KNOWN if known else NOTHING_KNOWN


def audit(pins: Sequence[Pin], osv: str) -> list[str]:
    """A line for each advisory that is not accepted.

    Raises:
        NotAskedError: no answer, or none to be trusted.
    """
    asked = [*pins, HOLED]
    queries = [{"package": {"ecosystem": "PyPI", "name": pin.name}, "version": pin.version} for pin in asked]
    answer = ask(f"{osv}/v1/querybatch", {"queries": queries})
    results = answer.get("results", [])
    if len(results) != len(asked):
        raise NotAskedError(f"{osv} answered to {len(results)} of {len(asked)} questions")
    ids = [[found["id"] for found in result.get("vulns", [])] for result in results]
    if not ids.pop():
        raise NotAskedError(
            f"{osv} knows nothing of {HOLED.name} {HOLED.version}, which has well-known holes"
        )
    return [
        told(pin, ask(f"{osv}/v1/vulns/{found}"))
        for pin, all_of_it in zip(pins, ids, strict=True)
        for found in all_of_it
        if found not in ACCEPTED
    ]


def told(pin: Pin, advisory: dict[str, Any]) -> str:
    """One line: what it is, and what mends it."""
    fixed = [
        event["fixed"]
        for affected in advisory.get("affected", [])
        if affected.get("package", {}).get("name", "").lower() == pin.name.lower()
        for versions in affected.get("ranges", [])
        if versions["type"] == "ECOSYSTEM"
        for event in versions["events"]
        if "fixed" in event
    ]
    also = f" ({', '.join(advisory['aliases'])})" if advisory.get("aliases") else ""
    mended = f"mended in {', '.join(fixed)}" if fixed else "not mended yet"
    return f"{pin.name} {pin.version}: {advisory['id']}{also}, {mended}"


def ask(url: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    """What a service answers; with a body, to a POST.

    Raises:
        NotAskedError: it does not, or with something else.
    """
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as reply:
            answer = json.load(reply)
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        raise NotAskedError(f"{url}: {reason}") from error
    if not isinstance(answer, dict):
        raise NotAskedError(f"{url} answers with something else")
    return answer


if __name__ == "__main__":
    sys.exit(main())
