"""What was said in runs: `slackwater.runtime.execution.recording` writes it, and pages read it here."""
