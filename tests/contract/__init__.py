"""One suite for every provider, at every server that we can start: what `provider.Provider` promises."""
