"""How addresses are spelled."""

from ipaddress import ip_address


def stored_address(text: str) -> str:
    """The one spelling an address is kept in; what is no address stays as it is."""
    try:
        return ip_address(text.strip().removeprefix("[").removesuffix("]")).exploded
    except ValueError:
        return text
