"""Blocks: staged one by one, committed as a list."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

from tests.strict.azure_blobs import check_conditions, new_blob, written
from tests.strict.azure_body import crc64_text, md5_text, receive
from tests.strict.azure_state import Block, Container, document, parsed, tag
from tests.strict.s3_objects import exchange_headers
from tests.strict.s3_state import http_date
from tests.strict.store import joined
from tests.strict.wire import Exchange, RefusalError, Reply

if TYPE_CHECKING:
    from tests.strict.azure import Azure

MAX_UNCOMMITTED = 100_000


class Blocks:
    """PutBlock, GetBlockList, PutBlockList."""

    def __init__(self, azure: Azure) -> None:
        self._azure = azure

    def operations(self) -> dict[str, Callable[[Exchange, Container], Awaitable[Reply]]]:
        return {"PutBlock": self.put, "GetBlockList": self.list, "PutBlockList": self.commit}

    async def put(self, exchange: Exchange, container: Container) -> Reply:
        headers, key = exchange_headers(exchange), exchange.call.key
        block_id = exchange.query.get("blockid", "")
        self._check_id(container, key, block_id)
        content = await receive(exchange, headers, self._azure.store, self._azure.max_block)
        if content.size == 0:
            raise RefusalError(400, "InvalidHeaderValue", "A block is not empty", HeaderName="Content-Length")
        self._check_id(container, key, block_id)
        kept = exchange.spoil(content)
        if kept is not None:
            container.uncommitted.setdefault(key, {})[block_id] = Block(block_id, kept)
        answer = {"x-ms-request-server-encrypted": "true"}
        if "content-md5" in headers:
            answer["content-md5"] = md5_text(content)
        elif self._azure.crc64:
            answer["x-ms-content-crc64"] = crc64_text(content)
        return Reply(201, answer)

    def _check_id(self, container: Container, key: str, block_id: str) -> None:
        try:
            raw = base64.b64decode(block_id, validate=True)
        except binascii.Error as error:
            raise _bad_id(block_id) from error
        if not 0 < len(raw) <= 64:
            raise _bad_id(block_id)
        blob = container.blobs.get(key)
        staged = container.uncommitted.get(key, {})
        others = [*staged, *(block.id for block in (blob.blocks if blob else ()))]
        # All ids of a blob, committed or not, have the same length (Put Block, "Remarks").
        if any(len(base64.b64decode(other)) != len(raw) for other in others):
            raise RefusalError(400, "InvalidBlobOrBlock", "The specified blob or block content is invalid.")
        if block_id not in staged and len(staged) >= MAX_UNCOMMITTED:
            raise RefusalError(
                409,
                "BlockCountExceedsLimit",
                "The uncommitted block count cannot exceed the maximum limit of 100,000.",
            )

    async def list(self, exchange: Exchange, container: Container) -> Reply:
        key = exchange.call.key
        blob, staged = container.blobs.get(key), list(container.uncommitted.get(key, {}).values())
        if blob is None and not staged:
            raise RefusalError(404, "BlobNotFound", "The specified blob does not exist.")
        kind = exchange.query.get("blocklisttype", "committed").lower()
        body = ""
        if kind in ("committed", "all"):
            body += _rows("CommittedBlocks", blob.blocks if blob else ())
        if kind in ("uncommitted", "all"):
            # In alphabetical order, not by arrival (Get Block List, "Response body").
            body += _rows("UncommittedBlocks", sorted(staged, key=lambda block: block.id))
        headers = {"content-type": "application/xml"}
        if blob is not None:
            headers |= {"etag": blob.etag, "last-modified": http_date(blob.modified)}
        headers["x-ms-blob-content-length"] = str(blob.content.size if blob else 0)
        return Reply(200, headers, document(f"<BlockList>{body}</BlockList>"))

    async def commit(self, exchange: Exchange, container: Container) -> Reply:
        headers, key = exchange_headers(exchange), exchange.call.key
        body = await receive(exchange, headers, self._azure.store, 16 * 1024**2)
        root = parsed(body.bytes())
        if len(root) > self._azure.max_blocks:
            raise RefusalError(
                400, "BlockListTooLong", "The block list may not contain more than 50,000 blocks."
            )
        check_conditions(container, exchange)
        blocks = _chosen(container, key, root)
        blob = replace(
            new_blob(self._azure, container, exchange, headers),
            content=joined(block.content for block in blocks),
            blocks=tuple(blocks),
        )
        answer = written(exchange, container, blob)
        if "content-md5" in headers:
            answer["content-md5"] = md5_text(body)
        elif self._azure.crc64:
            answer["x-ms-content-crc64"] = crc64_text(body)
        return Reply(201, answer)


def _chosen(container: Container, key: str, root: ET.Element) -> list[Block]:
    blob = container.blobs.get(key)
    committed = {block.id: block for block in (blob.blocks if blob else ())}
    staged = container.uncommitted.get(key, {})
    places = {"Committed": committed, "Uncommitted": staged, "Latest": {**committed, **staged}}
    chosen: list[Block] = []
    for node in root:
        block = places.get(node.tag, {}).get(node.text or "")
        if block is None:
            raise RefusalError(400, "InvalidBlockList", "The specified block list is invalid.")
        chosen.append(block)
    return chosen


def _rows(name: str, blocks: tuple[Block, ...] | list[Block]) -> str:
    rows = "".join(
        f"<Block>{tag('Name', block.id)}{tag('Size', block.content.size)}</Block>" for block in blocks
    )
    return f"<{name}>{rows}</{name}>"


def _bad_id(block_id: str) -> RefusalError:
    return RefusalError(
        400,
        "InvalidQueryParameterValue",
        "Value for one of the query parameters specified in the request URI is invalid.",
        QueryParameterName="blockid",
        QueryParameterValue=block_id,
        Reason="Not a valid base64 string.",
    )
