"""What administrators change at run time: `slackwater config`, and what processes make of it."""
