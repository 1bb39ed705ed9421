"""Hostler: agent, proxy and plugin jobs on fleets of hosts, with the truth about every host."""

__version__ = "0.1.0"
