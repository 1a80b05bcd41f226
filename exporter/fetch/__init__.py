"""What is pending, fetched into the store while it is published: here, or spread over a cluster."""
