"""AWS Lambda's entry: it translates events and keeps the environment; what runs and stops is in `slackwater`."""
