"""One file for each schema, which makes it of the one before."""
