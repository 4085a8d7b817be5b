"""The page on which people try the models of a server, see its figures, and copy calls to it."""
