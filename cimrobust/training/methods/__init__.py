"""One way of training a file."""
