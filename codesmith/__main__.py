"""`python -m codesmith` is the `codesmith` program."""

from codesmith.cli.program import main

main()
