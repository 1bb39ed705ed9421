"""How the outside talks to us: one folder per wire language, over one core."""
