"""What a database that is down, restarting or unreachable looks like to psycopg."""

from __future__ import annotations

import psycopg
from psycopg_pool import PoolClosed, PoolTimeout

DATABASE_TROUBLE = (psycopg.OperationalError, psycopg.InterfaceError, PoolTimeout, PoolClosed, TimeoutError)
