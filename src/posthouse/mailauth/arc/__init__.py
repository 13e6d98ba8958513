"""ARC (RFC 8617): what forwarders found before us. Verified for information, never sealed."""
