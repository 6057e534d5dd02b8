"""Requests with photos: a form or JSON; each photo a file, base64, or a URL that is fetched."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Container, Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import Request, UploadFile
from starlette.datastructures import UploadFile as FormFile

from tryon.config import Config, ImageLimits
from tryon.errors import ConfigError, ImageError, SampleError
from tryon.serving.fetch import Fetcher

JSON_TYPE = "application/json"
FORM_TYPES = ("multipart/form-data", "application/x-www-form-urlencoded")


@dataclass(frozen=True)
class Body:
    """What a request brought.

    Attributes:
        values: by field: files of a form, texts, and of JSON what else it has; a list where a form has a field twice.
        limits: of photos.
    """

    values: Mapping[str, Any]
    limits: ImageLimits

    @classmethod
    async def of(cls, request: Request, limits: ImageLimits) -> Body:
        """Reads a form or a JSON object.

        Raises:
            ConfigError: JSON that is no object.
            HTTPException: a form that is none.
        """
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() == JSON_TYPE:
            return cls(json_object(await request.body(), "the body", "body"), limits)
        form = await request.form(max_part_size=limits.max_bytes * 4 // 3 + 1000)
        told = {name: form.getlist(name) for name in form}
        return cls({name: values if len(values) > 1 else values[0] for name, values in told.items()}, limits)

    def has(self, name: str) -> bool:
        """Whether a photo, e.g. ``"garment"``, is given in one way or another."""
        return any(self.values.get(field) is not None for field in (f"{name}_image", f"{name}_url"))

    async def photo(self, name: str, fetcher: Fetcher) -> bytes:
        """A photo's file.

        Args:
            name: e.g. ``"person"``: `person_image` is a file or base64, `person_url` a URL.
            fetcher: of URLs.

        Raises:
            SampleError: it is missing, given in both ways, or neither text nor file.
            ImageError: more bytes than are taken, or no base64.
            FetchError: see `Fetcher.fetch`.
        """
        (file,) = await self.photos(name, fetcher, most=1)
        return file

    async def photos(self, name: str, fetcher: Fetcher, most: int) -> list[bytes]:
        """The files of one photo or several, in order; errors as of `photo`.

        Args:
            name: as of `photo`; either field may be given several times, of JSON as a list.
            fetcher: of URLs.
            most: that are taken.
        """
        field, url_field = self._field(name), f"{name}_url"
        told = self.values[field]
        values = told if isinstance(told, list) else [told]
        if not 1 <= len(values) <= most:
            taken = "one is taken" if most == 1 else f"1 to {most} are taken"
            text = f"{field} is given {len(values)} times: {taken}"
            raise SampleError(text, code="field-conflict", field=field)
        return [await self._file(value, field, url_field, fetcher) for value in values]

    def _field(self, name: str) -> str:
        """The field that a photo is given in.

        Raises:
            SampleError: it is missing, or given in both ways.
        """
        field, url_field = f"{name}_image", f"{name}_url"
        given = [one for one in (field, url_field) if self.values.get(one) is not None]
        if not given:
            text = f"the form field {field!r} is missing ({url_field!r} would do too)"
            raise SampleError(text, code="field-missing", field=field)
        if len(given) > 1:
            text = f"{field} and {url_field} are both given: one is taken"
            raise SampleError(text, code="field-conflict", field=url_field)
        return given[0]

    async def _file(self, value: Any, field: str, url_field: str, fetcher: Fetcher) -> bytes:
        if isinstance(value, FormFile):
            return await read_upload(value, field, self.limits)
        if not isinstance(value, str):
            text = f"{field} must be text, not {type(value).__name__}"
            raise SampleError(text, code="field-invalid", field=field)
        if field != url_field:
            return read_base64(value, field, self.limits)
        data = await fetcher.fetch(value, url_field)
        if len(data) > self.limits.max_bytes:
            raise _too_large(url_field, self.limits)
        return data

    def options(self) -> Mapping[str, Any]:
        """The options as they were told: an object, of a form as JSON text.

        Raises:
            ConfigError: no JSON object.
        """
        value = self.values.get("options")
        if value is None:
            return {}
        if isinstance(value, str):
            return json_object(value, "options", "options") if value else {}
        if not isinstance(value, Mapping):
            raise _no_object(value, "options", "options")
        return value


def json_object(content: str | bytes, what: str, field: str) -> dict[str, Any]:
    """A JSON object.

    Raises:
        ConfigError: it is none.
    """
    try:
        values = json.loads(content)
    except (ValueError, RecursionError) as error:  # also numbers of 5,000 digits and brackets 100,000 deep
        raise ConfigError(f"{what} is no JSON: {error}", code=f"{field}-invalid", field=field) from error
    if not isinstance(values, dict):
        raise _no_object(values, what, field)
    return values


def _no_object(value: Any, what: str, field: str) -> ConfigError:
    text = f"{what} must be a JSON object, not {type(value).__name__}"
    return ConfigError(text, code=f"{field}-invalid", field=field)


async def read_upload(upload: UploadFile | FormFile, name: str, limits: ImageLimits) -> bytes:
    """Bytes of an uploaded file; stops reading just past the limit.

    Raises:
        ImageError: more bytes than are taken.
    """
    data = await upload.read(limits.max_bytes + 1)
    if len(data) > limits.max_bytes:
        raise _too_large(name, limits)
    return data


def read_base64(text: str, name: str, limits: ImageLimits) -> bytes:
    """Bytes of a base64 text, which may be a ``data:`` URL.

    Raises:
        ImageError: more bytes than are taken, or characters that are not base64's.
    """
    content = text.partition(",")[2] if text.startswith("data:") else text
    if len(content) * 3 // 4 > limits.max_bytes + 2:
        raise _too_large(name, limits)
    try:
        return base64.b64decode("".join(content.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise ImageError(f"{name} is no base64: {error}", code="not-base64", field=name) from error


def _too_large(name: str, limits: ImageLimits) -> ImageError:
    return ImageError(f"{name} has more than {limits.max_bytes:,} bytes", code="image-too-large", field=name)


def described(photos: Mapping[str, bool], options: type[Config], several: Container[str] = ()) -> dict[str, Any]:
    """The request's body for the OpenAPI document.

    Args:
        photos: names, and whether each must be given.
        options: what `options` holds.
        several: names of photos that may be given several times.
    """
    fields: dict[str, Any] = {}
    for name in photos:
        file = "JPEG, PNG, WebP, BMP or TIFF"
        image = {"type": "string", "description": f"the {name}'s photo: {file}; as a file or base64"}
        url = {"type": "string", "format": "uri", "description": "or where it is fetched from"}
        fields |= {f"{name}_image": image, f"{name}_url": url}
    schema = options.model_json_schema()
    form = {n: {**f, "format": "binary"} if n.endswith("_image") else f for n, f in fields.items()}
    as_text = {"type": "string", "description": f"JSON of {options.__name__}", "contentMediaType": JSON_TYPE}
    content = {
        FORM_TYPES[0]: {"schema": {"type": "object", "properties": {**_listed(form, several), "options": as_text}}},
        JSON_TYPE: {"schema": {"type": "object", "properties": {**_listed(fields, several), "options": schema}}},
    }
    return {"requestBody": {"required": True, "content": content}}


def _listed(fields: Mapping[str, Any], several: Container[str]) -> dict[str, Any]:
    """The fields, of which some may be lists too."""
    return {
        name: {"anyOf": [field, {"type": "array", "items": field}]} if name.rpartition("_")[0] in several else field
        for name, field in fields.items()
    }
