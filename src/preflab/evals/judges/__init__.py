"""Judging answers with a language model behind an OpenAI-compatible server, and how far its verdicts can be trusted."""
