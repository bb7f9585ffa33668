"""What the commands that act say, word for word, in one scene: two folders, beside a daemon and alone.

`TESTS_GOLDEN=write` writes it anew: read the difference before you keep it.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from tests.acts.conftest import ME
from tests.cli import golden
from tests.end_to_end.box import Box

_CHANGING: Final = (
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", "TIME"),
    (r"\d{4}/\d\d/\d\d", "DATE"),
    (r"\b01[0-9A-Z]{24}\b", "ID"),
    (r"\(process \d+\)", "(process PID)"),
    (re.escape(f"by {ME}"), "by USER"),
)


class Transcript:
    """Commands as they are typed, each with what it said and its exit code."""

    def __init__(self, box: Box) -> None:
        self._box = box
        self._text = ""

    def heading(self, text: str) -> None:
        self._text += f"{text}\n\n"

    async def types(self, *arguments: str) -> None:
        said = await self._box.uploaderd(*arguments)
        shown = " ".join(f"'{one}'" if " " in one else one for one in arguments)
        errors = "".join(f"stderr: {line}\n" for line in said.err.splitlines())
        self._text += f"$ uploaderd {shown}\n{said.out}{errors}exit {said.code}\n\n"

    def same(self, name: str) -> None:
        text = self._text
        for pattern, word in _CHANGING:
            text = re.sub(pattern, word, text)
        golden.same(name, text, self._box.folder)


async def test_what_the_acting_commands_say(box: Box) -> None:
    folder, new, old = box.source(key="{name}"), _provider(box, "new"), _provider(box, "old")
    typed = Transcript(box)
    for number in (1, 2, 3):
        (folder / f"{number}.ts").write_bytes(b"recorded" * number)
    box.providers["new"]["enabled"] = False
    with box.run():
        await box.until_safe(3)
        later = folder / "later"
        later.mkdir()
        (later / "3.ts").write_bytes(b"recorded later")
        await box.until(lambda: "later/3.ts" in box.recordings())
        (_copy(old, "1.ts")).unlink()
        _copy(old, "2.ts").write_bytes(b"REWORKED" * 2)
        typed.heading("# Beside a daemon; the copy of 1.ts is deleted, that of 2.ts written to.")
        await typed.types("pause", "old", "--reason", "new disks")
        await typed.types("pause", "old")
        await typed.types("pause", "odl")
        await typed.types("verify", "3.ts")
        await typed.types("resume", "old")
        await typed.types("pause", "hall")
        await typed.types("resume", "source:hall")
        await typed.types("ensure", "3.ts")
        await typed.types("ensure", "4.ts")
        await typed.types("verify")
        await typed.types("verify", "--deep", "--rate", "1MiB/s")
        await typed.types("acknowledge", "1.ts", "2.ts", "--reason", "looked into")
        await typed.types("release", "3.ts")
        await typed.types("release", "later/3.ts")
        await typed.types("retry", "1.ts")
        await box.until(lambda: box.uploads("old")["1.ts"].state == "verified")
        await typed.types("url", "3.ts")
        await typed.types("backfill", "new")
        await typed.types("retire", "old")
    box.providers["new"]["enabled"] = True
    box.write()
    typed.heading("# No daemon; the provider new is enabled.")
    await typed.types("backfill", "new")
    await typed.types("retry")
    await typed.types("ensure")
    await typed.types("ensure", "--force", "3.ts")
    with box.run() as daemon:  # copies to spare are nothing that `ensure` waits for
        await daemon.says("provider opened")
        await box.until(lambda: {row.state for row in box.uploads("new").values()} == {"verified"})
    await typed.types("verify", "--deep")
    box.providers["old"]["enabled"] = False
    box.write()
    await typed.types("retire", "old")
    await typed.types("retire", "old")
    typed.same("acts.txt")
    assert _copy(new, "3.ts").read_bytes() == b"recorded" * 3


def _provider(box: Box, name: str) -> Path:
    folder = box.folder / name
    folder.mkdir()
    box.providers[name] = {"type": "directory", "path": str(folder)}
    return folder


def _copy(folder: Path, name: str) -> Path:
    (found,) = (path for path in folder.rglob(name) if ".uploaderd" not in path.parts)
    return found
