"""What the daemon answers over HTTP, asked over real sockets; its page in a real browser."""
