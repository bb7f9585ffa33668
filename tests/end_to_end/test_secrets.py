"""No secret is in any log, answer or ledger column, with every library told to say all it knows."""

from __future__ import annotations

import json
import re
import stat
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import quote

from azure.storage.blob import ContainerSasPermissions, generate_container_sas

from tests.contract.place import Place
from tests.end_to_end.box import Box
from tests.end_to_end.places import content_of
from tests.strict import Fault, Kind, StrictServer
from tests.strict.sigv4 import Account

MIB = 1024 * 1024
LIBRARIES = ("botocore", "aiobotocore", "azure", "aiohttp", "gcloud", "asyncio", "urllib3")

SHAPES = {
    "an AWS signature": r"Signature=[0-9a-f]{64}",
    "an Azure signature": r"SharedKey \w+:[A-Za-z0-9+/]{40,}",
    "a bearer token": r"Bearer [\w.~+/=-]{12,}",
    "a SAS signature": r"\bsig=[^*&\s\"']{8,}",
    "a session URI": r"upload_id=[^*&\s\"']{8,}",
    "an assertion": r"\beyJ[\w-]{10,}\.eyJ[\w-]{10,}",
    "a private key": r"PRIVATE KEY-----(\\n|\n)[A-Za-z0-9+/]{20,}",
}


async def test_no_secret_is_told_anywhere(
    box: Box, places: Mapping[str, Place], endpoint: StrictServer
) -> None:
    secrets = _with_every_kind_of_login(box, places, endpoint)
    folder = box.source()
    box.daemon = {"log_level": "debug", "log_levels": dict.fromkeys(LIBRARIES, "debug")}
    (folder / "small.ts").write_bytes(b"small")
    (folder / "long.ts").write_bytes(content_of(12 * MIB))

    # Half done, so that the ledger has sessions; and not without failures, whose messages tell most.
    held = Fault(Kind.HOLD, operation="ResumableChunk", key="*long.ts", skip=1)
    broken = Fault(Kind.RESET_BODY, operation="UploadPart", after_bytes=100_000)
    refused = Fault(Kind.STATUS, operation="PutBlock", status=500)
    with endpoint.faults.expected(held, broken, refused), box.run() as daemon:
        await box.until(lambda: held.fired)
        said = await _answers(box)
        daemon.terminate()
        await daemon.says("told to stop; parts in flight finish")
        held.release()
        assert await daemon.ended() == 0
        said["log of the first run"] = daemon.text()
    said["ledger in between"] = "\n".join(_columns(box))
    (handle,) = _handles(box, "gcs")
    assert "upload_id=" in handle, "the one column that has to hold a session URI"
    with box.run("--until-safe") as daemon:
        assert await daemon.ended() == 0
        said["log of the second run"] = daemon.text()
    said |= {f"{name}, in the end": text for name, text in (await _answers(box)).items()}
    said["ledger in the end"] = "\n".join(_columns(box))

    secrets |= {
        f"session {number}": entry.query["upload_id"]
        for number, entry in enumerate(endpoint.log.entries(protocol="gcs"))
        if "upload_id" in entry.query
    }
    secrets |= {f"token {number}": token for number, token in enumerate(endpoint.gcs.auth.tokens)}
    assert {"session", "token"} <= {name.split()[0] for name in secrets}
    log = said["log of the first run"] + said["log of the second run"]
    for logger in ("botocore", "azure"):
        assert re.search(rf'"logger": "{logger}\b[^"]*"', log), f"{logger} said nothing: this shows nothing"
    found = [
        f"{what} in {where}"
        for where, text in said.items()
        for what, secret in secrets.items()
        if any(spelled in text for spelled in {secret, quote(secret, safe=""), json.dumps(secret)[1:-1]})
    ]
    found += [
        f"{what} in {where}: {match[0][:40]}"
        for where, text in said.items()
        for what, shape in SHAPES.items()
        if (match := re.search(shape, text))
    ]
    assert found == []
    for path in box.folder.glob("ledger.db*"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path.name


def _with_every_kind_of_login(
    box: Box, places: Mapping[str, Place], endpoint: StrictServer
) -> dict[str, str]:
    """Configure providers with all secrets there are; those."""
    box.send_to({name: places[name] for name in ("s3", "azure", "gcs")})
    temporary = Account("temporary-key", "not-a-real-secret-of-a-temporary-key", "not-a-real-session-token")
    endpoint.call(lambda: endpoint.s3.accounts.__setitem__(temporary.access_key, temporary))
    s3, azure = box.providers["s3"], box.providers["azure"]
    box.providers["s3_temporary"] = s3 | {
        "prefix": "temporary",
        "access_key_id": temporary.access_key,
        "secret_access_key": temporary.secret_key,
        "session_token": temporary.session_token,
    }
    account = endpoint.azure.account
    sas = generate_container_sas(
        account.name,
        azure["container"],
        account_key=account.key,
        permission=ContainerSasPermissions.from_string("racwdl"),
        expiry=datetime.now(UTC) + timedelta(hours=1),
    )
    by_sas = {name: azure[name] for name in ("type", "account", "container", "endpoint_url")}
    box.providers["azure_sas"] = by_sas | {"prefix": "sas", "sas_token": sas}
    by_string = {name: azure[name] for name in ("type", "container")}
    connection = endpoint.azure_connection_string
    box.providers["azure_string"] = by_string | {"prefix": "string", "connection_string": connection}
    for table in box.providers.values():
        table["part_size"] = "5MiB"  # several, so that each can be stopped between two
    key_file = json.loads(Path(box.providers["gcs"]["credentials_file"]).read_text())
    lines = key_file["private_key"].splitlines()
    return {
        "the S3 secret": s3["secret_access_key"],
        "the temporary S3 secret": temporary.secret_key,
        "the S3 session token": temporary.session_token or "",
        "the Azure key": account.key,
        "the SAS signature": sas.split("sig=")[1].split("&")[0],
        "the SAS": sas,
        "the connection string": connection,
        **{f"line {number} of the private key": line for number, line in enumerate(lines[1:-1])},
    }


async def _answers(box: Box) -> dict[str, str]:
    commands = [
        *(("status",), ("status", "--json"), ("list",), ("list", "--json"), ("why", "long.ts")),
        *(("history",), ("history", "--json", "--limit", "1000"), ("config", "show"), ("ledger", "check")),
    ]
    answers = {}
    for command in commands:
        said = await box.uploaderd(*command)
        assert said.code == 0, (command, said)
        answers[" ".join(command)] = said.out + said.err
    return answers


def _columns(box: Box) -> Iterator[str]:
    """Every value in the ledger, but for the sessions' handles."""
    with box.reading() as conn:
        assert conn is not None
        for (table,) in conn.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            cursor = conn.execute(f'SELECT * FROM "{table}"')
            names = [column[0] for column in cursor.description]
            for row in cursor:
                for name, value in zip(names, row, strict=True):
                    if name != "session":
                        yield value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _handles(box: Box, provider: str) -> list[str]:
    with box.reading() as conn:
        assert conn is not None
        return [
            row[0]
            for row in conn.execute(
                "SELECT session FROM uploads WHERE session IS NOT NULL"
                " AND provider_id = (SELECT id FROM providers WHERE name = ?)",
                (provider,),
            )
        ]
