"""The mutants: what was once wrong, or could be without anybody noticing."""

from __future__ import annotations

from tests.mutants.trial import Mutant

RUNTIME = "tests/integration/runtime"


def _in(*files: str) -> tuple[str, ...]:
    return tuple(f"{RUNTIME}/test_{file}" for file in files)


MUTANTS = (
    # Leases, claims, fences
    Mutant(
        "renew_worker",
        "app/runtime/claims.py",
        "using (run_id, fence)\n  where r.worker = %(worker)s and r.status = 'running'\n), free",
        "using (run_id, fence)\n  where r.status = 'running'\n), free",
        _in("compared.py"),
    ),
    Mutant(
        "key_share",
        "app/runtime/statements.py",
        "where {_LEASE} for share)",
        "where {_LEASE} for key share)",
        _in("compared.py"),
    ),
    Mutant(
        "group_key_share",
        "app/runtime/stores.py",
        'lock="share"',
        'lock="key share"',
        _in("group_commit.py"),
    ),
    Mutant(
        "group_input_share",
        "app/runtime/stores.py",
        'lock="no key update"',
        'lock="share"',
        _in("group_commit.py"),
    ),
    Mutant(
        "group_waits",
        "app/runtime/stores.py",
        "for {lock} of r skip locked",
        "for {lock} of r",
        _in("group_commit.py"),
    ),
    Mutant(
        "group_worker",
        "app/runtime/stores.py",
        " and r.worker = w.worker",
        "",
        _in("group_commit.py"),
    ),
    Mutant(
        "group_epoch",
        "app/runtime/stores.py",
        "\n   and r.epoch = (select slackwater.epoch())",
        "",
        _in("group_commit.py"),
    ),
    Mutant(
        "claim_clock",
        "app/runtime/claims.py",
        "        ClaimedRun.of(row, worker=worker, lease_from=sent, lease_seconds=lease_seconds)\n        for row in rows\n"
        '        if row["run_id"] is not None',
        "        ClaimedRun.of(row, worker=worker, lease_from=time.monotonic(), lease_seconds=lease_seconds)\n"
        '        for row in rows\n        if row["run_id"] is not None',
        _in("compared.py"),
    ),
    Mutant(
        "renew_clock",
        "app/runtime/renewal.py",
        "answer.lease.deadline = sent + seconds",
        "answer.lease.deadline = time.monotonic() + seconds",
        _in("compared.py"),
    ),
    Mutant(
        "wishes_fence",
        "app/runtime/worker.py",
        'if attempt is not None and attempt.run.fence == row["fence"]:',
        "if attempt is not None:",
        _in("compared.py"),
    ),
    Mutant(
        "renew_lost",
        "app/runtime/worker.py",
        "                if attempt.outcome is None:\n                    attempt.stop(StopWish.LEASE_LOST)\n",
        "                if attempt.outcome is None:\n                    pass\n",
        _in("leases.py::test_a_row_that_was_locked_by_who_takes_it_over_is_lost_when_that_is_done"),
    ),
    Mutant(
        "suspect_time",
        "app/runtime/claims.py",
        "\n      and o.claimed_at > clock_timestamp() - make_interval(secs => %(lease)s))",
        ")",
        _in("compared.py"),
    ),
    Mutant(
        "reserve",
        "app/runtime/worker.py",
        "            with self.reserve(limit):\n                return await self._take_ready(limit)",
        "            return await self._take_ready(limit)",
        _in("compared.py"),
    ),
    Mutant(
        "begin_advance",
        "app/runtime/worker.py",
        "        if run.base_checkpoint_id is not None:\n            engine.advance_past(run.base_checkpoint_id)"
        "  # a fork reads an older checkpoint only\n",
        "",
        _in("compared.py"),
    ),
    # A failover that forgets what was stored
    Mutant(
        "epoch_write",
        "app/runtime/statements.py",
        "{OWNED_IN_ANY_EPOCH} and epoch = (select slackwater.epoch())",
        "{OWNED_IN_ANY_EPOCH}",
        _in("forgotten_writes.py"),
    ),
    Mutant(
        "epoch_end",
        "app/runtime/settlement.py",
        "    and (%(expired)s or %(forgotten)s or r.epoch = (select slackwater.epoch()))\n",
        "    and (%(expired)s or %(forgotten)s or true)\n",
        _in("forgotten_writes.py"),
    ),
    # The end of a run, and what is sent twice
    Mutant(
        "expired",
        "app/runtime/settlement.py",
        '    and r.status = \'running\' and (%(expired)s is false or r.lease_until < clock_timestamp())"""',
        '    and r.status = \'running\'"""',
        _in("compared.py"),
    ),
    Mutant(
        "end_resent",
        "app/runtime/settlement.py",
        "  else exists (select 1 from slackwater.runs e where {_SIGNED} and e.status = %(status)s) end as before",
        "  else false end as before",
        _in("repetitions.py"),
    ),
    Mutant(
        "handover_resent",
        "app/runtime/settlement.py",
        'from slackwater.runs e where {_SIGNED}"""\n\n_GUARD',
        'from slackwater.runs e where false"""\n\n_GUARD',
        _in("repetitions.py"),
    ),
    Mutant(
        "events_conflict",
        "app/runtime/statements.py",
        "as e(seq, event, data)\n on conflict do nothing",
        "as e(seq, event, data)",
        _in("repetitions.py", "saver.py"),
    ),
    Mutant(
        "guard_now",
        "app/runtime/settlement.py",
        " and r.status = 'pending' and r.{queue.DONE_NOW}\n    and (r.stalls",
        " and r.status = 'pending'\n    and (r.stalls",
        _in("repetitions.py"),
    ),
    Mutant(
        "thread_ended_now",
        "app/runtime/settlement.py",
        'where t.thread_id = %(thread_id)s and {_ENDED_NOW}"""',
        'where t.thread_id = %(thread_id)s"""',
        _in("repetitions.py"),
    ),
    Mutant(
        "forget_base",
        "app/runtime/settlement.py",
        "(cancel.ROLLBACK if rollback else (_FORGET_BASE,))",
        "(cancel.ROLLBACK if rollback else ())",
        _in("repetitions.py"),
    ),
    Mutant(
        "refresh_busy",
        "app/runtime/runtime.py",
        "where t.thread_id = %(thread_id)s and not {queue.THREAD_BUSY} and t.fence = %(fence)s\n",
        "where t.thread_id = %(thread_id)s\n",
        _in("compared.py"),
    ),
    Mutant(
        "admit_lost",
        "app/runtime/admission.py",
        'ours = row["status"] == "running" and row["worker"] == worker and left > 0',
        "ours = False",
        _in("admission.py"),
    ),
    Mutant(
        "delete_locks",
        "app/runtime/pruning.py",
        "_LOCK, *_delete(_EXPIRED)]",
        "*_delete(_EXPIRED)]",
        _in("compared.py"),
    ),
    # An attempt that unwinds
    Mutant(
        "tails",
        "app/runtime/outcome.py",
        "    if attempt.tails:\n        await asyncio.wait(attempt.tails, timeout=max(0.0, attempt.saver.lease.deadline - time.monotonic()))\n",
        "",
        _in("compared.py"),
    ),
    Mutant(
        "conclude_written",
        "app/runtime/outcome.py",
        "    await attempt.saver.written()\n    proved =",
        "    proved =",
        _in("compared.py"),
    ),
    Mutant(
        "judge_lost",
        "app/runtime/executor.py",
        " or attempt.saver.lease.lost or isinstance(problem, LeaseLost)",
        " or isinstance(problem, LeaseLost)",
        _in("compared.py"),
    ),
    Mutant(
        "before_more",
        "app/runtime/executor.py",
        "    if saver.lease.over or (not saver.lease.valid() and not await saver.lease.holds()):\n",
        "    if False:\n",
        _in("compared.py"),
    ),
    Mutant(
        "on_lost",
        "app/runtime/worker.py",
        "        saver.on_lost = lambda: attempt.stop(StopWish.LEASE_LOST)\n",
        "",
        _in("compared.py"),
    ),
    Mutant(
        "wish_first",
        "app/runtime/attempt.py",
        "if self.wish is not None or self.outcome is not None:",
        "if self.outcome is not None:",
        _in("compared.py"),
    ),
    Mutant(
        "settle_turns",
        "app/runtime/outcome.py",
        "            async with shop.settling:\n                settled = await _write(attempt, shop, facts)",
        "            settled = await _write(attempt, shop, facts)",
        _in("compared.py"),
    ),
    Mutant(
        "release_order",
        "app/runtime/runtime.py",
        "        self.database.gate.shut()\n        if not await",
        "        if not await",
        _in("compared.py"),
    ),
    # Wake-ups and reasons
    Mutant(
        "admission_wakes",
        "app/runtime/runtime.py",
        "        if admitted.next_ready:\n            self.worker.offer()\n",
        "",
        _in("window.py"),
    ),
    Mutant(
        "offer_elsewhere",
        "app/runtime/worker.py",
        "        if not self._taking or self.room < runs:\n",
        "        if not self._taking:\n",
        _in("wake.py"),
    ),
    Mutant(
        "only_due",
        "app/runtime/queue.py",
        'any(row["ready"] and row["due"] for row in promoted)',
        'any(row["ready"] for row in promoted)',
        _in("window.py"),
    ),
    Mutant(
        "pause_reason",
        "app/runtime/outcome.py",
        "reason=attempt.drain_reason or outcome.value,",
        "reason=outcome.value,",
        _in("window.py"),
    ),
    # What a node, a row, a caller or another user may do
    Mutant(
        "own_thread",
        "app/runtime/worker.py",
        "            confined=True,\n",
        "",
        _in("own_thread.py"),
    ),
    Mutant(
        "data_only",
        "app/runtime/serializer.py",
        "        if module is None or not _holds_data(getattr(module, attribute, None)):\n",
        "        if module is None:\n",
        _in("types.py"),
    ),
    Mutant(
        "project_types",
        "app/runtime/serializer.py",
        "            self._sources += [spec.msgpack, _Loaded(in_folders=folders), _Declared(graph)]\n",
        "            self._sources += [spec.msgpack]\n",
        _in("types.py"),
    ),
    Mutant(
        "declared_types",
        "app/runtime/serializer.py",
        "_Loaded(in_folders=folders), _Declared(graph)]",
        "_Loaded(in_folders=folders)]",
        _in("types.py"),
    ),
    Mutant(
        "header_words",
        "app/graphs/surface.py",
        "        if _SECRET_WORDS.search(name) and not (self.names_suffice and name in self.includes):\n",
        "        if False:\n",
        ("tests/unit/graphs/test_surface_spec.py",),
    ),
    Mutant(
        "log_lines",
        "app/printable.py",
        "return _CONTROL.sub(",
        "return re.compile('\\x00').sub(",
        ("tests/unit/test_telemetry.py",),
    ),
    Mutant(
        "listen_first",
        "app/listener.py",
        "        listener.listen(BACKLOG)\n",
        "",
        (
            "tests/integration/cli/test_serve.py::test_a_port_that_somebody_else_has_bound_is_taken_once_he_listens",
        ),
    ),
    Mutant(
        "own_by_descriptor",
        "app/postgres/binaries.py",
        "owners=(os.geteuid(), self.uid), flags=os.O_NOFOLLOW)",
        "flags=0)",
        ("tests/integration/postgres/test_embedded.py::test_root_gives_nobody_what_a_link_leads_to",),
    ),
    Mutant(
        "only_its_link",
        "app/postgres/embedded.py",
        '        if data.readlink() != self._closed / "data":\n',
        "        if False:\n",
        (
            "tests/integration/postgres/test_embedded.py::test_a_link_that_root_would_have_to_follow_is_refused",
        ),
    ),
    Mutant(
        "extension_name",
        "app/protocol/subscription.py",
        'if event.channel not in self.channels and (name is None or f"{_NAMED}{name}" not in self.channels):',
        "if event.channel not in self.channels:",
        ("tests/unit/protocol",),
    ),
    Mutant(
        "made_up_messages",
        "app/protocol/translation.py",
        'if kind == "ai" and not any(key in metadata for key in _OF_A_MODEL):',
        "if False:",
        ("tests/unit/protocol",),
    ),
    Mutant(
        "store_value",
        "app/runtime/store.py",
        "                _check_value(op)\n",
        "                pass\n",
        _in("store_values.py"),
    ),
)
