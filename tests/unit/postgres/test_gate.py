from __future__ import annotations

import asyncio

import pytest
from psycopg_pool import PoolClosed

from slackwater.postgres.gate import Gate


async def test_an_open_gate_counts_what_is_in_flight() -> None:
    gate = Gate()
    async with gate.operation():
        async with gate.operation():
            assert gate.in_flight == 2
        assert gate.in_flight == 1
    assert gate.in_flight == 0
    assert await gate.quiesce(0.01)


async def test_a_shut_gate_refuses_new_operations_as_a_cancellation_and_counts_them() -> None:
    gate = Gate()
    gate.shut()
    for _ in range(2):
        with pytest.raises(asyncio.CancelledError, match="shutting down"):
            async with gate.operation():
                pytest.fail("let through")
    assert (gate.refused, gate.in_flight) == (2, 0)


async def test_quiesce_waits_for_the_operations_in_flight() -> None:
    gate = Gate()
    end = asyncio.Event()
    ended = []

    async def operate() -> None:
        async with gate.operation():
            await end.wait()
            ended.append(True)

    tasks = [asyncio.create_task(operate()) for _ in range(3)]
    await asyncio.sleep(0)
    # GIVEN three operations in flight WHEN the gate is shut and they end
    gate.shut()
    asyncio.get_running_loop().call_later(0.02, end.set)
    # THEN quiesce returns when all three have ended
    assert await gate.quiesce(10)
    assert ended == [True] * 3
    await asyncio.gather(*tasks)


async def test_quiesce_gives_up_at_its_timeout() -> None:
    gate = Gate()
    async with gate.operation():
        gate.shut()
        assert not await gate.quiesce(0.01)
        assert not await gate.quiesce(0)


async def test_an_operation_that_fails_is_no_longer_in_flight() -> None:
    gate = Gate()
    with pytest.raises(ValueError):
        async with gate.operation():
            raise ValueError
    assert await gate.quiesce(0.01)


async def test_a_pool_that_was_closed_behind_a_shut_gate_is_a_cancellation_too() -> None:
    gate = Gate()

    async def operate() -> None:
        async with gate.operation():
            gate.shut()
            raise PoolClosed("the pool is closed")

    with pytest.raises(asyncio.CancelledError):
        await operate()
    assert gate.refused == 1


async def test_a_closed_pool_behind_an_open_gate_is_an_error() -> None:
    with pytest.raises(PoolClosed):
        async with Gate().operation():
            raise PoolClosed("the pool is closed")
