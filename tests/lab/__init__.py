"""Real test hosts."""
