"""What is said of a receiver that does not answer, and what is to be done."""

from __future__ import annotations

import asyncio
import socket

import pytest

from uploaderd.clock import SystemClock
from uploaderd.outgoing import Address, NotTaken


async def refused(port: int) -> NotTaken:
    address = Address(f"http://127.0.0.1:{port}/x", proxy=None, ca_file=None, clock=SystemClock())
    with pytest.raises(NotTaken) as told:
        await address.ask("POST", b"{}")
    await address.aclose()
    return told.value


async def test_where_nobody_listens_the_receiver_is_to_be_started() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        fault = await refused(taken.getsockname()[1])
    assert fault.message.startswith("it cannot be reached: ")
    assert fault.hint == (
        "start the receiver, or check its url and this machine's network; it goes on by itself"
    )


async def test_where_it_is_hung_up_on_there_is_a_remedy_too() -> None:
    async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as server:
        fault = await refused(server.sockets[0].getsockname()[1])
    assert fault.message.startswith("the connection failed")
    assert "start the receiver" in fault.hint
