"""What a request about jobs can be refused for."""

from __future__ import annotations

from tryon.errors import TryonError


class JobMissingError(TryonError):
    """There is no such job of this owner."""

    def __init__(self, job_id: str) -> None:
        super().__init__(f"there is no job {job_id!r}, or it has expired", code="job-missing", field="job_id")


class ResultMissingError(TryonError):
    """An item has no result: it has not ended as done, or its result was removed."""

    def __init__(self, job_id: str, position: int) -> None:
        text = f"job {job_id} has no result of index {position}; GET /api/v1/batch/{job_id} says what became of it"
        super().__init__(text, code="result-missing", field="index")


class UploadMissingError(TryonError):
    """There is no such upload of this owner."""

    def __init__(self, upload_id: str, field: str) -> None:
        super().__init__(f"there is no upload {upload_id!r}, or it has expired", code="upload-missing", field=field)


class IdempotencyError(TryonError):
    """An idempotency key came again with another body."""

    def __init__(self, key: str) -> None:
        text = f"Idempotency-Key {key!r} was sent before with another body; another request needs another key"
        super().__init__(text, code="idempotency-key-reused", field="Idempotency-Key")
