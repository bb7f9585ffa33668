"""Send a folder with obstore. Runs in the peers' environment, not in the product's."""

from __future__ import annotations

import argparse
import asyncio
import base64
import importlib
import json
import os
from pathlib import Path
from typing import Any

obstore: Any = importlib.import_module("obstore")
stores: Any = importlib.import_module("obstore.store")


def main() -> None:
    parser = argparse.ArgumentParser()
    for option in ("--cloud", "--url", "--bucket", "--account"):
        parser.add_argument(option, required=True)
    parser.add_argument("--files", type=Path, required=True)
    parser.add_argument("--at-once", type=int, required=True)
    options = parser.parse_args()
    files = sorted(options.files.iterdir())
    store = opened(options)
    if len(files) == 1:
        obstore.put(store, files[0].name, files[0])
    else:
        asyncio.run(put_all(store, files, options.at_once))
        # After many awaited puts its threads abort the interpreter at its end (0.12): it ends here.
        os._exit(0)


def opened(options: argparse.Namespace) -> Any:
    if options.cloud == "s3":
        return stores.S3Store(
            options.bucket,
            endpoint=options.url,
            region="us-east-1",
            access_key_id="not-a-real-key",
            secret_access_key="not-a-real-key",
            unsigned_payload=True,  # or it hashes everything with SHA-256: its fastest is what counts
            virtual_hosted_style_request=False,
        )
    if options.cloud == "azure":
        return stores.AzureStore(
            options.bucket,
            account_name=options.account,
            account_key=base64.b64encode(b"not-a-real-key").decode(),
            endpoint=f"{options.url}/{options.account}",
        )
    # With `skip_signature` it still asks the metadata server for a token before it writes.
    login = {"gcs_base_url": options.url, "disable_oauth": True}
    nobody = {"client_email": "", "private_key": "", "private_key_id": ""}
    return stores.GCSStore(options.bucket, service_account_key=json.dumps({**login, **nobody}))


async def put_all(store: Any, files: list[Path], at_once: int) -> None:
    left = iter(files)

    async def lane() -> None:
        for file in left:
            await obstore.put_async(store, file.name, file)

    async with asyncio.TaskGroup() as lanes:
        for _ in range(at_once):
            lanes.create_task(lane())


if __name__ == "__main__":
    main()
