"""What executes and stops runs. Each room may import those below it, never back: `process → execution → fenced → events → queue`.

| room, module | holds |
|---|---|
| `runtime` | the facade that services call; what lives and dies with the process |
| **process** | |
| `worker` `ending` `lost_claims` | the attempts of this process, the loops that claim and watch them, claims whose responses were lost |
| `renewal` `blocked_loop` | the renewal of leases, even while the event loop is blocked |
| `hold` | threads held by writers other than runs |
| `sweeper` `takeover` | periodic jobs, and runs whose process is gone |
| `signals` `stop` `watchdog` | the stop: signals, its budget and phases, the exit when its time is over |
| **execution** | |
| `engine` `loaded` | everything with LangGraph in it, imported when a run first needs it |
| `attempt` `node_tasks` `host` `outbox` `own_calls` `node_files` `held_results` `node_memory` `node_skills` `node_mcp` | one attempt of one run, the tasks of its nodes, what it needs of the process, webhooks, calls of the API by its nodes, their files, what waits for these, their owner's memory and skills, and the tools of MCP servers |
| `start` `clock` | how an attempt begins: the rules of a later start |
| `executor` `options` `control` `pace` `callbacks` `recording` `node_threads` `owning_loop` | drives the graph, superstep by superstep |
| `encoding` `message_ids` | turns LangGraph's stream into events |
| `checkpointer` `new_thread` `puts` `confined` `serializer` `store` | what LangGraph stores through |
| `outcome` `failing_node` `own_failure` | how the attempt ended, and what the graph says of that itself |
| **fenced** | |
| `writer` `group` `files` `statements` `stores` | checkpoints, writes, files and events, stored in groups while a run is worked on |
| `records` | messages and token counts, until they are stored with what has said them |
| `settlement` `settlements` | how a run ends or is handed over |
| `epochs` | whether an owner may continue after a failover |
| **events** | |
| `journal` `packs` `deltas` `partials` | the log of one attempt, in memory and in the table |
| `replay` | drops what LangGraph streams a second time |
| `run_reader` `thread_reader` `result` | the readers of the log |
| **queue** | |
| `admission` `admissions` `order` | admits a new run: multitask strategy, place in the thread's order, first claim |
| `claims` `lease` `states` | claim, lease and fence: compare-and-set statements |
| `limits` | how many runs each owner may have |
| `cancel` | durable cancel and rollback |
| `wakeups` `listening` | wake-ups to and from other processes |
| `erasure` | what a thread or a run owns, table by table |
| `pruning` `retention` `batch` | deletes expired threads, runs and events |
| `many` | one statement for many of a kind |
"""

from __future__ import annotations
