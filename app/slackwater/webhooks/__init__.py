"""Webhooks: whoever asked for it is told, once it is written, that a run has ended.

| module | holds |
|---|---|
| `policy.py` | what `langgraph.json` says: which addresses, which headers, which fields |
| `address.py` | which network addresses are nobody's business, and the one to connect to |
| `message.py` `signature.py` | the body and the headers, signed |
| `chat.py` | receivers that are no URLs |
| `queries.py` | the rows: due, claimed, delivered, put off, given up |
| `delivery.py` | sends what is due |

The row is written by a trigger of the database, in the transaction that ends the run (`004_webhooks.sql`).
"""
