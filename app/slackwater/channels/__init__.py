"""Channels: others speak to an owner's threads by a signed webhook or by Slack, and are answered there.

| module | holds |
|---|---|
| `configured.py` | the channels of this process, with their secrets |
| `message.py` | what comes in by one, whatever its kind |
| `slack.py` | Slack: who has signed, what was said, and how an answer is posted |
| `posts.py` | tells a chat of its answers, for the outbox of webhooks |
| `queries.py` | the rows: which thread a conversation has, and what has come in |
| `service.py` | takes what comes in, once |
"""
