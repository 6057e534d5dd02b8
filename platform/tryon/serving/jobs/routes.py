"""HTTP routes of batch jobs and uploads.

Annotations are evaluated here: FastAPI could not look up `Service` and `OwnerId`, which are local to `make_router`.
"""

import asyncio
import hashlib
import json
import uuid
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Depends, File, Header, Path, Query, Request, Response, UploadFile

from tryon import storage
from tryon.errors import ConfigError, StorageError
from tryon.serving.api import ErrorResponse
from tryon.serving.jobs.bodies import (
    BatchRequest,
    ItemResponse,
    JobResponse,
    Pair,
    ProgressResponse,
    ResultResponse,
    ResultsResponse,
    UploadResponse,
)
from tryon.serving.jobs.errors import ResultMissingError, UploadMissingError
from tryon.serving.jobs.records import Item, ItemState, NewJob
from tryon.serving.jobs.service import JobService
from tryon.serving.jobs.webhooks import owner_secret

BATCH, UPLOADS = "/api/v1/batch", "/api/v1/uploads"
MAX_PAGE = 1000
MEDIA = {".png": "image/png", ".jpg": "image/jpeg"}
ERRORS: dict[int | str, dict[str, Any]] = {code: {"model": ErrorResponse} for code in (400, 404, 413, 415, 422, 503)}
JobId = Annotated[str, Path(max_length=64, description="`job_id` of the answer to POST /api/v1/batch")]
After = Annotated[int, Query(ge=-1, le=2**31 - 1, description="index of the last one of the page before")]
Limit = Annotated[int, Query(ge=1, le=MAX_PAGE, description="most entries of the page")]
Owner = Callable[[Request], str]
Check = Callable[[bytes, str], object]


def no_owner(request: Request) -> str:
    """The owner of all where keys are off."""
    return ""


def make_router(open_service: Callable[[], JobService], check_image: Check, owner_of: Owner = no_owner) -> APIRouter:
    """The routes.

    Args:
        open_service: gives the stores; called at each request, so that what holds connections is made where it is used.
        check_image: given a file's bytes and the field's name, raises a `TryonError` if it is no image that is taken.
        owner_of: given a request, the id of its API key: what it handed in, it alone sees.
    """
    router = APIRouter(tags=["batch"], responses=ERRORS)
    Service = Annotated[JobService, Depends(open_service)]  # noqa: N806
    OwnerId = Annotated[str, Depends(owner_of)]  # noqa: N806

    @router.post(BATCH, status_code=202, summary="Hand in a job of many pairs")
    def submit(
        body: BatchRequest,
        response: Response,
        service: Service,
        owner: OwnerId,
        idempotency_key: Annotated[
            str | None, Header(min_length=1, max_length=200, description="the same key gives the same job")
        ] = None,
    ) -> JobResponse:
        new = new_job(service, owner, body, idempotency_key)
        made, job = False, service.store.taken_before(new)
        if job is None:  # else its uploads may have expired since
            check_uploads(service, owner, body)
            job, made = service.store.submit(new)
        response.headers["location"] = f"{BATCH}/{job.id}"
        if not made:
            response.headers["idempotent-replayed"] = "true"
        return JobResponse.of(job, owner_secret(service.secret, owner) if job.webhook_url else None)

    @router.get(BATCH + "/{job_id}", summary="Progress of a job")
    def progress(
        job_id: JobId,
        service: Service,
        owner: OwnerId,
        after: After = -1,
        limit: Limit = 100,
        state: Annotated[ItemState | None, Query(description="only pairs in this one; leased: at work")] = None,
    ) -> ProgressResponse:
        job = service.store.get(job_id, owner)
        states = tuple(ItemState) if state is None else (state,)
        items, next_after = page(service, job_id, after, limit, states)
        shown = [ItemResponse.of(item) for item in items]
        return ProgressResponse(**dict(JobResponse.of(job)), items=shown, next_after=next_after)

    @router.get(BATCH + "/{job_id}/results", summary="Results of a job")
    def results(
        job_id: JobId, service: Service, owner: OwnerId, after: After = -1, limit: Limit = 100
    ) -> ResultsResponse:
        service.store.get(job_id, owner)
        items, next_after = page(service, job_id, after, limit, (ItemState.DONE,))
        shown = [shown_result(job_id, item) for item in items if item.result_uri is not None]
        return ResultsResponse(job_id=job_id, results=shown, next_after=next_after)

    @router.get(
        BATCH + "/{job_id}/results/{index}",
        summary="A result image",
        response_class=Response,
        responses={200: {"content": {media: {} for media in MEDIA.values()}}},
    )
    def result(
        job_id: JobId, index: Annotated[int, Path(ge=0, le=2**31 - 1)], service: Service, owner: OwnerId
    ) -> Response:
        service.store.get(job_id, owner)
        found = service.store.items(job_id, after=index - 1, limit=1)
        uri = found[0].result_uri if found and found[0].position == index else None
        if uri is None:
            raise ResultMissingError(job_id, index)
        try:
            data = storage.read_bytes(uri)
        except StorageError as error:
            if error.code == "uri-missing":
                raise ResultMissingError(job_id, index) from error
            raise
        media = MEDIA[uri[uri.rindex(".") :]]
        return Response(data, media_type=media, headers={"cache-control": "private, no-store"})

    @router.delete(BATCH + "/{job_id}", summary="Cancel what waits")
    def cancel(
        job_id: JobId,
        service: Service,
        owner: OwnerId,
        results: Annotated[bool, Query(description="cancel what is at work too, and remove all results")] = False,
    ) -> JobResponse:
        job = service.store.cancel(job_id, owner, results=results)
        if results:
            service.remove_results(job_id)
        return JobResponse.of(job)

    @router.post(UPLOADS, status_code=201, summary="Hand in an image for jobs")
    async def upload(
        image: Annotated[UploadFile, File(description="JPEG, PNG, WebP, BMP or TIFF")], service: Service, owner: OwnerId
    ) -> UploadResponse:
        data = await image.read()
        await asyncio.to_thread(check_image, data, "image")
        kept = await asyncio.to_thread(service.uploads.put, owner, data)
        return UploadResponse.of(kept.id, kept.num_bytes, kept.expires_s)

    return router


def new_job(service: JobService, owner: str, body: BatchRequest, key: str | None) -> NewJob:
    """A request as the store takes it.

    Raises:
        ConfigError: more pairs than a job may have.
    """
    bound = service.config.max_pairs
    if len(body.pairs) > bound:
        text = f"the job has {len(body.pairs):,} pairs; at most {bound:,} are taken, the rest needs another job"
        raise ConfigError(text, code="too-many-pairs", field="pairs")
    content = body.model_dump(mode="json", exclude_none=True)
    return NewJob(
        id=uuid.uuid4().hex,
        owner=owner,
        options=content["options"],
        items=content["pairs"],
        body_hash=hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest(),
        ttl_s=service.config.job_ttl_s,
        idempotency_key=key,
        webhook_url=body.webhook_url,
    )


def check_uploads(service: JobService, owner: str, body: BatchRequest) -> None:
    """Looks for every upload that a pair names.

    Raises:
        UploadMissingError: one is not there.
    """
    named = {(one, f"pairs.{i}.{name}") for i, pair in enumerate(body.pairs) for name, one in _ids(pair)}
    missing = service.uploads.missing(owner, {one for one, _ in named})
    if missing:
        raise UploadMissingError(*min((pair for pair in named if pair[0] in missing), key=lambda pair: pair[1]))


def _ids(pair: Pair) -> list[tuple[str, str]]:
    named = (("person_id", pair.person_id), ("garment_id", pair.garment_id))
    return [(name, one) for name, one in named if one is not None]


def page(
    service: JobService, job_id: str, after: int, limit: int, states: tuple[ItemState, ...]
) -> tuple[list[Item], int | None]:
    """A page of a job's items, and `after` of the next one if there is one."""
    items = service.store.items(job_id, after=after, limit=limit + 1, states=states)
    more = len(items) > limit
    return items[:limit], items[limit - 1].position if more else None


def shown_result(job_id: str, item: Item) -> ResultResponse:
    """A done item. Where it lies is said of object storage only: paths of this machine are nobody's business."""
    uri = item.result_uri if item.result_uri and item.result_uri.startswith("s3://") else None
    url = f"{BATCH}/{job_id}/results/{item.position}"
    return ResultResponse(index=item.position, id=item.inputs.get("id"), url=url, uri=uri)
