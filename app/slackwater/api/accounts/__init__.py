"""Users over HTTP: how they are set up, register, log in and out, change their password, and end sessions of theirs."""
