"""API keys in the database: created, listed and revoked while processes serve."""
