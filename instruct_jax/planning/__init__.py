"""What a run will take on devices that are not here, before it is started."""
