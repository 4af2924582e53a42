"""Tools, one a module, each registered under its module's name."""
