"""OpenAI's API in front of Triton's language models."""
