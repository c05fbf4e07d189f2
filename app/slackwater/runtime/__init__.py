"""What executes and stops runs. Each room may import those below it, never back: `process → execution → fenced → events → queue`.

| room, module | holds |
|---|---|
| `runtime` | the facade that services call; what lives and dies with the process |
| **process** | |
| `worker` `ending` `lost_claims` | the attempts of this process, the loops that claim and watch them, claims whose answers were lost |
| `renewal` `blocked_loop` | leases are renewed, whatever the event loop does |
| `hold` | a thread held by a writer that is no run |
| `sweeper` `takeover` | what nobody else looks after: runs whose process is gone |
| `signals` `stop` `watchdog` | the stop: who asks for it, its one budget and its phases, what ends it when its time is over |
| **execution** | |
| `engine` `loaded` | everything with LangGraph in it, imported when a run first needs it |
| `attempt` `node_tasks` `host` `outbox` | one attempt of one run, the tasks of its nodes, what it needs of the process, who is told of its end |
| `start` `clock` | how an attempt begins: the rules of a later start |
| `executor` `options` `control` `pace` `callbacks` `node_threads` `owning_loop` | the graph is driven, superstep by superstep |
| `encoding` `message_ids` | what LangGraph streams, as events |
| `checkpointer` `new_thread` `puts` `confined` `serializer` `store` | what LangGraph stores through |
| `outcome` `failing_node` | what the attempt has come to |
| **fenced** | |
| `writer` `group` `statements` `stores` | what is stored while a run is worked on, in groups, together with the events |
| `settlement` `settlements` | the state that a run ends or is handed over in |
| `epochs` | who may go on after a failover |
| **events** | |
| `journal` `packs` `deltas` `partials` | the log of one attempt, in memory and in the table |
| `replay` | what has been said before, and to whom |
| `run_reader` `thread_reader` `result` | who reads it |
| **queue** | |
| `admission` `admissions` `order` | a new run enters: multitask strategy, place in the thread's order, first claim |
| `claims` `lease` `states` | claim, lease and fence: compare-and-set statements |
| `cancel` | durable cancel and rollback |
| `wakeups` `listening` | wake-ups to and from other processes |
| `erasure` | what a thread or a run owns, table by table |
| `pruning` `retention` `batch` | how threads, runs and events go, and when |
| `many` | one statement for many of a kind |
"""

from __future__ import annotations
