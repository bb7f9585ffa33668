"""docs/alerts.yml: Prometheus takes it, it fires when it should, and it asks for nothing that is not told."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, Final

import yaml

from tests.cli.evening import Evening
from tests.needs import lacking
from tests.web.conftest import Faces
from tests.web.test_metrics import metrics
from uploaderd.config.telling import Webhook

ROOT: Final = Path(__file__).parents[2]
RULES: Final = ROOT / "docs" / "alerts.yml"
OURS: Final = re.compile(r"(uploaderd_\w+)(?:\{([^}]*)\})?")


def rules() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load(RULES.read_text())["groups"]
    found: list[dict[str, Any]] = group["rules"]
    return found


async def test_every_metric_and_label_is_told(lived: Evening, faces: Faces) -> None:
    lived.config.webhooks["shop"] = Webhook()
    told = await metrics(await faces.make(lived))
    for rule in rules():
        assert set(rule["annotations"]) == {"summary", "description"}
        assert rule["labels"]["severity"] in ("critical", "warning")
        for name, wanted in OURS.findall(rule["expr"]):
            labels = dict(re.findall(r'(\w+)="([^"]*)"', wanted))
            assert any(
                one.startswith(f"{name}{{") and all(f"{key}={value}" in one for key, value in labels.items())
                for one in told
            ), f"{rule['alert']}: {name}{{{wanted}}}"


def test_prometheus_takes_them_and_they_fire(tmp_path: Path) -> None:
    tool = shutil.which("promtool") or shutil.which(
        "promtool", path=str(ROOT / ".cache" / "promtool" / "usr" / "bin")
    )
    if tool is None:
        lacking(
            "promtool is not there (python3 tests/run.py --setup fetches it, on Debian)",
            demanded=shutil.which("dpkg-deb") is not None,
        )
    shutil.copy(RULES, tmp_path / "alerts.yml")
    shutil.copy(Path(__file__).with_name("alerts_test.yml"), tmp_path)
    for command in (["check", "rules", "alerts.yml"], ["test", "rules", "alerts_test.yml"]):
        done = subprocess.run([tool, *command], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
