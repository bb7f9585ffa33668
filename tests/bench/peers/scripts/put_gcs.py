"""Send a folder with google-cloud-storage. Runs in the peers' environment, not in the product's."""

from __future__ import annotations

import argparse
import importlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

storage: Any = importlib.import_module("google.cloud.storage")
credentials: Any = importlib.import_module("google.auth.credentials")
transfer: Any = importlib.import_module("google.cloud.storage.transfer_manager")


def main() -> None:
    parser = argparse.ArgumentParser()
    for option in ("--cloud", "--url", "--bucket", "--account"):
        parser.add_argument(option, required=True)
    parser.add_argument("--files", type=Path, required=True)
    parser.add_argument("--at-once", type=int, required=True)
    parser.add_argument("--parallel", type=int, default=1)
    options = parser.parse_args()
    files = sorted(options.files.iterdir())
    client = storage.Client(
        project="bench",
        credentials=credentials.AnonymousCredentials(),
        client_options={"api_endpoint": options.url},
    )
    bucket = client.bucket(options.bucket)

    def put(file: Path) -> None:
        if options.parallel > 1:
            transfer.upload_chunks_concurrently(
                file, bucket.blob(file.name), worker_type=transfer.THREAD, max_workers=options.parallel
            )
        else:
            bucket.blob(file.name).upload_from_filename(file)

    with ThreadPoolExecutor(min(options.at_once, len(files))) as threads:
        list(threads.map(put, files))


if __name__ == "__main__":
    main()
