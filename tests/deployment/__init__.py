"""What is deployed: templates, events, what `sam build` makes, images."""
