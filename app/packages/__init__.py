"""Archives of agents, proxies and plugins."""
