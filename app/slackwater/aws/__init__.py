"""What AWS gives to a process, wherever it runs: secrets, tokens, wake-ups.

boto3 takes 0.3 s to import and blocks: only functions import it, and only threads of its own run it.
"""
