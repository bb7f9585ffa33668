"""The audit of what is installed: of the lock files, and of the audit itself against an OSV of ours."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

import pytest

from tests import audit
from tests.servers.process import free_port

ADVISORY: Final[dict[str, Any]] = {
    "id": "PYSEC-2024-24",
    "aliases": ["CVE-2024-23334", "GHSA-5h86-8mv2-jq9f"],
    "affected": [
        {
            "package": {"ecosystem": "PyPI", "name": "aiohttp"},
            "ranges": [
                {"type": "GIT", "events": [{"introduced": "0"}, {"fixed": "1c335944d6a8"}]},
                {"type": "ECOSYSTEM", "events": [{"introduced": "1.0.5"}, {"fixed": "3.9.2"}]},
            ],
            "versions": ["3.9.0", "3.9.1"],
        }
    ],
}
"""A real one, shortened."""


@contextmanager
def advisories(known: dict[str, Any] = ADVISORY) -> Iterator[str]:
    """A service that speaks OSV's protocol and knows one advisory; its address."""

    class Osv(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["queries"]
            self.reply({"results": [{"vulns": [{"id": known["id"]}]} if hit(one) else {} for one in asked]})

        def do_GET(self) -> None:
            self.reply(known)

        def reply(self, answer: dict[str, Any]) -> None:
            body = json.dumps(answer).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    def hit(query: dict[str, Any]) -> bool:
        return any(
            query["package"] == one["package"] and query["version"] in one["versions"]
            for one in known["affected"]
        )

    with ThreadingHTTPServer(("127.0.0.1", 0), Osv) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def lock(folder: Path, *pins: str) -> str:
    file = folder / "some.lock"
    file.write_text("".join(f"{pin} \\\n    --hash=sha256:{'0' * 64}\n" for pin in pins))
    return str(file)


def test_nothing_of_what_is_installed_is_known_to_be_vulnerable(capsys: pytest.CaptureFixture[str]) -> None:
    """In earnest, where the public service can be reached; elsewhere nothing is shown, and that is said."""
    code = audit.main([])
    said = capsys.readouterr()
    if code == audit.NOT_ASKED:
        pytest.skip(f"{said.err.strip()}; run `python -m tests.audit` where it can be reached")
    assert code == audit.NOTHING_KNOWN, f"{said.out}raise the pin (the lock's first lines say how)"


def test_a_vulnerable_pin_is_named_with_what_mends_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also one that is for other systems only, and that this machine would not install."""
    pins = ["attrs==26.1.0", "aiohttp==3.9.1 ; sys_platform == 'win32'"]
    with advisories() as osv:
        assert audit.main(["--osv", osv, lock(tmp_path, *pins)]) == audit.KNOWN
    assert capsys.readouterr().out == (
        "aiohttp 3.9.1: PYSEC-2024-24 (CVE-2024-23334, GHSA-5h86-8mv2-jq9f), mended in 3.9.2\n"
        "2 packages asked about; advisories: 1\n"
    )


def test_every_line_of_the_locks_is_asked_about(capsys: pytest.CaptureFixture[str]) -> None:
    lines = {
        line.split()[0] for file in audit.LOCKS for line in file.read_text().splitlines() if "==" in line
    }
    with advisories() as osv:
        assert audit.main(["--osv", osv]) == audit.NOTHING_KNOWN
    assert capsys.readouterr().out == f"{len(lines)} packages asked about; advisories: 0\n"


def test_an_accepted_one_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(audit.ACCEPTED, "PYSEC-2024-24", "we serve no static files")
    with advisories() as osv:
        assert audit.main(["--osv", osv, lock(tmp_path, "aiohttp==3.9.0")]) == audit.NOTHING_KNOWN


def test_an_answer_that_knows_nothing_is_no_clean_bill(capsys: pytest.CaptureFixture[str]) -> None:
    with advisories({"id": "none", "affected": []}) as osv:
        assert audit.main(["--osv", osv]) == audit.NOT_ASKED
    assert "knows nothing of aiohttp 3.9.0" in capsys.readouterr().err


def test_no_answer_is_no_clean_bill(capsys: pytest.CaptureFixture[str]) -> None:
    assert audit.main(["--osv", f"http://127.0.0.1:{free_port()}"]) == audit.NOT_ASKED
    assert "Connection refused" in capsys.readouterr().err
