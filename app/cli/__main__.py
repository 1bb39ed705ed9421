"""python -m app.cli is hostler."""

from app.cli import main

main(prog_name="hostler")
