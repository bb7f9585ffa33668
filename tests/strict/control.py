"""The control API for tests whose endpoint is another process: JSON over HTTP under /_control/.

| request | what it does |
|---|---|
| GET state | addresses, credentials, buckets with objects, open sessions and staged blocks, crashes |
| GET requests?operation=&protocol= | the log |
| GET content?protocol=&bucket=&key= | an object's bytes |
| GET, POST, DELETE faults | list, add (a Fault as JSON; answers it with its id), remove all |
| DELETE faults/ID, POST faults/ID/release | remove one, let go what it holds |
| POST bucket | {"protocol", "name", "versioning"?, "object_lock"?} |
| POST object | {"protocol", "bucket", "key", "text", "metadata"?}: somebody else's object |
| POST command | {"command": forget_sessions, expire_uncommitted, revoke_tokens or clear_log; "bucket"?} |
| POST settings | {"s3": {"min_part": ...}, "azure": {...}, "gcs": {...}, "clock_offset": seconds} |
| POST deny | {"protocol", "principal"?, "names": [...]}: permissions (S3, GCS) or operations (Azure) |
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from aiohttp import web

from tests.strict import foreign
from tests.strict.faults import Fault
from tests.strict.wire import json_ready

if TYPE_CHECKING:
    from tests.strict.server import StrictServer

_SETTINGS = {
    "s3": ("region", "min_part", "max_part", "max_page"),
    "azure": ("max_block", "max_blob", "max_blocks", "crc64"),
    "gcs": ("keep_after_cut",),
}


class Control:
    """Answers /_control/ requests, on the server's loop."""

    def __init__(self, server: StrictServer) -> None:
        self._server = server

    async def answer(self, request: web.BaseRequest) -> web.Response:
        words = request.path.strip("/").split("/")[1:]
        try:
            body: dict[str, Any] = json.loads(await request.read() or b"{}")
            value = self._act(request.method, words, body, dict(request.query))
        except (KeyError, ValueError, TypeError, AttributeError) as error:
            return web.json_response({"error": f"{type(error).__name__}: {error}"}, status=400)
        if isinstance(value, bytes):
            return web.Response(body=value)
        return web.json_response(value)

    def _act(self, method: str, words: list[str], body: dict[str, Any], query: dict[str, str]) -> Any:
        if words[0] == "faults":
            return self._faults(method, words[1:], body)
        match method, words[0]:
            case "GET", "state":
                return self._state()
            case "GET", "requests":
                entries = self._server.log.entries(query.get("operation"), query.get("protocol"))
                return [json_ready(entry) for entry in entries]
            case "GET", "content":
                side = getattr(self._server, query["protocol"])
                return side.objects(query["bucket"])[query["key"]].content.bytes()
            case "POST", "bucket":
                foreign.create_bucket(self._server, body.pop("protocol"), body.pop("name"), **body)
            case "POST", "object":
                text = body.pop("text").encode()
                foreign.put(
                    self._server,
                    body["protocol"],
                    body["bucket"],
                    body["key"],
                    data=text,
                    metadata=body.get("metadata"),
                )
            case "POST", "command":
                return {"count": self._command(body["command"], body.get("bucket", ""))}
            case "POST", "settings":
                self._settings(body)
            case "POST", "deny":
                self._deny(body["protocol"], body.get("principal", ""), set(body["names"]))
            case _:
                raise ValueError(f"no such control request: {method} {'/'.join(words)}")
        return {}

    def _faults(self, method: str, words: list[str], body: dict[str, Any]) -> Any:
        book = self._server.faults
        if not words:
            if method == "POST":
                return book.add(Fault.from_dict(body)).as_dict()
            if method == "DELETE":
                book.clear()
            return [fault.as_dict() for fault in book.all()]
        fault = book.get(int(words[0]))
        if fault is None:
            raise ValueError(f"no fault {words[0]}")
        if words[1:] == ["release"]:
            fault.release()
        elif method == "DELETE":
            book.remove(fault)
        return fault.as_dict()

    def _command(self, command: str, bucket: str) -> int:
        server = self._server
        match command:
            case "forget_sessions":
                count = server.s3.forget_uploads(bucket) if bucket in server.s3.buckets else 0
                return count + (server.gcs.forget_sessions(bucket) if bucket in server.gcs.buckets else 0)
            case "expire_uncommitted":
                return server.azure.expire_uncommitted(bucket)
            case "revoke_tokens":
                server.gcs.auth.revoke_all()
            case "clear_log":
                server.log.clear()
            case _:
                raise ValueError(f"no such command: {command}")
        return 0

    def _settings(self, body: dict[str, Any]) -> None:
        self._server.clock.offset = float(body.get("clock_offset", self._server.clock.offset))
        for name, allowed in _SETTINGS.items():
            for key, value in body.get(name, {}).items():
                if key not in allowed:
                    raise ValueError(f"{name} has no setting {key}; it has {', '.join(allowed)}")
                setattr(getattr(self._server, name), key, value)

    def _deny(self, protocol: str, principal: str, names: set[str]) -> None:
        server = self._server
        match protocol:
            case "s3":
                server.s3.accounts[principal or server.s3.account.access_key].denied = names
            case "azure":
                server.azure.account.denied[principal or "key"] = names
            case "gcs":
                for account in server.gcs.auth.accounts.values():
                    if principal in ("", account.email):
                        account.denied = names
            case _:
                raise ValueError(f"no such protocol: {protocol}")

    def _state(self) -> dict[str, Any]:
        server = self._server
        azure = [name for _, name in server.azure.containers]
        return {
            "url": server.url,
            "ca_file": str(server.ca_file) if server.ca_file else None,
            "crashes": server.crashes,
            "s3": {
                "access_key": server.s3.account.access_key,
                "secret_key": server.s3.account.secret_key,
                "region": server.s3.region,
                "buckets": {
                    name: {
                        "objects": {
                            key: _summary(item.content.size, item.metadata)
                            for key, item in bucket.objects().items()
                        },
                        "versions": sum(len(versions) for versions in bucket.versions.values()),
                        "uploads": {
                            u.id: {"key": u.key, "parts": sorted(u.parts)} for u in bucket.uploads.values()
                        },
                    }
                    for name, bucket in server.s3.buckets.items()
                },
            },
            "azure": {
                "url": server.azure_url,
                "connection_string": server.azure_connection_string,
                "containers": {
                    name: {
                        "objects": {
                            key: _summary(item.content.size, item.metadata)
                            for key, item in server.azure.objects(name).items()
                        },
                        "uncommitted": {
                            key: [block.id for block in blocks]
                            for key, blocks in server.azure.uncommitted(name).items()
                        },
                    }
                    for name in azure
                },
            },
            "gcs": {
                "url": server.gcs_url,
                "credentials": server.gcs.auth.credentials(f"{server.gcs_url}/token"),
                "buckets": {
                    name: {
                        "objects": {
                            key: _summary(item.content.size, item.metadata)
                            for key, item in server.gcs.objects(name).items()
                        },
                        "sessions": {
                            s.id: {"key": s.name, "held": s.held} for s in server.gcs.open_sessions(name)
                        },
                    }
                    for name in server.gcs.buckets
                },
            },
        }


def _summary(size: int, metadata: dict[str, str]) -> dict[str, Any]:
    return {"size": size, "metadata": metadata}
