"""Sockets: streams plain or TLS, listeners, deadlines, and the real network, clock and chance."""
