"""The status page: documents that need nothing but themselves, and say all there is without JavaScript."""
