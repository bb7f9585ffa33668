"""A recorder as people run them: ffmpeg, at natural speed, cutting its stream into files of dated folders.

    with Recorder(source, container="ts") as recorder:
        await recorder.closed_at_least(3)
        ...                                # recorder.writing() is still being written
    recorder.closed()                      # now the last one too

By hand: `python -m tests.recorder ./recordings`.
"""

from tests.recorder.ffmpeg import Container, Recorder, RecorderError, ffmpeg_binary

__all__ = ["Container", "Recorder", "RecorderError", "ffmpeg_binary"]
