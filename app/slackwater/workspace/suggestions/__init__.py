"""What a user may ask next, as a model suggests it after each answer."""
