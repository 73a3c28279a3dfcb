"""Unix accounts: made, read back, searched for what they left, removed."""
