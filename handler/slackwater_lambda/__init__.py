"""The AWS Lambda entry point: translates events and manages the environment. Runs and stops are in `slackwater`."""
