"""People who log in: their accounts, passwords and sessions. No HTTP."""
