"""python -m tests.bench [MEASURE...]: uploaderd beside its peers, on this machine, against one server.

Sets up what it needs (see `setup.py`), checks its own server, measures, prints a table for each measure, and
keeps the raw figures in --out.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

from tests.bench import certificate, check
from tests.bench.bench import Bench
from tests.bench.measures import ASKED_FOR, MEASURES
from tests.bench.setup import INTERPRETER, SetupError, Tools, prepared

_ROOT: Final = Path(__file__).parents[2]


def main() -> int:
    options = _options()
    if (os.cpu_count() or 1) < 2:
        sys.stderr.write("tests.bench: needs two cores, one for the clients and one for the server\n")
        return 1
    try:
        tools = prepared(_ROOT / ".cache" / "bench")
    except SetupError as error:
        sys.stderr.write(f"tests.bench: {error}\n")
        return 1
    options.data.mkdir(parents=True, exist_ok=True)
    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bench-", dir=options.data) as folder:
        bench = Bench(tools, certificate.made(Path(folder)), options.data, options.runs, options.quick)
        check.endpoint(bench)
        shown: list[str] = []
        for name in options.measures or [name for name in MEASURES if name not in ASKED_FOR]:
            bench.say(f"measuring {name}")
            result = MEASURES[name](bench)
            kept = {"measure": name, "machine": _machine(tools), **result.kept()}
            kept |= {"runs": options.runs, "quick": options.quick}
            (options.out / f"{name}.json").write_text(json.dumps(kept, indent=1) + "\n")
            shown.append(f"{name}: {result.shown()}")
            sys.stdout.write(f"\n{shown[-1]}\n")
            sys.stdout.flush()
    (options.out / "table.txt").write_text("\n\n".join(shown) + "\n")
    sys.stderr.write(f"\ntests.bench: table and raw figures are in {options.out}\n")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument(
        "measures",
        nargs="*",
        metavar="MEASURE",
        help=f"of: {', '.join(MEASURES)}; default: all but {', '.join(ASKED_FOR)}",
    )
    parser.add_argument("--runs", type=int, default=5, help="of each client; medians are shown")
    parser.add_argument("--quick", action="store_true", help="small files and few, to try the bench itself")
    data = _ROOT / ".cache" / "bench" / "data"
    parser.add_argument("--data", type=Path, default=data, help="for recordings and ledgers; on a real disk")
    out = _ROOT / ".cache" / "bench" / time.strftime("results-%Y%m%d-%H%M%S")
    parser.add_argument("--out", type=Path, default=out, help="for the figures")
    options = parser.parse_args()
    if unknown := [name for name in options.measures if name not in MEASURES]:
        parser.error(f"no measure is called {', '.join(unknown)}; there are {', '.join(MEASURES)}")
    options.data, options.out = options.data.resolve(), options.out.resolve()
    return options


def _machine(tools: Tools) -> dict[str, Any]:
    cpu = [
        line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")
    ]
    memory = next((line.split()[1] for line in _lines("/proc/meminfo") if line.startswith("MemTotal")), "0")
    return {
        "cpu": cpu[0] if cpu else platform.machine(),
        "cores": os.cpu_count(),
        "memory_kib": int(memory),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "interpreter": INTERPRETER,
        "load": os.getloadavg(),
        "peers": tools.versions(),
    }


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines()


if __name__ == "__main__":
    sys.exit(main())
