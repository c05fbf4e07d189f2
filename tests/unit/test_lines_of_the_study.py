"""Which test shows each line of the study of the gateway that this project was conceived from: none is forgotten, none is renamed away.

Lines A, C, F, H, I, K, N and Z are what its own tests show; numbers of 6.2 and the words of 6.3 are its defects, those of 4 what was mended
later. Clients are the tables of `deerflow-clients.md`.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
IDENTITY = "integration/identity"
PAGE, SETUP, TOKENS, CSRF = (
    f"{IDENTITY}/accounts_http/test_account_{name}.py" for name in ("page", "setup", "tokens", "csrf")
)
AGENTS, SKILLS = (f"integration/workspace/test_{name}.py" for name in ("agents", "skills"))
ROOMS_ON_LAMBDA = (
    "handler/test_rooms_on_lambda.py",
    "test_they_are_the_same_through_events_and_an_update_outlives_what_is_cut",
)
MEMORY = "integration/workspace/test_memory"
CONFIGURATION = "integration/workspace/test_configuration.py"
MCP = "integration/workspace/test_mcp"
KNOWN = "integration/web/test_known_defects.py"
BAD_INPUT = "integration/web/test_bad_input.py"

SHOWN: dict[str, tuple[str, str]] = {
    "A1": (f"{IDENTITY}/accounts/test_passwords.py", "test_a_hash_is_salted_and_says_with_what_it_was_made"),
    "A1, old hashes": (
        f"{IDENTITY}/accounts/test_passwords.py",
        "test_an_older_hash_is_replaced_by_the_next_login",
    ),
    "A2": (PAGE, "test_an_old_hash_is_replaced_when_its_user_logs_in"),
    "A3": (PAGE, "test_registering_logs_in_by_a_cookie_that_no_script_reads"),
    "A3, https": (PAGE, "test_over_tls_both_cookies_are_secure_and_last_as_long_as_the_session"),
    "A4": (TOKENS, "test_what_is_wrong_with_a_token_is_told_by_a_code"),
    "A5": (PAGE, "test_a_page_that_changes_the_password_gets_both_cookies_anew"),
    "A6": (TOKENS, "test_a_token_without_a_version_is_of_version_0"),
    "A7": (PAGE, "test_who_is_refused_is_told_so_by_a_code"),
    "A8": (PAGE, "test_weak_passwords_are_refused_in_a_way_that_the_page_can_show"),
    "A8, initialize": (SETUP, "test_not_by_a_weak_password"),
    "A9": (PAGE, "test_five_failures_lock_also_the_right_password_out"),
    "A9, success": (PAGE, "test_a_success_before_that_clears_the_count"),
    "A10": ("integration/web/test_behind_proxies.py", "test_a_trusted_proxy_says_who_calls"),
    "A11": (SETUP, "test_a_session_outlives_the_process_that_has_begun_it"),
    "A12": (SETUP, "test_the_first_administrator_is_set_up_once"),
    "A12, cached": (
        "unit/identity/test_setup_question.py",
        "test_those_who_come_while_it_is_asked_share_the_next_answer",
    ),
    "A13": (TOKENS, "test_nobody_gets_anywhere_without_one"),
    "A13, slash": (TOKENS, "test_what_is_public_is_so_with_a_trailing_slash_too"),
    "A13, internal": (
        f"{IDENTITY}/test_internal_tokens.py",
        "test_a_valid_token_passes_wherever_a_key_is_needed",
    ),
    "F1": (CSRF, "test_another_site_logs_nobody_in_or_out"),
    "F1, ours": (CSRF, "test_our_page_logs_in_and_out"),
    "F1, wildcard": (CSRF, "test_a_wildcard_is_no_allowance"),
    "F2": (CSRF, "test_what_changes_something_needs_the_token_of_the_session"),
    "F2, exempt": (CSRF, "test_what_begins_and_ends_a_session_needs_no_token"),
    "N1": (
        f"{IDENTITY}/test_internal_tokens.py",
        "test_the_command_gives_out_tokens_that_servers_accept",
    ),
    "N1, channels": ("integration/workspace/test_dialect_clients.py", "test_the_calls_of_a_channel"),
    "N2": (
        f"{IDENTITY}/accounts/test_first_administrator.py",
        "test_whoever_comes_first_is_the_administrator_and_nobody_after",
    ),
    "I1": (f"{IDENTITY}/matrix/test_matrix.py", "test_over_http"),
    "I4": (BAD_INPUT, "test_ids_that_are_none_are_refused_on_every_route"),
    "I7": (
        "integration/workspace/test_dialect_runs.py",
        "test_a_run_knows_who_it_works_for_and_as_which_agent",
    ),
    "I7, memory": (f"{MEMORY}_updates.py", "test_what_is_said_is_remembered_after_a_while_and_once"),
    "I7, agents": (AGENTS, "test_a_run_is_told_of_its_agent"),
    "H1": (KNOWN, "test_h1_a_stateless_run_reads_no_thread_that_its_body_names"),
    "H1, internal": (
        f"{IDENTITY}/test_internal_tokens.py",
        "test_a_token_calls_as_its_owner_and_as_nobody_else",
    ),
    "H2": (BAD_INPUT, "test_a_wrong_field_of_a_run_is_refused_however_it_is_started"),
    "H3": (
        "integration/runtime/queue/test_admission.py",
        "test_of_twenty_rejecting_requests_at_once_exactly_one_gets_in",
    ),
    "H3, lease": (
        "integration/runtime/queue/test_claims.py",
        "test_a_process_that_cannot_renew_stops_its_runs_before_anybody_else_may_take_them",
    ),
    "H4": ("unit/test_settings.py", "test_what_is_wrong_is_one_sentence_that_names_the_setting"),
    "H5": (
        "integration/runtime/process/test_sweeps.py",
        "test_who_reads_while_events_are_deleted_finds_all_of_them_or_hears_of_the_gap",
    ),
    "H6": (BAD_INPUT, "test_ids_that_are_none_are_refused_on_every_route"),
    "6.2, 1": (
        "integration/runtime/process/test_seed.py",
        "test_d6_a_run_that_finishes_while_it_is_drained_keeps_its_result",
    ),
    "6.2, 2": ("drills/test_sigterm.py", "test_runs_that_arrive_during_the_drain_are_taken_by_others"),
    "6.2, 3": (
        "drills/test_sigterm.py",
        "test_under_plain_uvicorn_runs_are_handed_over_while_a_stream_is_open",
    ),
    "Z1": (SKILLS, "test_a_skill_is_edited_rolled_back_deleted_and_restored"),
    "Z1, scanner": (SKILLS, "test_a_model_judges_what_is_kept"),
    "Z1, archives": (SKILLS, "test_what_cannot_be_installed"),
    "Z1, at once": (SKILLS, "test_whoever_edits_at_once_is_told_or_is_in_the_history"),
    "Z1, in S3": ROOMS_ON_LAMBDA,
    "C1": (CONFIGURATION, "test_a_change_is_in_force_in_all_processes_without_a_restart"),
    "C2": (CONFIGURATION, "test_a_process_that_starts_begins_with_what_is_stored"),
    "Z3": (AGENTS, "test_agents_are_made_changed_and_deleted"),
    "Z3, at once": (AGENTS, "test_what_two_say_at_once_is_merged"),
    "Z3, off": (AGENTS, "test_all_of_it_is_off_unless_the_project_says_so"),
    "Z4": ("integration/workspace/test_suggestions.py", "test_what_a_user_may_ask_next"),
    "4.1, queued updates on SIGTERM": (
        f"{MEMORY}_updates.py",
        "test_an_update_survives_the_processes_that_make_it",
    ),
    "4.1, queued updates at a deadline": ROOMS_ON_LAMBDA,
    "4.4, skills of everybody": (SKILLS, "test_which_skills_there_are_and_which_are_on"),
    "4.7, the name of an agent in one container only": (AGENTS, "test_a_run_is_told_of_its_agent"),
    "clients 5, memory": (f"{MEMORY}_routes.py", "test_facts_are_added_changed_and_deleted"),
    "clients 5, memory's configuration and status": (
        f"{MEMORY}_routes.py",
        "test_export_import_and_the_rest",
    ),
    "clients 5, skills": (SKILLS, "test_a_skill_is_edited_rolled_back_deleted_and_restored"),
    "clients 5, agents": (AGENTS, "test_agents_are_made_changed_and_deleted"),
    "Z2": (f"{MEMORY}_routes.py", "test_facts_are_added_changed_and_deleted"),
    "Z2, import": (f"{MEMORY}_routes.py", "test_export_import_and_the_rest"),
    "Z2, at once": (f"{MEMORY}_routes.py", "test_two_that_write_at_once_lose_nothing"),
    "Z2, queued updates": (f"{MEMORY}_updates.py", "test_an_update_survives_the_processes_that_make_it"),
    "K1": (f"{MCP}_config.py", "test_secrets_are_masked_kept_and_cleared"),
    "K2": (f"{MCP}_config.py", "test_secrets_are_masked_kept_and_cleared"),
    "K3": (f"{MCP}_config.py", "test_secrets_are_masked_kept_and_cleared"),
    "K4": (f"{MCP}_config.py", "test_secrets_are_masked_kept_and_cleared"),
    "6.3, MCP commands": (f"{MCP}_config.py", "test_who_may_read_and_change_it"),
    "6.2, 4": (
        "sdk/test_the_client_never_notices.py",
        "test_a_reader_who_asked_to_cancel_on_disconnect_may_come_back",
    ),
    "6.2, 5": (CSRF, "test_a_link_cancels_no_run"),
    "6.2, 6": (SETUP, "test_of_many_who_set_up_at_the_same_time_one_is_the_administrator"),
    "6.2, 7": (PAGE, "test_logging_out_ends_the_session_and_deletes_both_cookies"),
    "6.2, 8": (CSRF, "test_who_is_not_trusted_chooses_neither_scheme_nor_host"),
    "6.2, 10": (KNOWN, "test_history_goes_on_before_a_checkpoint"),
    "6.2, 11": (KNOWN, "test_what_was_deleted_is_gone_and_its_stream_ends"),
    "6.2, 12": (
        "integration/runtime/execution/test_what_stays.py",
        "test_the_collector_finds_nothing_that_a_run_had",
    ),
    "6.2, 9": (
        "integration/workspace/test_feedback_and_usage.py",
        "test_feedback_is_one_for_each_user_run_and_message",
    ),
    "6.2, 13": (AGENTS, "test_a_profile_is_its_owners"),
    "6.2, 14": (
        "integration/workspace/files/test_artifacts.py",
        "test_what_is_shown_and_what_is_only_saved",
    ),
    "6.2, 15": ("integration/workspace/test_message_pages.py", "test_what_is_not_ones_own_is_not_there"),
    "6.2, 17": ("integration/postgres/test_schema.py", "test_migrate_applies_everything_once"),
    "6.2, 19": (KNOWN, "test_who_waits_for_a_run_that_fails_hears_of_it"),
    "6.3, channel credentials": (
        "integration/workspace/test_channels.py",
        "test_who_does_not_sign_is_nobody",
    ),
    "6.3, cross-thread run": (KNOWN, "test_a_run_stays_on_its_own_thread_whatever_its_configurable_says"),
    "6.3, stateless": (KNOWN, "test_h1_a_stateless_run_reads_no_thread_that_its_body_names"),
    "6.3, phantom pending run": (KNOWN, "test_a_refused_run_leaves_nothing_that_blocks_its_thread"),
    "6.3, zombie stream": (KNOWN, "test_what_was_deleted_is_gone_and_its_stream_ends"),
    "6.3, recursion limit": (KNOWN, "test_a_recursion_limit_is_bounded"),
    "6.3, lost upload": (
        "integration/workspace/files/test_uploads.py",
        "test_what_is_too_much_is_refused_and_leaves_everything_as_it_was",
    ),
}

ELSEWHERE: dict[str, str] = {
    "I2": "Owners are parameters of every query, which the type checker sees to; the matrix asks all routes.",
    "I3": "There is no such call: whoever sees all owners does so by a command.",
    "I5": "No id becomes a folder: files, memories, skills and agents are rows of their owner, and blobs have names of their own.",
    "I6": "There is no data of before there were owners: the column is not null.",
    "6.2, 16": "No thread is without an owner: the column is not null.",
    "6.2, 18": "SLACKWATER_POOL_MAX_SIZE; a saver for each run, without a lock.",
    "6.2, 20": "As on the official server: docs/compatibility.md.",
    "6.3, lost state update": "tests/integration/threads/test_state_api.py, on the only engine there is.",
}
"""Lines that no test of their own shows, and why."""


@pytest.mark.parametrize("line", SHOWN)
def test_a_line_is_shown_by_a_test(line: str) -> None:
    file, name = SHOWN[line]
    assert re.search(rf"^(async )?def {name}\(", (TESTS / file).read_text(), re.MULTILINE)


def test_no_line_is_missing() -> None:
    found = {line.partition(",")[0] if line[0] != "6" else line for line in (*SHOWN, *ELSEWHERE)}
    wanted = {
        f"{letter}{n}"
        for letter, last in {"A": 13, "C": 2, "F": 2, "H": 6, "I": 7, "K": 4, "N": 2, "Z": 4}.items()
        for n in range(1, last + 1)
    }
    assert wanted | {f"6.2, {n}" for n in range(1, 21)} <= found
    assert len([line for line in found if line.startswith("6.3")]) == 9


ORIGINAL = (
    *("__init__.py", "app.py", "config.py", "deps.py", "services.py", "authz.py", "pagination.py", "path_utils.py", "utils.py"),
    *("auth_middleware.py", "csrf_middleware.py", "internal_auth.py", "langgraph_auth.py", "config/paths.py"),
    *("auth/config.py", "jwt.py", "auth/errors.py", "auth/password.py", "local_provider.py", "auth/models.py", "repositories/"),
    *("credential_file.py", "auth/reset_admin.py", "providers.py"),
    *("routers/auth.py", "routers/threads.py", "thread_runs.py", "runs.py", "feedback.py", "routers/uploads.py", "artifacts.py"),
    *("routers/models.py", "assistants_compat.py", "routers/mcp.py", "routers/skills.py", "routers/memory.py"),
    *("routers/agents.py", "routers/suggestions.py", "routers/channels.py"),
    *("runtime/runs/manager.py", "runtime/runs/worker.py", "runtime/stream_bridge/", "runtime/serialization.py"),
    *("runtime/journal.py", "runtime/events/", "runtime/checkpointer/", "runtime/store/", "persistence/"),
    "runtime/user_context.py",
)  # fmt: skip
"""The modules that the study goes through, 1.1 to 1.23 and 2."""


def test_no_module_of_the_original_is_without_a_place() -> None:
    text = (TESTS.parent / "docs" / "gateway.md").read_text()
    rows = re.findall(
        r"^\| (.*) \| (.*) \|$", text.partition("| there | here")[2].partition("\n## ")[0], re.MULTILINE
    )
    there = {name for left, _ in rows for name in re.findall(r"`([^`]+)`", left)}
    assert set(ORIGINAL) - there == set()
    here = TESTS.parent / "app" / "slackwater"
    for left, right in rows[1:]:
        paths = re.findall(r"`([\w/]+(?:/|\.py))`", right)
        assert paths or "own code" in right, left
        assert [path for path in paths if not (here / path).exists()] == [], left
