"""What a domain publishes in the DNS: what it should be, and what the world sees of it."""
