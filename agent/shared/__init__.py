"""What front end, helper and git jobs share. Nothing here knows any of them."""
