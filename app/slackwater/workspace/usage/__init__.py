"""What the calls of models have cost: `slackwater.runtime.execution.recording` books it, call by call."""
