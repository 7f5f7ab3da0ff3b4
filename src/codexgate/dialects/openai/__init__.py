"""OpenAI's API as its many servers speak it: `ask`, `decode`, `embeddings`, `errors` and `models`."""
