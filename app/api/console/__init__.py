"""The pages people look at: sign-in, jobs, and the queue's dashboard."""
