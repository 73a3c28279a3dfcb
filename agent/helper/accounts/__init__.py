"""Unix accounts: make, check, repair and remove them, with all that they leave behind."""
