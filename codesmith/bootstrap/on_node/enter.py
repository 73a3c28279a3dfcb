#!/usr/bin/python3 -IS
"""The one way in for people who have only a key: sshd runs this, and what they ask for runs inside their workspace."""

import sys

sys.exit("codesmith: nobody enters here yet")
