"""Whoever says a name is believed. A thread is seen by its members; the rest is everybody's own."""

from __future__ import annotations

from langgraph_sdk import Auth

auth = Auth()


@auth.authenticate
async def authenticate(authorization):
    scheme, _, name = (authorization or "").partition(" ")
    if scheme != "Bearer" or not name:
        raise Auth.exceptions.HTTPException(401, "who are you?")
    return {"identity": name, "team": "a team"}


def members_only(ctx):
    return {"members": {"$contains": ctx.user.identity}}


@auth.on.threads.create
@auth.on.threads.create_run
async def create(ctx, value):
    metadata = value.setdefault("metadata", {})
    members = metadata.setdefault("members", [])
    if ctx.user.identity not in members:
        members.append(ctx.user.identity)
    return members_only(ctx)


@auth.on.threads.read
@auth.on.threads.update
@auth.on.threads.delete
@auth.on.threads.search
async def use(ctx, value):
    return members_only(ctx)
