"""How long a report of a large study takes, counted in processor seconds so that a busy machine does not fail it."""

import os
import resource
import subprocess
import sys

import pytest
from tests.report.on_disk import LARGE, SMALL, write_study
from tests.report.synthetic import make


def _processor_seconds(folder):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        [sys.executable, "-m", "preflab.cli.main", "report", str(folder)],
        check=True, capture_output=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def test_a_study_of_a_hundred_cells_is_reported_within_twenty_seconds(tmp_path):
    tables = make(SMALL)
    assert len(tables.cells) >= 100
    write_study(tmp_path, tables)
    assert _processor_seconds(tmp_path) < 20
    assert (tmp_path / "report.html").stat().st_size < 10e6


@pytest.mark.slow
def test_a_study_of_a_thousand_cells_is_reported_within_two_minutes(tmp_path):
    tables = make(LARGE)
    assert len(tables.cells) >= 1000
    write_study(tmp_path, tables)
    assert _processor_seconds(tmp_path) < 120
    assert (tmp_path / "report.html").stat().st_size < 10e6
