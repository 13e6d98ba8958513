"""Policy on who may connect and try: rates, authentication failures and bans. Values in and out."""
