"""Files of any kind into records of the four kinds."""
