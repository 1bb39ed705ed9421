"""Zones, access points and install channels."""
