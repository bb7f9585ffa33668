"""An endpoint that speaks S3, Azure Blob and GCS as strictly as the clouds do, and goes wrong on command.

    with StrictServer() as server:
        server.s3.create_bucket("recordings")
        ...                                   # a client at server.url, server.azure_url, server.gcs_url
        with server.faults.expected(Fault(Kind.LOSE_REPLY, operation="CompleteMultipartUpload")):
            ...
        assert server.s3.objects("recordings")["a.mp4"].content.bytes() == b"..."

As a process: `python -m tests.strict --port 0`, steered through /_control/ (`control`), or by
`StrictProcess`.
"""

from tests.strict.faults import Fault, Kind
from tests.strict.process import StrictProcess
from tests.strict.server import StrictServer

__all__ = ["Fault", "Kind", "StrictProcess", "StrictServer"]
