"""The endpoint as a process of its own, for tests that must leave it a core or kill everything around it."""

from __future__ import annotations

import json
import ssl
import subprocess
import sys
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlencode
from urllib.request import Request, urlopen

from tests.strict.faults import Fault

_ROOT = Path(__file__).parents[2]


class StrictProcess:
    """A context manager; inside it `url` answers and the methods steer it (see `control` for the shapes)."""

    def __init__(self, *, tls: bool = False) -> None:
        self._tls = tls
        self._process: subprocess.Popen[str] | None = None
        self._context: ssl.SSLContext | None = None
        self.url = ""
        self.ca_file: Path | None = None

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "tests.strict", "--port", "0", *(["--tls"] if self._tls else [])]
        self._process = subprocess.Popen(command, cwd=_ROOT, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the strict endpoint ended with {self._process.wait()} before it listened")
        address = json.loads(line)
        self.url = address["url"]
        if address["ca_file"]:
            self.ca_file = Path(address["ca_file"])
            self._context = ssl.create_default_context(cafile=self.ca_file)
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def control(self, method: str, path: str, body: dict[str, Any] | None = None, /, **query: str) -> Any:
        """One control request; the answer as JSON. Raises HTTPError 400 with a sentence for a bad one."""
        return json.loads(self._ask(method, path, body, **query))

    def _ask(self, method: str, path: str, body: dict[str, Any] | None, /, **query: str) -> bytes:
        url = f"{self.url}/_control/{path}" + (f"?{urlencode(query)}" if query else "")
        data = None if body is None else json.dumps(body).encode()
        with urlopen(Request(url, data, method=method), timeout=30, context=self._context) as answer:
            found: bytes = answer.read()
        return found

    def state(self) -> dict[str, Any]:
        found: dict[str, Any] = self.control("GET", "state")
        return found

    def requests(self, **query: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.control("GET", "requests", None, **query)
        return found

    def content(self, protocol: str, bucket: str, key: str) -> bytes:
        return self._ask("GET", "content", None, protocol=protocol, bucket=bucket, key=key)

    def create_bucket(self, protocol: str, name: str, **options: bool) -> None:
        self.control("POST", "bucket", {"protocol": protocol, "name": name, **options})

    def add_fault(self, fault: Fault) -> int:
        """Put a fault in force over there; its id."""
        counters = ("id", "matched", "fired", "armed")
        spec = {name: value for name, value in fault.as_dict().items() if name not in counters}
        number: int = self.control("POST", "faults", spec)["id"]
        return number

    def fired(self, number: int) -> int:
        """How often the fault has fired."""
        count: int = next(f["fired"] for f in self.control("GET", "faults") if f["id"] == number)
        return count
