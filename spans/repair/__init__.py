"""Values that cannot be stored as a client sent them: refused, or mended with a warning."""
