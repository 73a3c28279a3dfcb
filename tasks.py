"""What `inv` runs: the tasks of codesmith/tasks."""

from codesmith.tasks import root

ns = root()
