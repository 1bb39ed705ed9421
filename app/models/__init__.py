"""The tables, and behaviour that belongs to one row."""
