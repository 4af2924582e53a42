"""Fair use of the API: how often somebody may ask, and how many streams there may be."""
