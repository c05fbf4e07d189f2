"""What users say of runs and of messages."""
