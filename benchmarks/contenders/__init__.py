"""The compared ways to call an API: one small module each, which holds a class ``Contender``."""
