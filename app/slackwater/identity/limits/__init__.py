"""What each owner may have and do, in all processes together."""
