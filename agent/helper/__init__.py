"""The root half: a fixed table of verbs over names. It trusts nothing the front end says."""
