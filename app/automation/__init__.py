"""Everything that knows Ansible exists."""
