"""Declared stages on a scope."""
