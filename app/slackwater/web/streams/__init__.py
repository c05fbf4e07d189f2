"""Answers that stay open: how long they may, how large they may grow, and how they end."""
