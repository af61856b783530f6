"""A plug-in of pytest that writes down what each test has come to, as soon as it is known, so that
a process that is ended keeps what it has found:

    FIRST_CONTACT_PROGRESS=FILE pytest -p tests.gpu.progress ...

A line of JSON when a test begins, {"began": NAME}, and one when it is over: {"test": NAME,
"result": "passed", "failed" or "skipped", "message": of the fault or the reason, "figures": {what:
figure}}.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

VARIABLE = "FIRST_CONTACT_PROGRESS"


def _write(line: dict[str, Any]) -> None:
    with Path(os.environ[VARIABLE]).open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def _message(report: pytest.TestReport | pytest.CollectReport) -> str:
    if isinstance(report.longrepr, tuple):  # of a test that is skipped: file, line, reason
        return str(report.longrepr[2]).removeprefix("Skipped: ")
    crash = getattr(report.longrepr, "reprcrash", None)
    return str(report.longrepr or "") if crash is None else str(crash.message)


def pytest_runtest_logstart(nodeid: str) -> None:
    _write({"began": nodeid.rpartition("::")[2]})


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.when != "call" and report.outcome == "passed":
        return
    _write(
        {
            "test": report.nodeid.rpartition("::")[2],
            "result": report.outcome,
            "message": _message(report),
            "figures": dict(report.user_properties),
        }
    )


def pytest_collectreport(report: pytest.CollectReport) -> None:
    if report.failed:
        _write({"test": report.nodeid, "result": "failed", "message": _message(report)})
