"""What a doctor said, to be asked for by subject and check."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tests.end_to_end.box import Box
from uploaderd.config import load
from uploaderd.doctor.examining import examine
from uploaderd.doctor.findings import Finding, Found


@dataclass(frozen=True)
class Asked:
    """All findings of one examination."""

    findings: list[Finding]

    def of(self, subject: str, check: str) -> Found:
        """What a check found, which is one thing."""
        found = [one.found for one in self.findings if (one.subject, one.check) == (subject, check)]
        assert len(found) == 1, f"{subject}: {check}: {found}"
        return found[0]

    def checks(self, subject: str) -> list[str]:
        return [one.check for one in self.findings if one.subject == subject]

    def bad(self, subject: str) -> dict[str, str]:
        """Checks that are not fine, with their result; each says what to do."""
        bad = [one for one in self.findings if one.subject == subject and one.found.result != "ok"]
        assert all(one.found.text and one.found.fix for one in bad)
        return {one.check: one.found.result for one in bad}


@dataclass
class Clinic:
    """A box, and its doctor."""

    box: Box

    async def examine(self, *, write: bool = True, env: Mapping[str, str] | None = None) -> Asked:
        if not self.box.providers:
            near = self.box.folder / "near"
            near.mkdir(exist_ok=True)
            self.box.providers["near"] = {"type": "directory", "path": str(near)}
        self.box.write()
        config = load(self.box.config, env={})
        return Asked([one async for one in examine(config, (), write=write, env=env or {})])
