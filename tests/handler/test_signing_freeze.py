"""An execution environment that was frozen while its signing key was taken away, and its configuration changed."""

from __future__ import annotations

import asyncio
from uuid import uuid4

from slackwater.identity import internal
from slackwater.identity.signing import rotation, service
from slackwater.identity.signing.encryption import Encryption
from slackwater.identity.signing.service import Signing
from slackwater.postgres.pool import Database
from slackwater.project.gateway import GatewaySpec
from slackwater.workspace.configuration import service as configuration
from slackwater.workspace.configuration.watch import CHECK_SECONDS
from tests.handler.scene import Scene, asked
from tests.support.emulator import request


async def test_what_is_over_when_it_wakes_is_refused_by_its_first_answer(
    scene: Scene, database: Database
) -> None:
    signing = Signing(database, Encryption())

    async def status(token: str) -> int:
        headers = {"authorization": f"Bearer {token}"}
        reply = await environment.invoke(request("POST", "/threads/search", {}, headers=headers))
        assert reply.status in (200, 401), environment.log()
        return reply.status

    environment = await scene.environment(
        timeout_seconds=240,
        env={
            "SLACKWATER_DATABASE_KEYS": "true",
            "SLACKWATER_GATEWAY_LIMIT_SECONDS": "200",
            "SLACKWATER_GATEWAY": "true",
            "SLACKWATER_BLOBS": "s3://nothing/asks-it",
        },
    )
    limits = asked("GET", f"/api/threads/{uuid4()}/uploads/limits")
    assert (await environment.invoke(limits)).body["max_files"] == 10
    before = (await internal.issue(signing, "alice", seconds=300)).token
    assert await status(before) == 200
    environment.freeze()
    await rotation.rotate(database, Encryption(), now=True)
    await configuration.change(database, GatewaySpec(), {"uploads": {"max_files": 2}})
    # WHEN it sleeps for longer than what it knows may be relied on
    await asyncio.sleep(max(service.STALE_SECONDS, CHECK_SECONDS))
    environment.thaw()
    # THEN nothing of that is used
    assert (await environment.invoke(limits)).body["max_files"] == 2
    assert await status(before) == 401
    after = (await internal.issue(signing, "alice", seconds=300)).token
    assert await status(after) == 200
    await signing.stop()
