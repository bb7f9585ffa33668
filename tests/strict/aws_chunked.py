"""The `aws-chunked` body: `size[;extension] CRLF data CRLF` ... `0 CRLF`, then trailers (S3, "Signature
calculations for trailing headers")."""

from __future__ import annotations

from tests.strict.wire import RefusalError


class AwsChunked:
    """Takes the body as it comes, gives the payload in it; `trailers` and `done` tell what followed."""

    def __init__(self) -> None:
        self.trailers: dict[str, str] = {}
        self.done = False
        self._buffer = bytearray()
        self._left = 0  # bytes of the running chunk still to come, its CRLF included
        self._in_trailers = False

    def feed(self, data: bytes) -> bytes:
        """The payload bytes found. Raises RefusalError 400 for framing that is not aws-chunked."""
        self._buffer += data
        payload = bytearray()
        while self._buffer:
            if self._left:
                if not self._take_chunk(payload):
                    break
            elif not self._take_line():
                break
        return bytes(payload)

    def _take_chunk(self, payload: bytearray) -> bool:
        if self._left > 2:
            taken = self._buffer[: self._left - 2]
            payload += taken
            del self._buffer[: len(taken)]
            self._left -= len(taken)
            return True
        if len(self._buffer) < 2:
            return False
        if self._buffer[:2] != b"\r\n":
            raise RefusalError(400, "IncompleteBody", "A chunk does not end where it said")
        del self._buffer[:2]
        self._left = 0
        return True

    def _take_line(self) -> bool:
        line, end, _ = self._buffer.partition(b"\r\n")
        if not end:
            return False
        del self._buffer[: len(line) + 2]
        text = line.decode("ascii", "replace")
        if self._in_trailers:
            name, colon, value = text.partition(":")
            if colon:
                self.trailers[name.strip().lower()] = value.strip()
            else:
                self.done = True
            return True
        try:
            size = int(text.partition(";")[0], 16)
        except ValueError as error:
            raise RefusalError(400, "InvalidRequest", f"Not a chunk size: {text[:40]!r}") from error
        if size == 0:
            self._in_trailers = True
        else:
            self._left = size + 2
        return True
