"""What goes wrong with the lab itself."""


class LabError(Exception):
    """The lab cannot do what was asked; the message says why."""
