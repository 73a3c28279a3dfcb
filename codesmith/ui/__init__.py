"""The admin UI: pages for a browser, made from the contract, behind checks of their own."""
