"""DNS messages (RFC 1035, RFC 6891): questions to octets, octets to what they say. No I/O."""
