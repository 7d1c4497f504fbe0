"""The ways to call an API that are compared: one small module each, which holds a class ``Contender``."""
