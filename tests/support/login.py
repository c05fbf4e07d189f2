"""A login that is rotated, in Postgres and in Secrets Manager."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict


@dataclass
class Login:
    """A role that has to say its password, and the secret that knows it."""

    admin: str
    arn: str
    secretsmanager: Any
    name: str = "rotating"

    def rotate(self, password: str, *, in_secret: bool = True) -> None:
        """What a rotation does: the database first, then the secret."""
        with psycopg.connect(self.admin, autocommit=True) as connection:
            connection.execute(f"alter role {self.name} password '{password}'")
        if in_secret:
            self.put(password)

    def put(self, password: str, **others: str) -> None:
        """The secret as RDS writes it."""
        parts = conninfo_to_dict(self.admin)
        text = {
            "username": self.name,
            "password": password,
            "engine": "postgres",
            "host": parts["host"],
            "port": int(str(parts["port"])),
            "dbname": parts["dbname"],
            **others,
        }
        self.secretsmanager.put_secret_value(SecretId=self.arn, SecretString=json.dumps(text))

    def disconnect(self) -> None:
        """End its sessions, as a fail-over does."""
        with psycopg.connect(self.admin, autocommit=True) as connection:
            connection.execute(
                "select pg_terminate_backend(pid, 5000) from pg_stat_activity where usename = %s",
                (self.name,),
            )
