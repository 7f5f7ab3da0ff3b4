"""What other programs must be told to use the gate: values and texts, no files and no sockets."""
