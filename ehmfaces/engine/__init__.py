"""How tasks are spread over workers. Knows nothing of faces."""
