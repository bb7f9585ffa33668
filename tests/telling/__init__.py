"""Being told: webhooks and the heartbeat, at a receiver that is really there."""
