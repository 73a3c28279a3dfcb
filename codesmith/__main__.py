"""The `codesmith` program, also `python -m codesmith`: runs the tasks of codesmith/tasks from any folder."""

from __future__ import annotations

from codesmith.cli import early_interrupt


def main() -> None:
    """Run the command line in sys.argv."""
    early_interrupt.arm()
    from codesmith.cli import output
    from codesmith.cli.program import CodeSmith
    from codesmith.tasks import root

    output.ensure_streams()
    CodeSmith(root()).run()


if __name__ == "__main__":
    main()
