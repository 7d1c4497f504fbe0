"""A laboratory for bad networks: namespaces, a NAT that forgets, and the incidents that follow."""
