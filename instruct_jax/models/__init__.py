"""The networks: one decoder, its heads, and the sizes it comes in."""
