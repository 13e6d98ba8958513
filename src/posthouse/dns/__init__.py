"""A caching resolver that keeps the DNSSEC status, behind the port `Resolver`."""
