"""Bodies of the batch API."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, field_validator, model_validator

from tryon.config import Category, Config
from tryon.serving.api import TryOnOptions
from tryon.serving.jobs.records import Item, ItemState, Job, JobStatus

WebUrl = Annotated[str, Field(pattern=r"^https?://[^\s]+$", max_length=4096)]
UploadId = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$", description="`upload_id` of POST /api/v1/uploads")]
State = Literal["waiting", "running", "done", "failed", "cancelled"]
AN_ID = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
A_TIME = "2026-01-31T12:00:00Z"
A_JOB: dict[str, JsonValue] = {
    "job_id": "3f2b8c1e9d4a4f0e8a7b6c5d4e3f2a1b",
    "status": "done",
    "total": 2,
    "completed": 1,
    "failed": 1,
    "cancelled": 0,
    "created_at": A_TIME,
    "ended_at": "2026-01-31T12:01:10Z",
    "expires_at": "2026-02-07T12:01:10Z",
    "webhook_secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
}
SOME_ITEMS: list[JsonValue] = [
    {"index": 0, "id": "look-1", "state": "done", "attempts": 1, "error": None},
    {
        "index": 1,
        "id": "look-2",
        "state": "failed",
        "attempts": 1,
        "error": {"code": "no-person", "message": "no person is seen in the photo", "field": "person_image"},
    },
]


class BatchOptions(TryOnOptions):
    """As the options of a single try-on; a batch's results are images alone."""

    @field_validator("return_mask", "return_layers")
    @classmethod
    def _image_alone(cls, value: bool) -> bool:
        if value:
            raise ValueError("a batch returns no masks and layers; POST /api/v1/tryon does")
        return value


def suffix(options: BatchOptions) -> str:
    """Of a result's file."""
    return ".png" if options.output_format == "png" else ".jpg"


class Pair(Config):
    """A person and a garment, each by URL or as an upload."""

    id: str | None = Field(None, max_length=200, description="the caller's own name of the pair, given back with it")
    person_url: WebUrl | None = Field(None, description="http(s) URL of a photo of one person")
    person_id: UploadId | None = None
    garment_url: WebUrl | None = Field(None, description="http(s) URL of a photo of the garment alone")
    garment_id: UploadId | None = None
    category: Category | None = Field(None, description="of the garment; null: that of `options`")

    @model_validator(mode="after")
    def _one_of_each(self) -> Self:
        for name in ("person", "garment"):
            given = [getattr(self, f"{name}_url"), getattr(self, f"{name}_id")]
            if given.count(None) != 1:
                raise ValueError(f"one of {name}_url and {name}_id is needed, and not both")
        return self


class BatchRequest(Config):
    """A job of many try-ons."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "pairs": [
                        {
                            "id": "look-1",
                            "person_url": "https://shop.example/p/1.jpg",
                            "garment_url": "https://shop.example/g/7.jpg",
                        },
                        {"id": "look-2", "person_id": AN_ID, "garment_url": "https://shop.example/g/8.jpg"},
                    ],
                    "options": {"output_format": "jpeg", "quality": 90, "category": "upper"},
                    "webhook_url": "https://shop.example/hooks/tryon",
                }
            ]
        }
    )

    pairs: tuple[Pair, ...] = Field(min_length=1, description="in the order in which they are numbered, from 0")
    options: BatchOptions = Field(default_factory=BatchOptions, description="of every pair")
    webhook_url: WebUrl | None = Field(None, description="called once the job has ended; see `webhook_secret`")


class JobResponse(BaseModel):
    """A job. It has ended when `ended_at` is there: then `completed` + `failed` + `cancelled` = `total`."""

    model_config = ConfigDict(json_schema_extra={"examples": [A_JOB]})

    job_id: str
    status: JobStatus
    total: int = Field(description="pairs")
    completed: int = Field(description="pairs with a result")
    failed: int = Field(description="pairs without one, each with its reason")
    cancelled: int
    created_at: datetime
    ended_at: datetime | None
    expires_at: datetime | None = Field(description="when job and results are removed")
    webhook_secret: str | None = Field(
        None, description="only in the answer to POST with a `webhook_url`: signs its calls as Standard Webhooks says"
    )

    @classmethod
    def of(cls, job: Job, webhook_secret: str | None = None) -> Self:
        """From the store's."""
        return cls(
            job_id=job.id,
            status=job.status,
            total=job.total,
            completed=job.completed,
            failed=job.failed,
            cancelled=job.cancelled,
            created_at=_time(job.created_s),
            ended_at=_time(job.ended_s) if job.ended_s is not None else None,
            expires_at=_time(job.expires_s) if job.expires_s is not None else None,
            webhook_secret=webhook_secret,
        )


class ItemError(BaseModel):
    """Why a pair failed, or why its last try did while it waits for another."""

    code: str
    message: str
    field: str | None


class ItemResponse(BaseModel):
    """A pair of a job."""

    index: int
    id: str | None
    state: State
    attempts: int = Field(description="times it was begun")
    error: ItemError | None

    @classmethod
    def of(cls, item: Item) -> Self:
        """From the store's."""
        fault = item.fault
        return cls(
            index=item.position,
            id=item.inputs.get("id"),
            state="running" if item.state == ItemState.LEASED else item.state.value,
            attempts=item.attempts,
            error=ItemError(code=fault.code, message=fault.message, field=fault.field) if fault else None,
        )


class ProgressResponse(JobResponse):
    """A job and a page of its pairs."""

    model_config = ConfigDict(json_schema_extra={"examples": [{**A_JOB, "items": SOME_ITEMS, "next_after": 1}]})

    items: list[ItemResponse]
    next_after: int | None = Field(description="`after` of the next page; null: this is the last")


class ResultResponse(BaseModel):
    """A result."""

    index: int
    id: str | None
    url: str = Field(description="path to download it from this service")
    uri: str | None = Field(description="where it lies, if that is object storage")


class ResultsResponse(BaseModel):
    """A page of results, by index; pairs that have none are left out."""

    job_id: str
    results: list[ResultResponse]
    next_after: int | None = Field(description="`after` of the next page; null: this is the last so far")


class UploadResponse(BaseModel):
    """An uploaded image."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"upload_id": AN_ID, "bytes": 183_204, "expires_at": A_TIME}]}
    )

    upload_id: str = Field(description="sha256 of its bytes; the same image has the same id")
    bytes: int
    expires_at: datetime = Field(description="when it is removed; handing it in again prolongs it")

    @classmethod
    def of(cls, upload_id: str, num_bytes: int, expires_s: float) -> Self:
        """From the store's."""
        return cls(upload_id=upload_id, bytes=num_bytes, expires_at=_time(expires_s))


def _time(unix_s: float) -> datetime:
    return datetime.fromtimestamp(round(unix_s, 3), UTC)
