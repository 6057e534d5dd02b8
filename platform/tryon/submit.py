"""`tryon submit`: a job of `jobs/` on a cluster, followed to its end."""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tryon.console import say
from tryon.errors import ConfigError, TryonError


class SubmitError(TryonError):
    """The cluster does not answer or does not take the job; the code is cluster-unreachable or job-refused."""


def submit(job: str, arguments: Sequence[str], address: str, folder: Path) -> int:
    """Packs a folder, has a job's main run on the cluster, and prints its log as it comes.

    Args:
        job: file in the folder's `jobs/`, without its ending.
        arguments: of the main, as on a command line.
        address: of the cluster's dashboard, http://HOST:8265.
        folder: what is packed; git's ignored files stay here.

    Returns:
        The job's exit code.

    Raises:
        ConfigError: no such job in the folder.
        SubmitError: nobody answers at the address, or the job is refused.
    """
    names = sorted(path.stem for path in (folder / "jobs").glob("*.py"))
    if job not in names:
        text = f"JOB {job!r} is not in {folder}/jobs: there are {', '.join(names) or 'none'}"
        raise ConfigError(text, code="job-unknown", field="JOB")
    client = _client(address)
    entry = shlex.join(["python", f"jobs/{job}.py", *arguments])
    try:
        job_id = client.submit_job(entrypoint=entry, runtime_env={"working_dir": str(folder.resolve())})
    except (RuntimeError, ValueError) as error:
        raise SubmitError(f"{address} does not take the job: {error}", code="job-refused", field="JOB") from error
    say(f"submit    {job_id}: {entry}; Ctrl-C stops following it, not the job")
    try:
        asyncio.run(_follow(client, job_id))
    except KeyboardInterrupt:
        say(f"submit    {job_id} goes on: ray job logs --follow --address {address} {job_id}; to end it: ray job stop")
        raise
    info = client.get_job_info(job_id)
    say(f"submit    {job_id} {info.status}{'' if info.status == 'SUCCEEDED' else f': {info.message}'}")
    if info.status == "SUCCEEDED":
        return 0
    return int(info.driver_exit_code or 1)


def _client(address: str) -> Any:
    from ray.job_submission import JobSubmissionClient

    try:
        return JobSubmissionClient(address)
    except (ConnectionError, RuntimeError, ValueError) as error:
        text = f"--address {address}: no Ray dashboard answers there ({str(error).splitlines()[0]})"
        raise SubmitError(text, code="cluster-unreachable", field="--address") from error


async def _follow(client: Any, job_id: str) -> None:
    from tryon.console import console

    async for lines in client.tail_job_logs(job_id):
        console.print(lines, end="", markup=False, highlight=False, soft_wrap=True)
