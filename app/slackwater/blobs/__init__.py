"""Blobs: immutable bytes under keys that are used once, in a local folder or in S3. Postgres says which there are, and which files they are.

    key = new_key(owner, thread_id)
    await queries.stage(database, [key])                      # from here on the sweep knows of it
    size = await blobs.put(key, chunks)                       # whole and durable, or not there
    await files.save(database, owner, thread_id, [NewFile("outputs/a.txt", key, size, sha256)])

Whoever is stopped in between leaves a staged blob, which the sweep deletes after an hour. Readers see the old file or the new one.
"""
