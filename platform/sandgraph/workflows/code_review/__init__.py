"""The Code Review workflow: sources that are registered as a user would register them."""
