"""`python -m codesmith` is the `codesmith` program."""

from codesmith.program import main

main()
