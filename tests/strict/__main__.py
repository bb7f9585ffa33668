"""The endpoint as a process: one line of JSON on stdout says where it is, SIGTERM or SIGINT ends it."""

from __future__ import annotations

import argparse
import json
import signal
import sys

from tests.strict.server import StrictServer


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.strict", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--tls", action="store_true", help="with a throw-away certificate")
    options = parser.parse_args()
    signals = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    with StrictServer(tls=options.tls, port=options.port) as server:
        address = {"url": server.url, "ca_file": str(server.ca_file) if server.ca_file else None}
        sys.stdout.write(json.dumps(address) + "\n")
        sys.stdout.flush()
        signal.sigwait(signals)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
