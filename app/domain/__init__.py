"""The words of the product: pure, no I/O, no framework."""
