"""The OCP task dialect: task instances, subtasks and what can be done to them."""
