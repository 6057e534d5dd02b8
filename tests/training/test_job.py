"""Training as a job on a cluster: `ray job submit --working-dir . -- python jobs/train.py ...`."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.ray_nodes import RAY, ray_head
from tests.test_interrupt import session, wait_for
from tryon.models.bundle import load_bundle

SETTINGS = {"size": "[64, 48]", "steps": "6", "batch_size": "4", "network.width": "4", "report_every": "2"}
END_S = 240


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_submitted_job_trains_and_its_log_streams(small_data: str, tmp_path: Path) -> None:
    out, log = tmp_path / "bundle", tmp_path / "job.log"
    options = [word for key, value in SETTINGS.items() for word in ("--set", f"{key}={value}")]
    with ray_head(tmp_path / "ray.log", num_cpus=4) as head:
        command = [RAY, "job", "submit", f"--address={head.dashboard}", f"--working-dir={ROOT}", "--"]
        command += ["python", "jobs/train.py", "gmm", "--data", small_data, "--out", str(out), *options]
        with session(command, log, head.env) as process:
            started = "train gmm 40 samples, size=(64, 48)"
            wait_for(lambda: started in log.read_text() or process.poll() is not None, END_S, "the job's first line")
            assert process.poll() is None, log.read_text()
            assert not out.exists(), "the line came while the job ran, not after it"
            assert process.wait(END_S) == 0, log.read_text()
        submit = [
            str(Path(RAY).with_name("tryon")),
            "submit",
            "train",
            f"--address={head.dashboard}",
            f"--folder={ROOT}",
        ]
        told = [*submit, "gmm", "--data", str(tmp_path / "nothing"), "--out", str(out)]
        failed = subprocess.run(told, capture_output=True, text=True, timeout=END_S, env=head.env, check=False)
        assert failed.returncode == 2, "the job's own exit code"
        assert "nothing" in failed.stdout, "its log"
        told = [*submit, "gmm", "--data", small_data, "--out", str(out), *options]
        again = subprocess.run(told, capture_output=True, text=True, timeout=END_S, env=head.env, check=False)
        assert again.returncode == 0, again.stdout + again.stderr
        assert "done before" in again.stdout
    text = log.read_text()
    assert "succeeded" in text
    assert f"-> {out}" in text, "the last line of `tryon train`"
    assert load_bundle(str(out)).network("warp")[1] == (64, 48)
