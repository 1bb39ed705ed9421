"""What can be done with hosts."""
