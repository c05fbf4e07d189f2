"""A local AWS Lambda and API Gateway: the real Runtime Interface Emulator, without Docker."""
