"""AWS Lambda's entry, in the real emulator."""
