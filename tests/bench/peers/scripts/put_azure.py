"""Send a folder with azure-storage-blob. Runs in the peers' environment, not in the product's."""

from __future__ import annotations

import argparse
import base64
import importlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

blobs: Any = importlib.import_module("azure.storage.blob")


def main() -> None:
    parser = argparse.ArgumentParser()
    for option in ("--cloud", "--url", "--bucket", "--account"):
        parser.add_argument(option, required=True)
    parser.add_argument("--files", type=Path, required=True)
    parser.add_argument("--at-once", type=int, required=True)
    parser.add_argument("--parallel", type=int, default=1)
    options = parser.parse_args()
    files = sorted(options.files.iterdir())
    login = {"account_name": options.account, "account_key": base64.b64encode(b"not-a-real-key").decode()}
    service = blobs.BlobServiceClient(f"{options.url}/{options.account}", credential=login)

    def put(file: Path) -> None:
        with file.open("rb") as content:
            service.get_blob_client(options.bucket, file.name).upload_blob(
                content, length=file.stat().st_size, max_concurrency=options.parallel
            )

    with ThreadPoolExecutor(min(options.at_once, len(files))) as threads:
        list(threads.map(put, files))


if __name__ == "__main__":
    main()
