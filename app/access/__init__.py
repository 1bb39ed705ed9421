"""Who may do what, and every secret."""
