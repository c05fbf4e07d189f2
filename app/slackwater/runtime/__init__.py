"""What executes and stops runs: the only place that drives LangGraph.

| module | holds |
|---|---|
| `runtime.py` | the facade that services call; what lives and dies with the process |
| `admission.py` | a new run enters: multitask strategy, queue position, first claim, in one transaction |
| `claims.py` `queue.py` | claim, lease, fence, and the order of a thread's runs: compare-and-set statements |
| `lost_claims.py` | claims whose answers were lost |
| `engine.py` `execution.py` | everything with LangGraph in it, imported when a run first needs it |
| `executor.py` `options.py` `pace.py` `callbacks.py` `message_ids.py` | one attempt of one run, and what it asks of its graph |
| `outcome.py` `failing_node.py` | what the attempt has come to, and how that gets written |
| `start.py` | how an attempt begins: the rules of a later start |
| `saver.py` `owning_loop.py` | the checkpointer of one run, for code in any thread or event loop |
| `store.py` | what runs and clients see of the store |
| `hold.py` | a thread held by a writer that is no run |
| `writer.py` `statements.py` `lease.py` | what is stored: fenced, in groups together with the events |
| `epochs.py` | who may go on after a failover |
| `journal.py` `follow.py` `threadlog.py` | the event log and its readers |
| `settlement.py` | the state a run ends or is handed over in |
| `outbox.py` | who is told of the ends of runs |
| `cancel.py` | durable cancel and rollback |
| `worker.py` `attempt.py` `ending.py` `bodies.py` | the attempts of this process, and the loops that claim and watch them |
| `listening.py` `hints.py` | wake-ups from and to other processes |
| `renewal.py` `blocked_loop.py` | leases are renewed, whatever the event loop does |
| `sweeper.py` `takeover.py` `retention.py` `pruning.py` | what nobody else looks after |
| `drain.py` | the stop |
"""
