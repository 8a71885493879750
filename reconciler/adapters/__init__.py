"""One part per outside thing: they obey, return values, raise our failures, and do not know each other."""
