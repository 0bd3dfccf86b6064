"""`python -m ctcml …` is `ctcml …`."""

from ctcml.cli import main

main()
