"""Pure functions of arrays: no file, no device."""
